"""Counterfactual counterfactuals: they differ from their examples exactly where they should, and the tiny model believes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch import Batch, Counterfactual, Vocabulary
from harness.registry.config import registry
from harness.registry.registry import Registry
from harness.testing.examples import WordVocabulary
from harness.util.errors import HarnessError

SMALL = WordVocabulary(vocab_size=320, context=64)


@cache
def offered() -> Registry:
    return registry()


def write(name: str, vocabulary: Vocabulary = SMALL, **parameters: Any) -> Batch:
    batch: Batch = offered().get("batch", name).build(parameters)(vocabulary)
    return batch


def twin_of(batch: Batch) -> Counterfactual:
    assert batch.twin is not None
    return batch.twin


# -- synthetic induction -----------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(3, 60), n=st.integers(1, 20))
def test_a_synthetic_twin_has_another_b_and_nothing_else(seed: int, width: int, n: int) -> None:
    batch = write("synthetic_induction", n=n, length=48, seed=seed, vocab=[7, 7 + width])
    twin, row = twin_of(batch), np.arange(n)
    b = batch.anchors["induction"][:, 0]
    assert (np.argwhere(twin.tokens != batch.tokens) == np.stack([row, b], axis=1)).all()
    assert (twin.tokens[row, b] == twin.target).all()
    assert (twin.target != batch.target).all()
    assert (twin.target != batch.tokens[:, -1]).all()
    assert twin.target.min() >= 7
    assert twin.target.max() < 7 + width


def test_every_token_but_a_and_b_is_as_likely_to_be_the_other_b() -> None:
    """Five ids, three of them free: each rank among the free ones is drawn a third of the time (3 s.d. are 0.027)."""
    batch = write("synthetic_induction", n=3000, length=42, vocab=[10, 15])
    taken = np.stack([batch.tokens[:, -1], batch.target], axis=1)
    rank = twin_of(batch).target - 10 - (taken < twin_of(batch).target[:, None]).sum(axis=1)
    np.testing.assert_allclose(np.bincount(rank, minlength=3) / 3000, 1 / 3, atol=0.027)


def test_twins_are_drawn_by_the_seed_and_follow_their_examples() -> None:
    one, same, other = (write("synthetic_induction", n=12, seed=seed) for seed in (1, 1, 2))
    assert (twin_of(one).tokens == twin_of(same).tokens).all()
    assert (twin_of(one).target != twin_of(other).target).any()
    some = one.take(np.array([5, 2]))
    assert (twin_of(some).tokens == twin_of(one).tokens[[5, 2]]).all()
    assert (some.counterfactual_batch.target == twin_of(one).target[[5, 2]]).all()


# -- natural text ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """A vocabulary for texts that are their own token ids."""

    vocab_size: int = 1000
    context: int = 128
    encode: Callable[[str], list[int]] | None = lambda text: [int(word) for word in text.split()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Document d has tokens from [20 d, 20 d + 10): each tells where it comes from."""
    rng, path = np.random.default_rng(0), tmp_path / "numbers.txt"
    path.write_text("\f".join(" ".join(map(str, 20 * document + rng.integers(0, 10, 21))) for document in range(1, 40)))
    return path


def natural(file: Path, **parameters: Any) -> Batch:
    told = {"text": str(file), "length": 20, "gap": 7, "min_id": 3, **parameters}
    return write("natural_text", Numbers(), **told)


@pytest.mark.parametrize("target", ["next_token", "repeat"])
def test_a_natural_twin_is_the_context_of_another_example_and_our_query(file: Path, target: str) -> None:
    batch = natural(file, n=20, target=target)
    twin, other = twin_of(batch), twin_of(batch).tokens[:, 0] // 20
    own = batch.tokens[:, 0] // 20
    assert len(set(batch.query)) > 1
    assert sorted(other) == sorted(own)  # everyone lends once
    assert (other != own).all()  # nobody to itself
    for example, query in enumerate(batch.query):
        lender = int(np.flatnonzero(own == other[example])[0])
        assert (twin.tokens[example, :query] == batch.tokens[lender, :query]).all()
        assert twin.tokens[example, query] == batch.tokens[example, query]
        assert twin.target[example] == batch.target[lender]


def test_natural_twins_are_drawn_by_the_seed_even_where_windows_are_not(file: Path) -> None:
    lenders = [twin_of(natural(file, n=20, seed=seed)).tokens[:, 0].tolist() for seed in (None, None, 5)]
    assert lenders[0] == lenders[1] != lenders[2]


def test_a_single_natural_example_has_no_twin(file: Path) -> None:
    alone = natural(file, n=1)
    assert alone.twin is None
    with pytest.raises(HarnessError, match="no counterfactual twin"):
        _ = alone.counterfactual


# -- what counterfactuals are for ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prefers:
    """By how much the target's logit is above that of the twin's answer."""

    name: ClassVar[str] = "prefers"
    damage: ClassVar[int] = -1

    def __call__(self, prediction: Any) -> torch.Tensor:
        one, other = (prediction.logits.gather(1, t[:, None]) for t in (prediction.target, prediction.counterfactual))
        difference: torch.Tensor = (one - other)[:, 0]
        return difference


def test_the_tiny_model_answers_the_twin_and_patching_everything_makes_it_do_so() -> None:
    """It was trained to copy: B after A in the example, B' in the twin; heads alone carry either to the query."""
    tiny = offered().get("subject", "tiny").build({})()
    batch = write("synthetic_induction", tiny, n=48)
    everything = tuple(range(len(tiny.units)))
    patching = offered().get("intervention", "patching").build({})
    clean, patched = tiny.evaluate(batch, [(), everything], patching, [Prefers()])[0]
    of_twins = -tiny.evaluate(batch.counterfactual_batch, [()], patching, [Prefers()])[0, 0]
    assert (clean > 0).mean() > 0.8
    assert (of_twins < 0).mean() > 0.8
    np.testing.assert_allclose(patched, of_twins, atol=1e-3)


@pytest.mark.parametrize(
    ("twin", "says"),
    [
        (Counterfactual(np.zeros((2, 3), dtype=int), np.zeros(2, dtype=int)), "its twin has shape"),
        (Counterfactual(np.full((2, 4), -1), np.zeros(2, dtype=int)), "tokens of a twin"),
        (Counterfactual(np.zeros((2, 4), dtype=int), np.array([0, -5])), "target of a twin"),
    ],
)
def test_a_twin_that_fits_no_example_is_refused(twin: Counterfactual, says: str) -> None:
    two = np.zeros(2, dtype=int)
    with pytest.raises(HarnessError, match=says):
        Batch("odd", np.zeros((2, 4), dtype=int), two + 3, two, {}, "successor", twin=twin)
