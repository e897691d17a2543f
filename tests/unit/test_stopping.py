"""Early stopping: the same candidates pass, the test holds its level, and fewer controls are evaluated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from harness.cells.cell import Cell
from harness.closure.cases import Case, cases_of, evaluate_cases
from harness.closure.comparison import Comparison, Disjoint, Exact
from harness.closure.necessity import Parts
from harness.closure.outcomes import Outcomes
from harness.closure.statistics import p_value
from harness.closure.stopping import MIN_CONTROLS, first_round, next_round
from harness.closure.trial import Trial
from harness.data.contracts import Metric
from harness.data.units import UnitSpace
from harness.registry.config import registry, resolve
from harness.testing import examples
from harness.util.errors import HarnessError
from tests.unit.worlds import additive, background, chain, sum_of, trial_of

pytestmark = pytest.mark.unchecked

UNITS, BATCH = UnitSpace.heads([1]), examples.batch(5)  # neither they nor the methods are used
ZERO = registry().get("intervention", "zero").build({})
CONTROLS = registry().get("controls", "uniform").build({})


def at_the_end(delta: float, controls: Sequence[float], futility: int) -> int:
    """The number of controls after which the test of one candidate stops, counted one by one."""
    as_much = itertools.accumulate(control >= delta for control in controls)
    return next((m for m, k in enumerate(as_much, start=1) if m >= MIN_CONTROLS and k >= futility), len(controls))


class Logit(Metric):
    """A metric for which damage is a decrease."""

    name: ClassVar[str] = "target_logit"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Known:
    """Evaluates numbered groups whose damage is known; ``()`` does none. ``calls``: groups of every call."""

    damage: Sequence[float]
    calls: list[int] = field(default_factory=list)

    def __call__(self, batch: Any, conditions: Sequence[tuple[int, ...]], *_: Any) -> np.ndarray:
        self.calls.append(len(conditions))
        return -np.array([[[self.damage[group[0]] if group else 0.0] for group in conditions]])


def counted(
    deltas: Sequence[float], controls: Sequence[Sequence[float]], futility: int | None, exact: bool = False
) -> tuple[list[int], list[int]]:
    """How many controls count for each candidate, and how many groups each call evaluated.

    Groups are single units, whose necessity is their damage: both tests stop alike.
    """
    damage: list[float] = []
    cases = []
    for delta, others in zip(deltas, controls, strict=True):
        groups = [(len(damage) + i,) for i in range(1 + len(others))]
        comparison = compared(tuple(groups[1:]), exact)
        cases.append(Case(groups[0], comparison, Parts(groups[0], groups[0]), None, None, None, len(others)))
        damage += [delta, *others]
    subject = Known(damage)
    trial = Trial(UNITS, subject, BATCH, ZERO, CONTROLS, [Logit()], futility=futility)
    stopped_cases = evaluate_cases(cases, Outcomes(trial, lambda _: None))
    return [case.n for case in stopped_cases], subject.calls


def compared(groups: tuple[tuple[int, ...], ...], exact: bool) -> Comparison:
    if exact:
        return Exact(groups, len(groups), {}, UNITS, seed=0)
    return Disjoint(groups, len(groups), {}, {}, inflation=1.0)


def stopped(delta: float, controls: list[float], futility: int | None) -> tuple[float, int]:
    """p of one candidate, and its number of controls."""
    (m,), _ = counted([delta], [controls], futility)
    p = p_value(delta, controls[:m], damage=1)
    assert p is not None
    return p, m


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=120), st.integers(-3, 3), st.integers(1, 30))
def test_rounds_stop_at_the_same_control_as_one_by_one_testing(controls: list[int], delta: int, futility: int) -> None:
    """Ties count as damage. Candidates with too few controls to reach alpha do not stop early."""
    _, m = stopped(float(delta), list(map(float, controls)), futility)
    assert m == (at_the_end(delta, controls, futility) if len(controls) >= 19 else len(controls))


def test_few_more_controls_are_evaluated_than_count() -> None:
    """Of random groups 32.5 of 99 count on average; one round each would evaluate all."""
    ends, evaluated, rounds = 0, 0, 0
    for draw in np.random.default_rng(0).standard_normal((1000, 100)):
        (m,), calls = counted([draw[0]], [draw[1:].tolist()], 10)
        ends, evaluated, rounds = ends + m, evaluated + sum(calls) - 2, rounds + len(calls)
    assert ends / 1000 == pytest.approx(10 + sum(10 / m for m in range(11, 100)), rel=0.05)
    assert evaluated < 1.05 * ends
    assert rounds / 1000 < 5


def test_rounds_grow_if_few_controls_do_as_much_damage() -> None:
    assert first_round(99, 10) == 10
    assert first_round(99, 30) == 30
    assert first_round(7, 10) == 7
    assert first_round(99, None) == 99
    assert next_round(10, 9, 10) == 1  # one more could reach futility
    assert next_round(10, 5, 10) == 5
    assert next_round(10, 1, 10) == 25  # 9 to go, 2 of 11 so far: 50 at this rate
    assert next_round(10, 0, 10) == 55


@given(st.integers(1, 500), st.integers(1, 30), st.data())
def test_the_next_round_is_never_empty_and_never_too_small_to_decide(
    m: int, futility: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, min(m, futility - 1)))
    assert next_round(m, k, futility) >= futility - k >= 1


@given(st.lists(st.integers(-3, 3), min_size=99, max_size=99), st.integers(-3, 3), st.integers(5, 60))
def test_the_same_candidates_pass_as_with_all_controls(controls: list[int], delta: int, futility: int) -> None:
    """5 > .05 x 100 - 1."""
    p, m = stopped(float(delta), list(map(float, controls)), futility)
    full, _ = stopped(float(delta), list(map(float, controls)), None)
    assert (p <= 0.05) == (full <= 0.05)
    assert m == 99 or p > 0.05
    assert p == full or m < 99


@pytest.mark.parametrize(("n", "futility"), [(99, 10), (999, 10), (999, 1)])
def test_the_test_holds_its_level_if_the_candidate_is_drawn_as_its_controls(n: int, futility: int) -> None:
    """Also if the passing candidates differ from those with all controls: 10 < .05 x 1000 - 1."""
    draws = np.random.default_rng(n).standard_normal((4000, 1 + n))
    as_much = (draws[:, 1:] >= draws[:, :1]).cumsum(axis=1)
    over = (as_much >= futility) & (np.arange(1, 1 + n) >= MIN_CONTROLS)
    end = np.where(over.any(axis=1), over.argmax(axis=1), n - 1)
    p = (1 + as_much[np.arange(len(end)), end]) / (2 + end)
    assert [stopped(draw[0], draw[1:].tolist(), futility)[0] for draw in draws[:20]] == pytest.approx(p[:20].tolist())
    decisive = min(n, math.ceil((1 + futility) / 0.05 - 1))
    # Of p over as many controls: the most there can be.
    level = math.floor(0.05 * (1 + decisive) + 1e-9) / (1 + decisive)
    passed = (p <= 0.05).sum()
    assert passed <= binom(4000, level).ppf(0.999)
    if n == 99:
        assert passed >= binom(4000, level).ppf(0.001)


def test_weak_candidates_stop_early_and_strong_ones_do_not() -> None:
    controls = np.random.default_rng(0).permutation(np.linspace(-1, 1, 999)).tolist()
    assert stopped(-2.0, controls, 10) == (1, 10)
    p, m = stopped(-0.5, controls, 10)
    assert p == pytest.approx(0.75, abs=0.15)
    assert m < 20
    assert stopped(2.0, controls, 10) == (1 / 1000, 999)


def disjoint(inflation: float) -> Disjoint:
    return Disjoint(((1,), (2,)), 2, {}, {}, inflation)


def test_no_control_counts_where_the_inflation_is_infinite() -> None:
    assert disjoint(math.inf).as_extreme(9.0, np.array([0.0, 1.0])) is None
    assert disjoint(math.inf).p(9.0, np.array([0.0, 1.0])) is None
    assert disjoint(2.0).as_extreme(9.0, np.array([0.0, 1.0])) == 0


def test_controls_are_inflated_as_for_p() -> None:
    """Controls -1 and 1 do less damage than 1.5; inflated three times, one does more."""
    for inflation, extreme in ((1.0, 0), (3.0, 1)):
        assert disjoint(inflation).as_extreme(1.5, np.array([-1.0, 1.0])) == extreme
        assert disjoint(inflation).p(1.5, np.array([-1.0, 1.0])) == (1 + extreme) / 3


@pytest.mark.parametrize("exact", [True, False])
def test_each_of_several_candidates_stops_where_it_stops_alone(exact: bool) -> None:
    worlds = np.random.default_rng(0).standard_normal((40, 3, 100))
    worlds[:, :, 0] += (2.0, 1.0, 0.0)
    for world in worlds:
        alone = [at_the_end(delta, controls, 10) for delta, *controls in world.tolist()]
        assert counted(world[:, 0].tolist(), world[:, 1:].tolist(), 10, exact)[0] == alone


# -- with parts of groups ----------------------------------------------------------------------------------------------


def test_the_same_groups_pass_with_and_without_early_stopping() -> None:
    """All 44 others of 45 pairs, or 119 of 120 triples: 10 > .05 x 120 - 1."""
    passed = 0
    for world in range(40):
        units, group = (UnitSpace.heads([10]), (0, 1) if world % 2 else (0, 1, 2))
        damage = sum_of(background(10, world), chain(*group, strength=world / 8))
        found = []
        for futility in (10, None):
            trial = trial_of(units, damage, futility=futility)
            outcomes = Outcomes(trial, lambda _: None)
            (case,) = evaluate_cases(cases_of([group], trial), outcomes)
            own, *others = (case.comparison.statistic(g, outcomes.damage(g))[0] for g in (group, *case.compared))
            found.append(case.comparison.p(own, np.array(others)))
        few, full = found
        assert few is not None
        assert full is not None
        assert (few <= 0.05) == (full <= 0.05)
        assert few == full or few > 0.05
        passed += full <= 0.05
    assert 10 < passed < 38


def test_a_hopeless_candidate_is_compared_with_at_most_25_groups() -> None:
    """It does less than most groups: ten of the first 25 do more with certainty where nine of ten do."""
    units = UnitSpace.heads([30, 30])
    for world in range(20):
        weights = np.random.default_rng(world).gamma(2.0, size=60)
        weights[[0, 1, 30]] = 0.0
        trial = trial_of(units, additive(weights), seed=world)
        (case,) = evaluate_cases(cases_of([(0, 1, 30)], trial), Outcomes(trial, lambda _: None))
        assert case.stopped_early
        assert case.n == MIN_CONTROLS  # every group does more
        weights[[0, 1, 30]] = np.quantile(weights, 0.3)
        trial = trial_of(units, additive(weights), seed=world)
        outcomes = Outcomes(trial, lambda _: None)
        (case,) = evaluate_cases(cases_of([(0, 1, 30)], trial), outcomes)
        assert case.n <= 25
        whole = [group for group in outcomes.values if len(group) == 3 and trial.profile.counts(group) == {0: 2, 1: 1}]
        assert len(whole) <= 26  # with the candidate


def test_futility_is_part_of_the_protocol_and_off_in_the_published_one() -> None:
    configs = [resolve([*words, "subject=planted", "batch=planted"], registry()) for words in ([], ["futility=5"])]
    usual, other = (Cell.of(config, registry()) for config in configs)
    assert usual.settings.futility == 10
    assert usual.protocol != other.protocol
    assert usual.id != other.id
    assert "futility=5" in other.command
    assert resolve(["preset=paper"], registry())["futility"] is None


@pytest.mark.parametrize("given", [0, -3])
def test_stopping_before_any_control_is_refused(given: int) -> None:
    with pytest.raises(HarnessError, match=f"futility={given}: must be at least 1"):
        Cell.of(resolve([f"futility={given}"], registry()), registry())
