"""Selectivity: both rules at their limits (cells: ``test_strata_record``)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.closure.selectivity import Damage, Selectivity


def selectivity(on: float, off: float, width: float = 0.0, null: float | None = 0.5) -> Selectivity:
    def around(mean: float) -> Damage:
        return Damage(mean, (mean - width, mean + width))

    return Selectivity(around(on), {"other": around(off), "third": around(-1.0)}, null)


@pytest.mark.parametrize(
    ("given", "points", "intervals"),
    [
        (selectivity(3.0, 1.0), True, True),  # exactly a third
        (selectivity(3.0, 1.01), False, False),
        (selectivity(3.0, 0.9, width=0.2), True, False),  # 1.1 > 2.8 / 3
        (selectivity(3.0, 0.5, width=0.2), True, True),
        (selectivity(0.5, 0.0), False, False),  # not above the null
        (selectivity(0.6, 0.0, width=0.2), True, False),
        (selectivity(-1.0, -3.0, null=-2.0), False, False),  # no damage at all
        (selectivity(3.0, 0.0, null=None), False, False),
    ],
)
def test_both_rules_at_their_limits(given: Selectivity, points: bool, intervals: bool) -> None:
    assert (given.by_points, given.by_intervals) == (points, intervals)


def test_the_ratio_is_the_worst_other_stratum_over_its_own() -> None:
    given = Selectivity(Damage(2.0, None), {"a": Damage(0.5, None), "b": Damage(1.0, None)}, 0.0)
    assert given.worst == "b"
    assert given.ratio == 0.5
    assert not given.by_intervals
    assert replace(given, on=Damage(0.0, None)).ratio is None
