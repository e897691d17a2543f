"""Sequential stopping: who passes, how often nobody should, and how many controls that takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from harness.cell import Cell
from harness.closure.rounds import hopeless, rounds
from harness.closure.statistics import max_t, p_value
from harness.closure.verdict import enough
from harness.config import registry, resolve
from harness.errors import HarnessError


def stopped(delta: float, controls: list[float], give_up: int | None, alpha: float = 0.05) -> tuple[float, int]:
    """p of one candidate, and over how many controls."""
    for m in rounds(len(controls), alpha, give_up):
        if give_up is not None and hopeless(delta, controls[:m], 1.0, 1, give_up):
            break
    p = p_value(delta, controls[:m], damage=1)
    assert p is not None
    return p, m


def test_rounds_double_until_all_are_evaluated() -> None:
    assert rounds(99, 0.05, 10) == [20, 40, 80, 99]
    assert rounds(999, 0.05, 10) == [20, 40, 80, 160, 320, 640, 999]
    assert rounds(20, 0.05, 10) == [20]
    assert rounds(0, 0.05, 10) == [0]
    assert rounds(99, 0.05, None) == [99]


@given(st.integers(1, 500), st.floats(0.002, 0.5), st.one_of(st.none(), st.integers(1, 30)))
def test_the_first_round_can_reach_the_level_if_all_controls_can(n: int, alpha: float, give_up: int | None) -> None:
    ends = rounds(n, alpha, give_up)
    assert ends == sorted(set(ends))
    assert ends[-1] == n
    assert enough(ends[0], alpha) == enough(n, alpha)


@given(st.lists(st.integers(-3, 3), min_size=99, max_size=99), st.integers(-3, 3), st.integers(5, 60))
def test_who_passes_is_the_same_as_with_all_controls(controls: list[int], delta: int, give_up: int) -> None:
    """5 > .05 x 100 - 1. Ties count as damage."""
    p, m = stopped(float(delta), list(map(float, controls)), give_up)
    full, _ = stopped(float(delta), list(map(float, controls)), None)
    assert (p <= 0.05) == (full <= 0.05)
    assert m == 99 or p > 0.05
    assert p == full or m < 99


@pytest.mark.parametrize(("n", "give_up"), [(99, 10), (999, 10), (999, 1)])
def test_the_level_is_kept_where_the_candidate_is_one_of_many(n: int, give_up: int) -> None:
    """Also where it is not the same who passes: 10 < .05 x 1000 - 1."""
    draws = np.random.default_rng(n).standard_normal((4000, 1 + n))
    passed = sum(stopped(draw[0], draw[1:].tolist(), give_up)[0] <= 0.05 for draw in draws)
    longest = math.ceil((1 + give_up) / 0.05 - 1)
    decisive = next((m for m in rounds(n, 0.05, give_up) if m >= longest), n)
    level = math.floor(0.05 * (1 + decisive) + 1e-9) / (
        1 + decisive
    )  # of p over as many controls: the most there can be
    assert passed <= binom(4000, level).ppf(0.999)
    if n == 99:
        assert passed >= binom(4000, level).ppf(0.001)


def test_hopeless_candidates_end_after_the_first_round_and_strong_ones_see_all() -> None:
    controls = np.random.default_rng(0).permutation(np.linspace(-1, 1, 999)).tolist()
    assert stopped(-0.5, controls, 10) == (pytest.approx(0.75, abs=0.2), 20)
    assert stopped(2.0, controls, 10) == (1 / 1000, 999)


def test_controls_that_cannot_be_spread_are_not_waited_for() -> None:
    assert hopeless(9.0, [0.0, 1.0], math.inf, 1, 10)
    assert not hopeless(9.0, [0.0, 1.0], 2.0, 1, 1)


def test_controls_are_counted_as_spread_as_for_p() -> None:
    """Controls -1 and 1 do less than 1.5; three times as far apart, one does more."""
    assert not hopeless(1.5, [-1.0, 1.0], 1.0, 1, 1)
    assert hopeless(1.5, [-1.0, 1.0], 3.0, 1, 1)
    assert hopeless(-1.5, [-1.0, 1.0], 3.0, -1, 1)


def test_who_passes_of_several_is_the_same_as_with_all_controls() -> None:
    worlds = np.random.default_rng(0).standard_normal((400, 3, 100))
    worlds[:, :, 0] += (2.0, 1.0, 0.0)
    for world in worlds:
        for m in rounds(99, 0.05, 10):
            if all(hopeless(float(own[0]), own[1 : 1 + m].tolist(), 1.0, 1, 10) for own in world):
                break
        few, all_of_them = (np.array(max_t(world[:, 0], world[:, 1 : 1 + n])) <= 0.05 for n in (m, 99))
        assert few.tolist() == all_of_them.tolist()


def test_giving_up_is_part_of_the_protocol_and_not_of_the_published_one() -> None:
    told = [resolve([*words, "subject=planted", "batch=planted"], registry()) for words in ([], ["give_up=5"])]
    usual, other = (Cell.of(config, registry()) for config in told)
    assert usual.settings.give_up == 10
    assert usual.protocol != other.protocol
    assert usual.id != other.id
    assert "give_up=5" in other.command
    assert resolve(["preset=paper"], registry())["give_up"] is None


@pytest.mark.parametrize("given", [0, -3])
def test_giving_up_before_any_control_is_refused(given: int) -> None:
    with pytest.raises(HarnessError, match=f"give_up={given}: .* cannot be given up before a control"):
        Cell.of(resolve([f"give_up={given}"], registry()), registry())
