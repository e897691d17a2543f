"""Faithfulness curves: areas against scikit-learn, values against a loop over examples, intervals against coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import auc

from harness.closure.faithfulness import RANKINGS, SHARES, curve_of, faithfulness, sizes_of
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError

N, EXAMPLES = 200, 40
UNITS = UnitSpace.heads([20] * 10)
ORDER = tuple(np.random.default_rng(3).permutation(N).tolist())
WEIGHTS = np.random.default_rng(0).gamma(0.3, size=(N, EXAMPLES))  # a few units carry most of the metric
BASE = np.random.default_rng(1).normal(size=EXAMPLES)


def additive(groups: Sequence[Group]) -> np.ndarray:
    """A metric to which every unit adds its weight on each example, unless it is ablated."""
    return np.stack([BASE + WEIGHTS.sum(axis=0) - WEIGHTS[list(group)].sum(axis=0) for group in groups])


def by_hand(order: Sequence[int]) -> tuple[list[float], float, float]:
    """f at every size, CPR and CMD by loops, with scikit-learn's trapezoids."""
    f = []
    for share in SHARES:
        kept = order[: int(np.floor(share * N + 1e-9))]
        left = [BASE[e] + sum(WEIGHTS[unit, e] for unit in kept) for e in range(EXAMPLES)]
        none, whole = BASE.tolist(), [BASE[e] + WEIGHTS[:, e].sum() for e in range(EXAMPLES)]
        f.append((np.mean(left) - np.mean(none)) / (np.mean(whole) - np.mean(none)))
    return f, float(auc(SHARES, f)), float(auc(SHARES, np.abs(1 - np.array(f))))


@pytest.mark.parametrize("order", [ORDER, tuple(np.argsort(-WEIGHTS.mean(axis=1)).tolist())])
def test_curve_and_areas_are_those_of_a_loop(order: Group) -> None:
    found = faithfulness(order, UNITS, "m", additive, 0)
    f, cpr, cmd = by_hand(order)
    np.testing.assert_allclose(found.curve.faithfulness, f, atol=1e-12)
    assert (found.curve.cpr, found.curve.cmd) == (pytest.approx(cpr), pytest.approx(cmd))
    assert found.curve.sizes == (0, 0, 1, 2, 4, 10, 20, 40, 100, 200)
    np.testing.assert_allclose(found.rest, 1 - np.array(f), atol=1e-12)  # of an additive metric
    assert (found.curve.faithfulness[0], found.curve.faithfulness[-1]) == (0, pytest.approx(1))
    for curve in found.random:
        assert curve.cpr_interval[0] <= curve.cpr <= curve.cpr_interval[1]


def test_the_best_ranking_is_above_all_random_ones_and_the_worst_below() -> None:
    best = np.argsort(-WEIGHTS.mean(axis=1))
    good, bad = (faithfulness(tuple(order.tolist()), UNITS, "m", additive, 0) for order in (best, best[::-1]))
    assert len(good.random) == RANKINGS
    assert [curve.cpr for curve in good.random] == [curve.cpr for curve in bad.random]  # the same for all methods
    assert good.p == 1 / (1 + RANKINGS)
    assert bad.p == 1


def test_a_perfect_circuit_of_one_unit_in_a_thousand_has_the_best_areas() -> None:
    """f = 1 at every size: CPR is the length of the shares, CMD is 0."""
    ones = np.ones((len(SHARES), EXAMPLES))
    curve = curve_of(ones + BASE, BASE, BASE + 1, sizes_of(1000), 0)
    assert (curve.cpr, curve.cmd) == (pytest.approx(0.999), pytest.approx(0, abs=1e-12))
    assert curve.sizes == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def test_the_interval_of_cpr_covers_the_true_one_and_documents_widen_it() -> None:
    """CPR is a ratio of means: over fresh examples, 95 % intervals cover the ratio of the true means in .85 or more."""
    rng, covered = np.random.default_rng(0), 0
    truth = float(auc(SHARES, SHARES))  # f(share) = share in the mean
    documents = np.arange(60) // 4
    widths = []
    for seed in range(60):
        whole = rng.normal(2, 1, 60)
        kept = np.stack([share * whole + rng.normal(0, 0.3, 60) for share in SHARES])
        curve = curve_of(kept, np.zeros(60), whole, sizes_of(1000), seed)
        covered += curve.cpr_interval[0] <= truth <= curve.cpr_interval[1]
        alike = np.repeat(kept[:, ::4], 4, axis=1), np.repeat(whole[::4], 4)
        plain, clustered = (
            curve_of(alike[0], np.zeros(60), alike[1], sizes_of(1000), seed, c) for c in (None, documents)
        )
        widths.append(np.diff(clustered.cpr_interval)[0] / np.diff(plain.cpr_interval)[0])
    assert 0.85 <= covered / 60 <= 1
    assert np.mean(widths) == pytest.approx(2, rel=0.15)  # four equal examples in a document: half as much is known


def test_a_task_that_no_unit_matters_for_is_refused() -> None:
    def flat(groups: Sequence[Group]) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(groups), EXAMPLES))

    with pytest.raises(HarnessError, match="difference is not off zero") as refused:
        faithfulness(ORDER, UNITS, "logit_difference", flat, 0)
    assert "batch.n" in refused.value.fix


def test_units_that_cannot_be_ablated_together_have_no_curve() -> None:
    limited = UnitSpace(UNITS.units, {UNITS.sites[0]: 3})
    with pytest.raises(HarnessError, match="not all units of this subject can be ablated together"):
        faithfulness(ORDER, limited, "m", additive, 0)
