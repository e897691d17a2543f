"""What an error advises is accepted when it is typed: advice and refusal never contradict each other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from harness import Affinity, HarnessError, Partition, UnitSpace
from harness.registry.config import registry
from harness.testing.examples import word_vocabulary

SHORT = (8, 16, 22, 31, 32, 41, 42, 64)


def built(stage: str, *words: str) -> Any:
    """The method that words choose, as in a cell."""
    values = {word.key_or_group: word.value() for word in OverridesParser.create().parse_overrides(list(words))}
    name = values.pop(stage)
    return registry().get(stage, name).build({key.removeprefix(f"{stage}."): value for key, value in values.items()})


def advised(error: HarnessError) -> list[str]:
    """The words ``key=value`` that an error tells the user to type."""
    found = re.findall(r"'[\w.]+=[^']*'|\b[a-z]+\.?\w*=[\w.]+\b", error.fix)
    return [word for text in found for word in shlex.split(text)]


def refusal(context: int, *words: str) -> HarnessError | None:
    """The error of a batch that a subject with this context reads; None if it is read."""
    vocabulary = word_vocabulary(context=context)
    try:
        built("batch", *words)(vocabulary).check(vocabulary)
    except HarnessError as error:
        return error
    return None


@pytest.mark.parametrize("context", SHORT)
@pytest.mark.parametrize("name", ["random_repeat", "synthetic_induction"])
def test_a_length_that_is_advised_works_whatever_the_context(name: str, context: int) -> None:
    """Every length that was advised is typed; nobody is sent in a circle."""
    words = [f"batch={name}", "batch.n=4"]
    for length in ("", "batch.length=32", "batch.length=42", "batch.length=64", "batch.length=256"):
        error = refusal(context, *words, *filter(None, [length]))
        for word in advised(error) if error else ():
            if word.startswith("batch.length="):
                assert refusal(context, *words, word) is None
            else:
                assert word == "batch=random_repeat"
        if error and not advised(error):
            assert "longer context" in error.fix or "must be at least" in error.what


@pytest.mark.parametrize("context", SHORT)
def test_a_gap_that_is_advised_is_accepted(tmp_path: Path, context: int) -> None:
    """A window is longer than the gap; a text without examples is refused for another reason."""
    (tmp_path / "a.txt").write_text("a few words")
    words = ("batch=natural_text", f"batch.text='{tmp_path / 'a.txt'}'")
    error = refusal(context, *words)
    assert error is not None
    smaller = [word for word in advised(error) if word.startswith("batch.gap=")]
    assert bool(smaller) == (context <= 21)
    for word in smaller:
        typed = refusal(context, *words, word)
        assert typed is not None
        assert "gives 0 examples" in typed.what


def refused(method: Any, *arguments: Any) -> list[str]:
    """The advice of a method that refuses its input."""
    with pytest.raises(HarnessError) as caught:
        method(*arguments)
    return advised(caught.value)


def random_affinity(n: int, lowest: float = 0.0) -> Affinity:
    """Random affinities of n units, from ``lowest`` to 1."""
    draws = np.random.default_rng(0).uniform(lowest, 1.0, (n, n))
    matrix = (draws + draws.T) / 2
    np.fill_diagonal(matrix, 0.0)
    return Affinity(matrix, UnitSpace.heads([n]))


@pytest.mark.parametrize("name", ["spectral", "agglomerative", "random"])
@pytest.mark.parametrize("k", ["[4,64]", "[64]", "[2,9,10]"])
def test_numbers_of_groups_that_are_advised_are_made(name: str, k: str) -> None:
    given = random_affinity(8).units if name == "random" else random_affinity(8)
    words = refused(built("partitioner", f"partitioner={name}", f"partitioner.k={k}"), given)
    assert len(words) == 1
    assert len(built("partitioner", f"partitioner={name}", *words)(given)) >= 1


def test_a_single_unit_is_not_advised_a_number_of_groups() -> None:
    assert refused(built("partitioner", "partitioner=spectral"), random_affinity(1)) == []


def test_a_resolution_that_is_advised_joins_units() -> None:
    affinity = random_affinity(8)
    chosen = ["partitioner=leiden", "partitioner.quality=cpm"]
    (word,) = refused(built("partitioner", *chosen, "partitioner.resolution=[5]"), affinity)
    (partition,) = built("partitioner", *chosen, word)(affinity)
    assert partition.k < 8


def test_a_transform_that_is_advised_exists_where_affinities_are_signed() -> None:
    words = refused(built("partitioner", "partitioner=spectral", "partitioner.k=[2]"), random_affinity(8, -1.0))
    assert words
    for name in ("cosine", "ising", "partial_correlation", "pearson", "precomputed"):
        for word in words:
            built("affinity", f"affinity={name}", word)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_a_number_of_groups_that_a_chooser_advises_is_possible(k: int) -> None:
    """``partitioner.k=[1]`` is refused, so it is not advised; nor are more groups than units."""
    partitions = [Partition(2, np.array([0, 0, 0, 1, 1, 1, 1, 0])), Partition(4, np.array([0, 0, 1, 1, 2, 2, 3, 3]))]
    words = refused(built("chooser", "chooser=fixed", f"chooser.k={k}"), partitions)
    assert f"partitioner.k=[{k}]" in words if k == 3 else not any(word.startswith("partitioner") for word in words)
    (existing,) = [word for word in words if word.startswith("chooser")]
    assert 1.0 in built("chooser", "chooser=fixed", existing)(partitions)
    for word in words:
        stage = word.partition(".")[0]
        built(stage, f"{stage}={'fixed' if stage == 'chooser' else 'spectral'}", word)
