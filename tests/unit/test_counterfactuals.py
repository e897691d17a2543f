"""Counterfactuals differ from their examples exactly where they should, and the tiny model answers them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch import Batch, Counterfactual, Vocabulary
from harness.data.contracts import Metric
from harness.data.tokens import Tokens
from harness.registry.config import registry
from harness.registry.registry import Registry
from harness.testing.examples import word_vocabulary
from harness.util.errors import HarnessError

SMALL = word_vocabulary(vocab_size=320, context=64)


@cache
def offered() -> Registry:
    return registry()


def write(name: str, vocabulary: Vocabulary = SMALL, **parameters: Any) -> Batch:
    batch: Batch = offered().get("batch", name).build(parameters)(vocabulary)
    return batch


def counterfactual_of(batch: Batch) -> Counterfactual:
    assert batch.counterfactual is not None
    return batch.counterfactual


# -- synthetic induction -----------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), width=st.integers(3, 60), n=st.integers(1, 20))
def test_a_synthetic_counterfactual_differs_only_in_b(seed: int, width: int, n: int) -> None:
    batch = write("synthetic_induction", n=n, length=48, seed=seed, vocab=[7, 7 + width])
    counterfactual, row = counterfactual_of(batch), np.arange(n)
    b = batch.anchors["induction"][:, 0]
    assert (np.argwhere(counterfactual.content != batch.tokens) == np.stack([row, b], axis=1)).all()
    assert (counterfactual.content[row, b] == counterfactual.target).all()
    assert (counterfactual.target != batch.target).all()
    assert (counterfactual.target != batch.tokens[:, -1]).all()
    assert counterfactual.target.min() >= 7
    assert counterfactual.target.max() < 7 + width


def test_every_token_except_a_and_b_is_equally_likely_as_the_other_b() -> None:
    """Five ids, three of them free: each rank among the free ones is drawn a third of the time (3 s.d. are 0.027)."""
    batch = write("synthetic_induction", n=3000, length=42, vocab=[10, 15])
    taken = np.stack([batch.tokens[:, -1], batch.target], axis=1)
    rank = counterfactual_of(batch).target - 10 - (taken < counterfactual_of(batch).target[:, None]).sum(axis=1)
    np.testing.assert_allclose(np.bincount(rank, minlength=3) / 3000, 1 / 3, atol=0.027)


def test_counterfactuals_are_drawn_by_the_seed_and_follow_their_examples() -> None:
    one, same, other = (write("synthetic_induction", n=12, seed=seed) for seed in (1, 1, 2))
    assert (counterfactual_of(one).content == counterfactual_of(same).content).all()
    assert (counterfactual_of(one).target != counterfactual_of(other).target).any()
    some = one.take(np.array([5, 2]))
    assert (counterfactual_of(some).content == counterfactual_of(one).content[[5, 2]]).all()
    assert (some.counterfactual_batch.target == counterfactual_of(one).target[[5, 2]]).all()


# -- natural text ------------------------------------------------------------------------------------------------------


NUMBERS = Vocabulary(1000, 128, lambda text: [int(word) for word in text.split()])
"""For texts that are their own token ids."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Document d has tokens from [20 d, 20 d + 10), so that each token identifies its document."""
    rng, path = np.random.default_rng(0), tmp_path / "numbers.txt"
    path.write_text("\f".join(" ".join(map(str, 20 * document + rng.integers(0, 10, 21))) for document in range(1, 40)))
    return path


def natural(file: Path, **parameters: Any) -> Batch:
    settings = {"text": str(file), "length": 20, "gap": 7, "min_id": 3, **parameters}
    return write("natural_text", NUMBERS, **settings)


@pytest.mark.parametrize("target", ["next_token", "repeat"])
def test_a_natural_counterfactual_is_the_context_of_another_example_and_our_query(file: Path, target: str) -> None:
    batch = natural(file, n=20, target=target)
    counterfactual, other = counterfactual_of(batch), counterfactual_of(batch).content[:, 0] // 20
    document = batch.tokens[:, 0] // 20
    assert len(set(batch.query)) > 1
    assert sorted(other) == sorted(document)  # each is the context once
    assert (other != document).all()
    for example, query in enumerate(batch.query):
        source = int(np.flatnonzero(document == other[example])[0])
        assert (counterfactual.content[example, :query] == batch.tokens[source, :query]).all()
        assert counterfactual.content[example, query] == batch.tokens[example, query]
        assert counterfactual.target[example] == batch.target[source]


def test_natural_counterfactuals_depend_on_the_seed_even_if_the_windows_do_not(file: Path) -> None:
    sources = [counterfactual_of(natural(file, n=20, seed=seed)).content[:, 0].tolist() for seed in (None, None, 5)]
    assert sources[0] == sources[1] != sources[2]


def test_a_single_natural_example_has_no_counterfactual(file: Path) -> None:
    alone = natural(file, n=1)
    assert alone.counterfactual is None
    with pytest.raises(HarnessError, match="has no counterfactuals"):
        _ = alone.counterfactual_batch


# -- how counterfactuals are used --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prefers(Metric):
    """The logit of the target minus that of the counterfactual's target."""

    name: ClassVar[str] = "prefers"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Any) -> torch.Tensor:
        one, other = (prediction.logits.gather(1, t[:, None]) for t in (prediction.target, prediction.counterfactual))
        difference: torch.Tensor = (one - other)[:, 0]
        return difference


def test_patching_every_head_gives_the_counterfactual_answer_in_the_tiny_model() -> None:
    """The model copies B in the example and B' in the counterfactual; only heads move them to the query."""
    tiny = offered().get("subject", "tiny").build({})()
    batch = write("synthetic_induction", tiny.reads, n=48)
    everything = tuple(range(len(tiny.units)))
    patching = offered().get("intervention", "patching").build({})
    baseline, patched = tiny.evaluate(batch, [(), everything], patching, [Prefers()])[0]
    of_counterfactuals = -tiny.evaluate(batch.counterfactual_batch, [()], patching, [Prefers()])[0, 0]
    assert (baseline > 0).mean() > 0.8
    assert (of_counterfactuals < 0).mean() > 0.8
    np.testing.assert_allclose(patched, of_counterfactuals, atol=1e-3)


@pytest.mark.parametrize(
    ("counterfactual", "message"),
    [
        (Counterfactual(np.zeros((2, 3), dtype=int), np.zeros(2, dtype=int)), "its counterfactual has shape"),
        (Counterfactual(np.full((2, 4), -1), np.zeros(2, dtype=int)), "token of a counterfactual"),
        (Counterfactual(np.zeros((2, 4), dtype=int), np.array([0, -5])), "target of a counterfactual"),
    ],
)
def test_a_counterfactual_that_fits_no_example_is_refused(counterfactual: Counterfactual, message: str) -> None:
    two = np.zeros(2, dtype=int)
    with pytest.raises(HarnessError, match=message):
        Tokens("odd", np.zeros((2, 4), dtype=int), two + 3, two, {}, "successor", counterfactual=counterfactual)
