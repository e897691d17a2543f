"""Trajectories of participation ratios: their summaries, against published trajectories and another implementation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from harness_plugins.signals.pr_trajectory import integral, maximum, place_of, rate, spread
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.integrate import trapezoid

from harness.data.history import History
from harness.data.recording import Recording
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.testing import examples
from harness.util.errors import HarnessError

# ----------------------------------------------------------------------------------------------------------------------
# Published trajectories
# ----------------------------------------------------------------------------------------------------------------------

PYTHIA_STEPS = (1, 4, 16, 64, 256, 512, 3000, 10000, 38000, 143000)
PYTHIA_PR = np.array([13.4, 13.4, 12.5, 13.2, 19.2, 24.5, 27.2, 18.4, 15.1, 16.0])
"""Mean PR of the heads of Pythia-1B by revision. 2,097,152 tokens per step."""
PYTHIA_TOKENS = (0.002, 0.008, 0.033, 0.134, 0.536, 1.073, 6.291, 20.971, 79.691, 299.892)
"""In 1e9, as published."""
OLMO_TOKENS = (2, 4, 10, 23, 52, 117, 264, 597, 1350, 3048)
OLMO_PR = np.array([14.9, 8.5, 8.2, 11.2, 11.8, 11.3, 14.2, 14.9, 12.4, 11.4])
KEY_HEADS = {"L0H3": (1.78, 21.69), "L0H6": (2.51, 24.72), "L0H14": (1.63, 24.40), "L0H15": (2.74, 24.11)}
OTHER_HEAD = (2.65, 14.61)
"""PR of the picks of the 51M model's seed 42, and of the next head, at the start and the end of their rise."""


def test_spreads_of_the_published_picks_are_the_published_ones() -> None:
    """19.9 to 22.8; the next head has less."""
    ratios = np.array([*KEY_HEADS.values(), OTHER_HEAD]).T
    found = spread(np.array([200.0, 1000.0]), ratios)
    assert (round(found[:4].min(), 1), round(found[:4].max(), 1)) == (19.9, 22.8)
    assert found.argmin() == 4


def test_log_steps_with_a_floor_give_the_integral_over_the_published_log_tokens() -> None:
    """Over ln(max(tokens in 1e9, 1)): five revisions of Pythia-1B are below 1e9 tokens and share one place."""
    x = np.log(np.maximum(PYTHIA_TOKENS, 1.0))
    expected = trapezoid(PYTHIA_PR - 1, x)
    per_step = 2_097_152 / 1e9
    found = integral(place_of(PYTHIA_STEPS, "log_step", 1 / per_step), PYTHIA_PR[:, None])[0]
    assert found == pytest.approx(expected, rel=1e-3)  # published tokens have three decimals
    assert place_of(PYTHIA_STEPS, "log_step", 1 / per_step)[:5].tolist() == [math.log(1 / per_step)] * 5
    later = integral(place_of(PYTHIA_STEPS[4:], "log_step", 1 / per_step), PYTHIA_PR[4:, None])[0]
    assert later == pytest.approx(found)


def test_a_number_of_tokens_per_step_changes_no_integral() -> None:
    for per_step in (1, 1000):
        steps = [tokens * per_step for tokens in OLMO_TOKENS]
        found = integral(place_of(steps, "log_step", 1.0), OLMO_PR[:, None])[0]
        assert found == pytest.approx(trapezoid(OLMO_PR - 1, np.log(OLMO_TOKENS)))


# ----------------------------------------------------------------------------------------------------------------------
# Definitions
# ----------------------------------------------------------------------------------------------------------------------

TRAJECTORIES = hnp.arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(1, 4)), elements=st.floats(0, 50))


@given(TRAJECTORIES, st.data())
def test_summaries_agree_with_another_implementation(ratios: np.ndarray, data: st.DataObject) -> None:
    steps = data.draw(
        st.lists(st.integers(0, 10**6), min_size=len(ratios), max_size=len(ratios), unique=True).map(sorted)
    )
    x = place_of(steps, "step", 1.0)
    assert integral(x, ratios) == pytest.approx(trapezoid(np.clip(ratios - 1, 0, None), x, axis=0), rel=1e-9, abs=1e-6)
    for unit, trajectory in enumerate(ratios.T.tolist()):
        assert spread(x, ratios)[unit] == max(trajectory) - min(trajectory)
        assert maximum(x, ratios)[unit] == max(trajectory)
        slopes = [
            (b - a) / (after - before)
            for a, b, before, after in zip(trajectory, trajectory[1:], steps, steps[1:], strict=False)
        ]
        assert rate(x, ratios)[unit] == pytest.approx(max(slopes))


def test_a_straight_trajectory_has_the_area_of_its_triangle_and_its_slope() -> None:
    """PR from 1 to 11 in 100 steps: 100 x 10 / 2, and 0.1 per step, with any checkpoints in between."""
    for steps in ((0, 100), (0, 10, 50, 100)):
        x = place_of(steps, "step", 1.0)
        ratios = 1 + x[:, None] / 10
        assert integral(x, ratios)[0] == pytest.approx(500)
        assert rate(x, ratios)[0] == pytest.approx(0.1)


def test_steps_below_the_floor_have_no_rate() -> None:
    x = place_of((0, 1, 10, 100), "log_step", 10.0)
    assert rate(x, np.array([[1.0], [30.0], [2.0], [4.0]]))[0] == pytest.approx(2 / math.log(10))


# ----------------------------------------------------------------------------------------------------------------------
# The signal
# ----------------------------------------------------------------------------------------------------------------------

UNITS = UnitSpace.heads([3])


def history(ranks: list[tuple[int, int, int]], scales: tuple[float, float, float] = (1, 1, 1)) -> History:
    """Outputs of three heads that span so many orthogonal directions at each checkpoint, equally strongly."""
    batch = examples.batch(24)

    def outputs(rank: int, scale: float) -> np.ndarray:
        made = np.zeros((24, 8))
        made[np.arange(24), np.arange(24) % rank] = scale
        return made

    recordings = tuple(
        Recording(batch, UNITS, {"signal": np.stack([outputs(r, s) for r, s in zip(row, scales, strict=True)], axis=1)})
        for row in ranks
    )
    return History((0, 100, 300)[: len(ranks)], recordings)


def signal(**parameters: Any) -> Any:
    return registry().get("signal", "pr_trajectory").build(parameters)


def test_the_activity_is_the_rank_of_a_heads_outputs_at_every_checkpoint() -> None:
    ranks = [(4, 1, 1), (2, 1, 4), (1, 1, 8)]
    activity = signal()(history(ranks))
    assert activity.values == pytest.approx(np.array(ranks, dtype=float), abs=1e-9)
    assert activity.position.tolist() == [examples.batch(24).query.mean()] * 3
    assert activity.scores.values == pytest.approx(
        [100 * (3 + 1) / 2 + 200 * 1 / 2, 0, 100 * 3 / 2 + 200 * (3 + 7) / 2]
    )
    assert signal(summary="spread")(history(ranks)).scores.values == pytest.approx([3, 0, 7])
    assert signal(summary="maximum")(history(ranks)).scores.values == pytest.approx([4, 1, 8])
    assert signal(summary="rate")(history(ranks)).scores.values == pytest.approx([-0.5 / 100, 0, 3 / 100], abs=1e-9)


def test_scale_counts_only_where_the_ratio_is_weighted() -> None:
    """A head that writes next to nothing keeps its PR; weighted, it has PR 1, and the strongest head keeps its own."""
    ranks, scales = [(4, 4, 4), (4, 4, 4)], (2.0, 1.0, 1e-9)
    plain, weighted = (signal(summary="maximum", weighted=on)(history(ranks, scales)) for on in (False, True))
    assert plain.scores.values == pytest.approx([4, 4, 4])
    assert weighted.scores.values == pytest.approx([4, 1 + 3 / 2, 1])


def test_heads_that_write_nothing_have_no_weight() -> None:
    assert signal(weighted=True)(history([(2, 2, 2), (2, 2, 2)], (0.0, 0.0, 0.0))).scores.values.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("steps", "parameters"), [(1, {}), (3, {"axis": "log_step", "floor": 300.0})])
def test_a_single_place_in_training_is_refused(steps: int, parameters: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match="no two different places on its axis") as caught:
        signal(**parameters)(history([(1, 2, 3)] * steps))
    assert "more checkpoints" in caught.value.fix
