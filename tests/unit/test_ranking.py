"""Rankings of units: precision at k, recall, class maps, and elbows, against published numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.board.rankings import Rankings, as_text
from harness.data.grouping import UNCLASSIFIED, Labels
from harness.data.ranking import Ranking, class_map, degenerate, elbow
from harness.data.recording import Scores
from harness.data.units import UnitSpace

NAMES = {
    "prev": "previous-token",
    "uncl": UNCLASSIFIED,
    "first": "first-token",
    "dup": "duplicate-token",
    "IND": "induction",
}
PYTHIA_1B = """
prev prev prev uncl prev self uncl prev prev prev uncl self prev prev first uncl first first prev uncl uncl first first
prev first first IND prev uncl first first IND first prev dup first uncl self uncl first first first first first first
"""
"""Classes of the 45 heads of Pythia-1B with the largest PR integral, in this order (closure paper, its saved lists)."""
PYTHIA_1B_COUNTS = {
    "previous-token": 13, UNCLASSIFIED: 9, "self": 3, "first-token": 17, "induction": 2, "duplicate-token": 1,
}  # fmt: skip
"""How many of them have each class, as published beside the list."""
HEADS = 128


def ranked(words: list[str], units: int) -> Ranking:
    """A ranking whose first units have these classes, and all others none; the units are in another order."""
    space = UnitSpace.heads([units])
    place = np.random.default_rng(units).permutation(units)
    classes = [UNCLASSIFIED] * units
    scores = np.empty(units)
    for rank, unit in enumerate(place):
        scores[unit] = -rank
        classes[unit] = NAMES.get(words[rank], words[rank]) if rank < len(words) else UNCLASSIFIED
    return Ranking.of(Scores(scores, space), Labels(tuple(classes), space))


def test_the_published_list_of_pythia_has_the_published_counts_and_fraction() -> None:
    ranking = ranked(PYTHIA_1B.split(), HEADS)
    assert ranking.classes(45) == PYTHIA_1B_COUNTS
    assert ranking.precision(45) == (45 - 9) / 45
    assert ranking.precision_not_first(45) == (45 - 9 - 17) / 45
    assert ranking.classified_fraction(45) == 36 / HEADS
    assert ranking.recall(45) == 1.0


def test_precision_of_the_124m_model_is_the_published_one() -> None:
    """Of its first 30 heads by PR spread two are unclassified: one between rank 16 and 20, one between 26 and 30."""
    words = ["self"] * 14 + ["prev"] * 9 + ["IND"] * 5
    words.insert(17, "uncl")
    words.insert(27, "uncl")
    ranking = ranked(words, 144)
    published = {5: 1.0, 10: 1.0, 15: 1.0, 20: 0.95, 25: 0.96, 30: 0.933}
    assert {k: round(ranking.precision(k), 3) for k in published} == published
    assert round(100 * ranking.classified_fraction(30), 1) == 19.4


def test_precision_of_the_410m_model_is_the_published_one() -> None:
    """65 of its first 80 heads by PR integral have a class, and 27 of its first 30, 3 of them first-token."""
    words = ["prev"] * 14 + ["self"] * 9 + ["first"] * 3 + ["IND"] + ["uncl"] * 3
    words += ["prev"] * 11 + ["first"] * 17 + ["self"] * 9 + ["dup"] + ["uncl"] * 12
    ranking = ranked(words, 384)
    assert ranking.precision(30) == 0.9
    assert round(100 * ranking.precision(80)) == 81
    assert ranking.precision_not_first(80) == (65 - 20) / 80
    assert round(100 * ranking.classified_fraction(80), 1) == 16.9


def test_a_model_without_classes_has_no_recall() -> None:
    ranking = ranked(["uncl"] * 4, 4)
    assert ranking.recall(2) is None
    assert ranking.precision(2) == 0


@given(st.lists(st.sampled_from(["a", "b", UNCLASSIFIED, None]), min_size=2, max_size=30), st.data())
def test_precision_and_recall_count_the_same_units(classes: list[str | None], data: st.DataObject) -> None:
    units = UnitSpace.heads([len(classes)])
    scores = data.draw(hnp.arrays(np.int64, len(classes), elements=st.integers(-3, 3)))
    k = data.draw(st.integers(1, len(classes)))
    labels = Labels(tuple(classes), units)
    ranking = Ranking.of(Scores(scores.astype(float), units), labels)
    first = sorted(range(len(classes)), key=lambda i: (-scores[i], i))[:k]
    hits = sum(classes[i] in ("a", "b") for i in first)
    assert ranking.order[:k].tolist() == first
    assert ranking.names[:k] == [f"L0H{i}" for i in first]
    assert ranking.precision(k) == hits / k
    every = sum(c in ("a", "b") for c in classes)
    assert ranking.recall(k) == (hits / every if every else None)


def test_the_class_map_counts_units_by_class_and_depth() -> None:
    units = UnitSpace.heads([2, 3])
    labels = Labels(("self", "self", "induction", None, UNCLASSIFIED), units)
    found = class_map(labels)
    assert found == {"self": Counter({0: 2}), UNCLASSIFIED: Counter({1: 2}), "induction": Counter({1: 1})}
    assert next(iter(found)) in ("self", UNCLASSIFIED)


def test_rankings_are_written_with_their_elbow_and_fixed_numbers_beside_it() -> None:
    ranking = ranked(PYTHIA_1B.split(), HEADS)
    text = as_text(Rankings("pythia-1b", ranking.labels, {"pr_trajectory": ranking}))
    assert "- pr_trajectory: " + " ".join(ranking.names[:10]) in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "| pr_traj" in line]
    assert [row[1] for row in rows] == ["5", "10", "15", "30", "50"]
    assert rows[3][2:5] == [f"{x / 30:.2f}" for x in (23, 23 - 8)] + [f"{23 / 36:.2f}"]
    assert "- elbow of pr_trajectory: no elbow" in text


# ----------------------------------------------------------------------------------------------------------------------
# Elbows
# ----------------------------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.int64, st.integers(3, 40), elements=st.integers(-50, 50)))
def test_the_elbow_is_the_point_furthest_below_the_chord(values: np.ndarray) -> None:
    """By the perpendicular distance to the line through the ends, as the cross product of two vectors."""
    curve = sorted(values.tolist(), reverse=True)
    n, found = len(curve), elbow(values.astype(float))
    along = (n - 1, curve[-1] - curve[0])
    below = [along[1] * i - along[0] * (curve[i] - curve[0]) for i in range(n)]  # in whole numbers, without rounding
    assert found == (below.index(max(below)) if max(below) > 0 else 0)


@pytest.mark.parametrize(
    ("size", "units", "says"),
    [
        (0, 20, "no elbow"),
        (1, 20, "one unit"),
        (2, 20, ""),
        (10, 20, ""),
        (11, 20, "11 of 20"),
        (144, 144, "144 of 144"),
    ],
)
def test_elbows_that_select_nothing_useful_are_named(size: int, units: int, says: str) -> None:
    """The published calibration has elbows of 144 of 144, 383 of 384 and 256 of 256 heads."""
    assert degenerate(size, units).startswith(says)
    assert bool(degenerate(size, units)) == bool(says)
