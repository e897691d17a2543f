"""The size curve: a method's first units between random groups and those of greedy selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.cells.size_curve import ranked_units
from harness.closure.size_curve import SEARCHED, SIZES, SizeCurve, greedy, random_groups, size_curve
from harness.data.grouping import Affinity, Candidate, Partition
from harness.data.units import UnitSpace
from harness.pipeline import run_cell
from harness.proposal.proposal import Proposal
from harness.registry.config import registry, resolve
from harness.util.cache import Memo

UNITS = UnitSpace.heads([8, 8])


def additive(worth: Sequence[float]) -> Any:
    """Damage that is the sum over units."""
    return lambda groups: np.array([sum(worth[unit] for unit in group) for group in groups], dtype=float)


def curve_of(order: Sequence[int], worth: Sequence[float], units: UnitSpace = UNITS) -> SizeCurve:
    curve = size_curve(tuple(order), units, additive(worth), additive(worth))
    assert curve is not None
    return curve


@given(st.lists(st.floats(-5, 5).filter(lambda x: abs(x) > 1e-3), min_size=16, max_size=16, unique=True))
def test_the_best_order_scores_one_and_its_reverse_no_more_than_random(worth: list[float]) -> None:
    """With additive damage greedy selection is optimal, and no k first units do less than the last k."""
    best = np.argsort(worth)[::-1].tolist()
    assert curve_of(best, worth).score == pytest.approx(1)
    assert curve_of(best, worth).units == curve_of(best, worth).greedy_units
    assert (curve_of(best[::-1], worth).score or 0) < 0


def test_a_random_order_scores_zero_on_average() -> None:
    worth = np.random.default_rng(0).lognormal(size=16)
    scores = [curve_of(np.random.default_rng(seed).permutation(16).tolist(), worth).score for seed in range(300)]
    assert np.mean([score for score in scores if score is not None]) == pytest.approx(0, abs=0.06)


def test_the_score_follows_its_formula() -> None:
    """(3 - 1) / (5 - 1) and (4 - 2) / (4 - 2). A size does not count where greedy does no more than random."""
    curve = SizeCurve((1, 2, 4), ("a",) * 4, ("b",) * 4, 9, (3.0, 4.0, 9.0), (5.0, 4.0, 6.0), (1.0, 2.0, 6.0))
    assert curve.score == pytest.approx(0.75)
    assert replace(curve, greedy=curve.pool).score is None


def test_sizes_are_below_the_number_of_units_and_what_a_site_allows() -> None:
    assert curve_of(range(16), [1.0] * 16).sizes == (1, 2, 4, 8)
    few = UnitSpace(UNITS.units, {UNITS.sites[0]: 3})
    assert curve_of(range(16), [1.0] * 16, few).sizes == (1, 2)
    alone = UnitSpace.heads([1])
    assert size_curve((0,), alone, additive([1.0]), additive([1.0])) is None


def test_greedy_selection_finds_a_chain_that_no_unit_shows_alone() -> None:
    """Units 1, 2 and 3 do 10 together, 1 and 2 do 3 of it, and unit 1 alone does 1."""

    def damage(groups: Sequence[tuple[int, ...]]) -> np.ndarray:
        return np.array([{1: 1.0, 2: 3.0, 3: 10.0}.get(max(n for n in range(4) if {*range(1, n + 1)} <= {*group}), 0.0)
                         for group in groups])  # fmt: skip

    assert set(greedy(12, (1, 2, 4), damage)) >= {1, 2}
    best = max(damage([group])[0] for group in combinations(range(12), 4))
    assert damage([greedy(12, (1, 2, 4), damage)])[0] <= best


def test_greedy_selection_searches_only_the_units_that_do_most_alone() -> None:
    n = SEARCHED + 40
    evaluated: set[int] = set()

    def damage(groups: Sequence[tuple[int, ...]]) -> np.ndarray:
        evaluated.update(unit for group in groups if len(group) > 1 for unit in group)
        return additive(range(n))(groups)

    assert greedy(n, SIZES, damage) == tuple(range(n - 1, n - 17, -1))
    assert evaluated == set(range(n - SEARCHED, n))


def test_the_pool_is_the_same_for_all_methods_and_uniform_over_units() -> None:
    assert random_groups(32, 4) == random_groups(32, 4)
    drawn = [unit for group in random_groups(8, 4) for unit in group]
    assert all(len(set(group)) == 4 for group in random_groups(8, 4))
    shares = np.bincount(drawn, minlength=8) / 99
    assert np.abs(shares - 0.5).max() < 4 * np.sqrt(0.25 / 99)


def proposal(partitioner: object, labels: list[int], candidates: list[tuple[int, ...]]) -> Proposal:
    """Six units; 0, 1 and 2 are alike, 2 most of all, and so are 4 and 5."""
    units = UnitSpace.heads([6])
    matrix = np.zeros((6, 6))
    for a, b, value in ((0, 1, 1), (0, 2, 5), (1, 2, 3), (4, 5, 2), (3, 4, 1), (0, 3, 1)):
        matrix[a, b] = matrix[b, a] = value
    found = Proposal({"partitioner": partitioner}, units)
    found.steps |= {
        "affinity": Affinity(matrix, units),
        "partitions": (Partition(2, np.array(labels)),),
        "chosen": 0,
        "candidates": tuple(Candidate(members) for members in candidates),
    }
    return found


class OfAffinity:
    def __call__(self, affinity: Affinity) -> None: ...


class OfUnits:
    def __call__(self, units: UnitSpace) -> None: ...


def test_units_are_ordered_by_candidate_then_group_then_affinity_to_it() -> None:
    """Candidate 4, 5 first (a tie within); then 0, 1, 2 with sums 6, 4, 8; unit 3 is in no group."""
    found = proposal(OfAffinity(), [0, 0, 0, -1, 1, 1], [(4, 5)])
    assert ranked_units(found) == (4, 5, 2, 0, 1, 3)


def test_a_baseline_has_no_order_within_its_groups() -> None:
    orders = ranked_units(proposal(OfUnits(), [0, 0, 0, -1, 1, 1], []))
    assert sorted(orders) == list(range(6))
    assert orders == ranked_units(proposal(OfUnits(), [0, 0, 0, -1, 1, 1], []))


def test_a_cell_measures_its_size_curve_where_it_is_asked_to_and_pays_nothing_for_it() -> None:
    words = [
        "subject=planted",
        "batch=planted",
        "batch.n=64",
        "labels=truth",
        "affinity=pearson",
        "chooser=modularity",
        "reruns=0",
    ]
    cells = [Cell.of(resolve([*words, *more], registry()), registry()) for more in ([], ["size_curve=true"])]
    plain, curved = (run_cell(cell, Memo(), Progress(quiet=True)).record for cell in cells)
    assert plain.size_curve is None
    assert curved.size_curve is not None
    assert curved.size_curve.sizes == SIZES
    costs = [{name: spent for name, spent in record.cost.items() if name != "memory"} for record in (plain, curved)]
    assert costs[0] == costs[1]
    assert cells[0].id != cells[1].id
    assert (curved.size_curve.score or 0) <= 1.5
