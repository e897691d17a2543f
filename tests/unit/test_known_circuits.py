"""Figures about known circuits: against counts of pairs and a walk down the ranking, and on a board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from harness.board.columns import COLUMNS, nonempty
from harness.board.table import build
from harness.board.write import as_data, cells_as_csv
from harness.cells.known_circuits import false_closure, partitions_found, scores_found, units_found
from harness.closure.verdict import Verdict
from harness.records.record import KNOWN

Make = Callable[..., Any]


@pytest.mark.parametrize("seed", range(5))
def test_auroc_counts_pairs_and_average_precision_walks_down_the_ranking(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, scores = rng.random(30) < 0.3, rng.integers(0, 12, 30).astype(float)  # with ties
    pairs = [(a > b) + (a == b) / 2 for a, b in product(scores[truth], scores[~truth])]
    found = scores_found(scores, truth)
    assert found["auroc"] == pytest.approx(np.mean(pairs))
    steps, total = 0.0, 0
    for level in sorted(set(scores.tolist()), reverse=True):
        above = scores >= level
        steps += (truth & above).sum() / above.sum() * ((truth & above).sum() - total)
        total = int((truth & above).sum())
    assert found["average_precision"] == pytest.approx(steps / truth.sum())


def test_precision_recall_and_f_count_units() -> None:
    assert units_found({"a", "b", "c"}, {"b", "c", "d", "e"}) == pytest.approx(
        {"precision": 2 / 3, "recall": 1 / 2, "f": 4 / 7}
    )
    assert units_found(set(), {"b"}) == {"recall": 0.0, "f": 0.0}  # nothing proposed: no precision


def test_the_best_group_of_all_partitions_is_held_against_random_circuits() -> None:
    """Of {0, 1, 2}: the group {0, 1} has 2/3 and {0, 1, 2, 3} has 3/4. Of {4}: {4, 5} has 1/2. Mean 5/8.

    Of one random unit among six, with partitions into pairs: always 1/2. Of all units, with one group of all: 1.
    """
    partitions = [np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 0, -1, -1])]
    circuits = np.array([[True, True, True, False, False, False], [False, False, False, False, True, False]])
    assert partitions_found(partitions, circuits)["jaccard"] == pytest.approx(5 / 8)
    assert partitions_found(partitions[:1], circuits[1:]) == {"jaccard": 0.5, "jaccard_null": 0.5}
    assert partitions_found([np.zeros(6, int)], np.ones((1, 6), bool)) == {"jaccard": 1.0, "jaccard_null": 1.0}
    assert partitions_found([np.full(6, -1)], circuits) == {"jaccard": 0.0, "jaccard_null": 0.0}
    drawn = partitions_found(partitions[:1], circuits[:1])["jaccard_null"]
    # Three of six units: 12 of 20 draws hold a whole pair (2 / 3), the others one unit of each pair (1 / 4).
    assert drawn == pytest.approx(0.6 * 2 / 3 + 0.4 * 1 / 4, abs=0.06)


def test_false_closure_counts_closed_groups_outside_the_truth(make_record: Make) -> None:
    reports = [
        replace(make_record(verdict=verdict).closure[0], units=units)
        for verdict, units in (
            (Verdict.PASS, ("a", "x")),  # shares a unit with the truth
            (Verdict.PASS, ("x", "y")),
            (Verdict.WEAK_PASS, ("y",)),
            (Verdict.NULL, ("z",)),
            (Verdict.NOT_SPECIFIC, ("z", "x")),
        )
    ]
    assert false_closure(reports, {"a", "b"}) == {"false_closure": 0.5}
    assert false_closure(reports[:1], {"a", "b"}) == {}


def test_a_board_shows_the_figures_of_records_that_have_them(make_record: Make) -> None:
    plain = make_record(method="plain", subject="s0")
    (board,) = build([plain])
    assert not {"score AUROC", "false closure"} & {column.head for column in nonempty([board])}
    assert all("known" not in result for result in as_data([board])[0]["rows"][0]["results"].values())

    known = [
        replace(make_record(method="m", subject=f"s{i}"), diagnostics={KNOWN: figures})
        for i, figures in enumerate(({"auroc": 0.9, "false_closure": 0.0}, {"auroc": 0.7}))
    ]
    (board,) = build(known)
    row = next(row for row in board.rows if row.method == "m")
    shown = {column.head: column.text(row) for column in COLUMNS}
    assert (shown["score AUROC"], shown["score AP"], shown["false closure"]) == ("0.80", "", "0.00")
    assert "known_auroc" in cells_as_csv([board])
