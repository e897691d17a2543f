"""The closure test: which groups are ablated, and what is computed from the results.

Groups to compare with are given here, as the former test's controls (``test=disjoint``), so that numbers are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from scipy.stats import binom

from harness.board.card import card
from harness.closure.cases import cases_of
from harness.closure.report import CandidateResult, ClosureReport, close
from harness.closure.selection import null_damage
from harness.closure.trial import Trial
from harness.closure.verdict import Verdict
from harness.data.batch import Batch
from harness.data.contracts import Controls, ControlSets, Intervention, Metric, Tick
from harness.data.profile import Profile
from harness.data.recording import Activity
from harness.data.units import UnitSpace
from harness.records.record import Record
from harness.registry.config import registry
from harness.testing import examples

pytestmark = pytest.mark.unchecked


@dataclass
class Additive:
    """A model in which every unit has a known effect on every metric. Each example has its own offset."""

    damage: Mapping[str, np.ndarray]  # metric -> change per unit
    baseline: Mapping[str, float]
    units: UnitSpace = field(default_factory=lambda: UnitSpace.heads([4, 4]))
    calls: list[list[tuple[int, ...]]] = field(default_factory=list)  # conditions of every call

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[tuple[int, ...]],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> np.ndarray:
        self.calls.append(list(conditions))
        offset = 10.0 * np.arange(len(batch))
        return np.array(
            [[self.baseline[m.name] + self.damage[m.name][list(c)].sum() + offset for c in conditions] for m in metrics]
        )


@dataclass(frozen=True)
class Measure(Metric):
    name: str
    damage: Literal[1, -1]
    worst: float | None = None
    decides: bool = True

    def __call__(self, prediction: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Nothing(Intervention):
    name: ClassVar[str] = "nothing"

    def __call__(self, output: Any) -> Any:
        return output


@dataclass(frozen=True)
class Given(Controls):
    groups: tuple[tuple[int, ...], ...]
    shortfall: Mapping[str, int] = field(default_factory=dict)
    inflation: float = 1.0
    name: ClassVar[str] = "given"

    def __call__(self, units: UnitSpace) -> Profile:
        return Profile.by_site(units)

    def disjoint(self, candidate: tuple[int, ...], n: int) -> ControlSets:
        return ControlSets(self.groups, self.shortfall, self.inflation)


LOGIT, LOSS = Measure("target_logit", -1), Measure("loss", 1)
CONTROLS = tuple((i, j) for i in (2, 3) for j in (4, 5, 6, 7))  # 8 pairs


def model(**damage: list[float]) -> Additive:
    return Additive({name: np.array(values) for name, values in damage.items()}, {"target_logit": 4.0, "loss": 1.0})


def trial_on(subject: Additive, controls: Any, metrics: Sequence[Any], **changes: Any) -> Trial:
    return Trial(subject.units, subject.evaluate, examples.batch(6), Nothing(), controls, metrics, **changes)


def put_to_test(
    subject: Additive,
    metrics: Sequence[Any],
    controls: Given | None = None,
    candidates: Sequence[tuple[int, ...]] = ((0, 1),),
    null: Sequence[float] = (),
    **changes: Any,
) -> tuple[CandidateResult, ...]:
    drawing = Given(CONTROLS) if controls is None else controls
    trial = trial_on(subject, drawing, metrics, **{"alpha": 0.25, "test": "disjoint", **changes})
    return close(cases_of(candidates, trial), trial, lambda _: None, null)


def reports(*arguments: Any, **changes: Any) -> list[ClosureReport]:
    return [found.report for found in put_to_test(*arguments, **changes)]


def report_on(*arguments: Any, **changes: Any) -> ClosureReport:
    (report,) = reports(*arguments, **changes)
    return report


# Units 0 and 1 take two from the logit and add one to the loss; the others hardly anything.
STRONG = {
    "target_logit": [-2.0, -2.0, -0.1, 0.0, 0.0, -0.1, 0.1, -0.2],
    "loss": [1.0, 1.0, 0.0, 0.1, 0.0, 0.0, -0.1, 0.2],
}


def test_each_required_group_is_ablated_once() -> None:
    """Candidate, single units (for two, also the leave-one-out groups), its layers, all units, complement, controls."""
    subject = model(**STRONG)
    report_on(subject, [LOGIT])
    assert subject.calls == [[(), (0, 1), (0,), (1,), (0, 1, 2, 3), tuple(range(8)), (2, 3, 4, 5, 6, 7), *CONTROLS]]


def test_groups_shared_by_candidates_are_ablated_once() -> None:
    """One call for a cell: candidates share single units, and one may be a control of another."""
    subject = model(**STRONG)
    reports(subject, [LOGIT], candidates=[(0, 1), (1, 2)], contrast=examples.batch(7))
    here, contrast = subject.calls
    assert len(here) == len(set(here))
    assert {(0, 1), (1, 2), (0,), (1,), (2,), *CONTROLS} <= set(here)
    assert contrast == [(), (0, 1), (1, 2)]


def test_only_some_units_of_a_large_group_are_examined() -> None:
    subject = Additive({"target_logit": -np.ones(40)}, {"target_logit": 4.0})
    subject.units = UnitSpace.heads([40])
    report = report_on(subject, [LOGIT], Given(((38, 39),)), candidates=[tuple(range(17))])
    assert sum(len(group) == 1 for group in subject.calls[0]) == 8
    assert sum(len(group) == 16 for group in subject.calls[0]) == 8
    assert report.anatomy["target_logit"].necessity is not None
    assert sum(value is None for value in report.anatomy["target_logit"].necessity) == 9
    assert report.anatomy["target_logit"].leave_one_out is None
    assert report.anatomy["target_logit"].interaction is None


def test_effects_are_changes_of_means_and_offsets_of_examples_cancel() -> None:
    report = report_on(model(**STRONG), [LOGIT, LOSS])
    logit, loss = report.effects["target_logit"], report.effects["loss"]
    assert (logit.baseline, logit.ablated, logit.delta) == pytest.approx((29.0, 25.0, -4.0))  # offsets average 25
    assert (loss.baseline, loss.ablated, loss.delta) == pytest.approx((26.0, 28.0, 2.0))
    assert logit.interval == pytest.approx((-4.0, -4.0))  # paired: differences between examples cancel
    assert report.site_ablation == pytest.approx({"target_logit": -4.1, "loss": 2.1})
    assert report.units == ("L0H0", "L0H1")
    assert (report.n_examples, report.n_controls) == (6, 8)


def test_controls_are_damages_of_the_same_kind_and_z_is_taken_from_them() -> None:
    report = report_on(model(**STRONG), [LOGIT])
    expected = [STRONG["target_logit"][i] + STRONG["target_logit"][j] for i, j in CONTROLS]
    effect = report.effects["target_logit"]
    assert effect.controls == pytest.approx(expected)
    assert effect.z == pytest.approx((-4 - np.mean(expected)) / np.std(expected, ddof=1))
    published = report_on(model(**STRONG), [LOGIT], ddof=0).effects["target_logit"]
    assert published.z == pytest.approx((-4 - np.mean(expected)) / np.std(expected))


def test_metrics_are_tested_in_order_and_each_counts_only_if_the_earlier_ones_do() -> None:
    report = report_on(model(**STRONG), [LOGIT, LOSS])
    assert [effect.p for effect in report.effects.values()] == pytest.approx([1 / 9, 1 / 9])
    assert [effect.p_adjusted for effect in report.effects.values()] == pytest.approx([1 / 9, 1 / 9])
    assert report.verdict is Verdict.PASS
    weak = model(**{**STRONG, "target_logit": [-0.1, -0.1, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0]})
    report = report_on(weak, [LOGIT, LOSS])
    assert report.effects["target_logit"].p == pytest.approx(5 / 9)  # the four controls with unit 2 do worse
    assert report.effects["loss"].p == pytest.approx(1 / 9)
    assert report.effects["loss"].p_adjusted == pytest.approx(5 / 9)  # the logit is tested first, and did not count
    report = report_on(weak, [LOSS, LOGIT])
    assert report.effects["loss"].p_adjusted == pytest.approx(1 / 9)  # it is listed first
    assert list(report.effects) == ["loss", "target_logit"]


def test_metrics_that_do_not_decide_are_reported_only_unless_they_are_listed_first() -> None:
    shown = Measure("loss", 1, decides=False)
    helped = model(**{**STRONG, "loss": [-1.0, -1.0, *STRONG["loss"][2:]]})
    both = report_on(helped, [LOGIT, LOSS])
    assert both.verdict is Verdict.WEAK_PASS
    assert "but loss improves" in both.reason
    report = report_on(helped, [LOGIT, shown])
    assert (report.verdict, report.effects["loss"].decides) == (Verdict.PASS, False)
    assert report.effects["loss"].delta == pytest.approx(-2.0)
    assert report_on(helped, [LOGIT, shown], deciding="all").verdict is Verdict.WEAK_PASS
    assert report_on(helped, [shown, LOGIT]).verdict is Verdict.WRONG_DIRECTION


def test_p_is_corrected_for_the_candidates_tested_together() -> None:
    """Two candidates with the same controls: the second does no more damage than the strongest of eight controls."""
    alone = report_on(model(**STRONG), [LOGIT], candidates=[(0, 1)]).effects["target_logit"]
    first, second = reports(model(**STRONG), [LOGIT], candidates=[(0, 1), (2, 7)])
    assert first.effects["target_logit"].p_adjusted == alone.p_adjusted == pytest.approx(1 / 9)
    effect = second.effects["target_logit"]
    assert effect.p_adjusted is not None
    assert effect.p is not None
    assert effect.p_adjusted >= effect.p
    assert [report.units for report in (first, second)] == [("L0H0", "L0H1"), ("L0H2", "L1H3")]


def test_the_anatomy_of_a_group_of_independent_parts() -> None:
    (result,) = put_to_test(model(**STRONG), [LOGIT, LOSS])
    assert result.completeness["target_logit"] == pytest.approx(0.3 / 4.3)  # -4 of the -4.3 are gone
    inside = result.report.anatomy["target_logit"]
    assert inside.interaction == pytest.approx(0.0)
    assert inside.leave_one_out == pytest.approx((0.5, 0.5))
    assert inside.sufficiency == pytest.approx(1 - 0.3 / 4.3)  # the others do -0.3 of the -4.3 of everything
    assert inside.dispensable == ()
    assert inside.on_input is None  # activity was not measured


def test_a_member_without_effect_is_dispensable() -> None:
    found = report_on(model(**STRONG), [LOGIT], candidates=[(0, 1, 3)])
    assert found.dispensable == ("L0H3",)
    assert found.anatomy["target_logit"].leave_one_out == pytest.approx((0.5, 0.5, 0.0))


def test_damage_where_the_group_is_active_and_off_input() -> None:
    values = np.zeros((6, 8))
    values[:2, 0] = 1.0  # unit 0 is active on two of six examples, unit 1 never
    active = Activity(values, UnitSpace.heads([4, 4]))
    inside = report_on(model(**STRONG), [LOGIT], activity=active, contrast=examples.batch(7)).anatomy["target_logit"]
    assert inside.on_input is not None
    assert inside.on_input.n == 2
    assert inside.on_input.delta == pytest.approx(-4.0)
    assert inside.on_input.off_input == pytest.approx(-4.0)  # this model does the same damage on every example
    assert inside.contrast == (pytest.approx(-4.0), pytest.approx((-4.0, -4.0)))


def test_controls_are_inflated_equally_for_every_p() -> None:
    """If a group is active on all examples, the on-input p is the overall p."""
    values = np.zeros((6, 8))
    values[:5, 0], values[5, 1] = 1.0, 1.0
    wide = Given(CONTROLS, inflation=40.0)
    report = report_on(model(**STRONG), [LOGIT], wide, activity=Activity(values, UnitSpace.heads([4, 4])))
    inside = report.anatomy["target_logit"].on_input
    assert inside is not None
    assert inside.n == 6
    assert inside.p == report.effects["target_logit"].p
    assert inside.p is not None
    assert inside.p > 1 / 9  # as they are, no control does as much


def test_a_group_chosen_on_the_test_examples_is_compared_with_the_best_groups_of_permuted_data() -> None:
    """The pipeline finds groups with as much damage on permuted data: the candidate is not specific."""
    lucky = report_on(model(**STRONG), [LOGIT, LOSS], null=[-5.0, -4.5] * 10)
    assert lucky.selection_p == 1.0
    assert lucky.verdict is Verdict.NOT_SPECIFIC
    assert "permuted" in lucky.reason
    found = report_on(model(**STRONG), [LOGIT, LOSS], null=[-1.0] * 19)
    assert found.selection_p == pytest.approx(1 / 20)
    assert found.verdict is Verdict.PASS


def test_the_null_takes_the_most_damaging_group_of_each_permuted_run() -> None:
    trial = trial_on(model(**STRONG), Given(CONTROLS), [LOGIT, LOSS])
    found = null_damage([[(2, 3), (0,)], [(7,)], []], trial, lambda _: None)
    assert found == pytest.approx([-2.0, -0.2, np.inf])  # a run that proposes nothing damages nothing


def test_a_large_improvement_never_passes() -> None:
    helps = {name: [-change for change in changes] for name, changes in STRONG.items()}
    report = report_on(model(**helps), [LOGIT, LOSS])
    assert report.verdict is Verdict.WRONG_DIRECTION
    assert report.effects["target_logit"].p == 1.0


def test_a_saturated_metric_is_neither_tested_nor_corrected_for() -> None:
    """The baseline mean is exactly the worst possible value."""
    floor = Measure("accuracy", -1, worst=25.0)
    subject = model(**STRONG, accuracy=[0.0] * 8)
    subject.baseline = {**subject.baseline, "accuracy": 0.0}
    report = report_on(subject, [LOGIT, floor, LOSS])
    assert report.effects["accuracy"].saturated
    assert report.effects["accuracy"].p_adjusted is None
    assert report.effects["loss"].p_adjusted == pytest.approx(1 / 9)
    assert report.verdict is Verdict.PASS


def test_a_test_without_controls_is_underpowered() -> None:
    report = report_on(model(**STRONG), [LOGIT, LOSS], Given(()))
    assert report.verdict is Verdict.UNDERPOWERED
    assert report.effects["loss"].controls == ()
    assert (report.effects["loss"].z, report.effects["loss"].p) == (None, None)


def test_controls_with_the_same_damage_make_the_candidate_not_specific() -> None:
    report = report_on(model(target_logit=[-1.0] * 8, loss=[0.5] * 8), [LOGIT, LOSS])
    assert report.verdict is Verdict.NOT_SPECIFIC
    assert report.effects["loss"].z is None  # no spread among them


def test_a_shortfall_of_controls_is_reported_as_it_is_given() -> None:
    short = {"L0.attn": 2, "induction": 1}
    assert report_on(model(**STRONG), [LOGIT], Given(CONTROLS, short)).shortfall == short


# ----------------------------------------------------------------------------------------------------------------------
# Early stopping for futility
# ----------------------------------------------------------------------------------------------------------------------

PAIRS = tuple((i, i + 1) for i in range(10, 208, 2))  # 99 controls of a model of 208 units


def graded(candidate: float, other: float = 0.0) -> Additive:
    """Units 0 and 1 do one damage each, units 2 and 3 another; that of controls grows from 0 to 1 in mixed order."""
    changes = np.zeros(208)
    changes[10:] = np.repeat(np.random.default_rng(0).permutation(99) / 98 / 2, 2)
    changes[:4] = candidate / 2, candidate / 2, other / 2, other / 2
    subject = Additive({"target_logit": -changes, "loss": changes}, {"target_logit": 4.0, "loss": 1.0})
    subject.units = UnitSpace.heads([208])
    return subject


def test_a_weak_candidate_stops_at_the_tenth_control_with_the_same_damage() -> None:
    subject = graded(0.3)
    (found,) = put_to_test(subject, [LOGIT, LOSS], Given(PAIRS), alpha=0.05)
    report = found.report
    done = np.cumsum([subject.damage["loss"][list(pair)].sum() >= 0.3 for pair in PAIRS])
    end = 1 + int(np.argmax(done >= 10))
    assert 10 < end < 19  # fewer than p <= alpha needs, and the verdict is not underpowered
    assert (report.n_controls, report.stopped_early, report.verdict) == (end, True, Verdict.NOT_SPECIFIC)
    assert report.effects["target_logit"].p == pytest.approx(11 / (1 + end))
    assert found.deltas.shape == (2, 1 + end, 6)
    assert [len(effect.controls) for effect in report.effects.values()] == [end, end]
    first, *more = subject.calls
    assert first == [(), (0, 1), (0,), (1,), tuple(range(208)), *PAIRS[:10]]
    evaluated = [group for call in subject.calls for group in call]
    assert len(evaluated) == len(set(evaluated))
    assert {group for call in more for group in call} <= {*PAIRS}  # the rest of the model is not ablated
    inside = report.anatomy["target_logit"]
    assert inside.sufficiency is None
    assert inside.leave_one_out == pytest.approx((0.5, 0.5))


def test_a_strong_candidate_is_compared_with_all_controls_and_each_condition_is_evaluated_once() -> None:
    subject = graded(2.0)
    report = report_on(subject, [LOGIT, LOSS], Given(PAIRS), alpha=0.05)
    assert (report.n_controls, report.stopped_early, report.verdict) == (99, False, Verdict.PASS)
    assert [sum(group in PAIRS for group in call) for call in subject.calls] == [10, 55, 34]
    evaluated = [group for call in subject.calls for group in call]
    assert len(evaluated) == len(set(evaluated))
    assert report.anatomy["target_logit"].leave_one_out == pytest.approx((0.5, 0.5))
    at_once = graded(2.0)
    assert report_on(at_once, [LOGIT, LOSS], Given(PAIRS), alpha=0.05, futility=None) == report
    assert len(at_once.calls) == 1


def test_each_candidate_of_a_cell_stops_by_itself() -> None:
    strong, weak = reports(graded(2.0, 0.3), [LOGIT, LOSS], Given(PAIRS), [(0, 1), (2, 3)], alpha=0.05)
    assert (strong.n_controls, strong.stopped_early) == (99, False)
    alone = report_on(graded(2.0, 0.3), [LOGIT, LOSS], Given(PAIRS), [(2, 3)], alpha=0.05)
    assert (weak.n_controls, weak.stopped_early) == (alone.n_controls, True)
    one, two = reports(graded(0.2, 0.3), [LOGIT, LOSS], Given(PAIRS), [(0, 1), (2, 3)], alpha=0.05)
    assert one.stopped_early
    assert two.stopped_early


def test_stopping_uses_the_first_metric_that_is_not_saturated() -> None:
    """Weak by the logit, strongest by loss: the logit decides. Where it is saturated, loss does."""
    subject = graded(0.3)
    subject.damage = {**subject.damage, "loss": np.r_[9.0, 9.0, np.zeros(206)]}
    assert report_on(subject, [LOGIT, LOSS], Given(PAIRS), alpha=0.05).stopped_early
    floor = Measure("target_logit", -1, worst=29.0)  # offsets average 25
    assert not report_on(subject, [floor, LOSS], Given(PAIRS), alpha=0.05).stopped_early


def test_the_card_names_candidates_that_stopped_early(make_record: Callable[..., Record]) -> None:
    record = make_record()
    stopped = replace(record.closure[0], n_controls=20, stopped_early=True)
    assert "stopped early" in card(replace(record, closure=(stopped,)))
    assert "stopped early" not in card(record)


@pytest.mark.parametrize(("n", "verdict"), [(49, Verdict.NOT_SPECIFIC), (48, Verdict.UNDERPOWERED)])
def test_candidates_with_too_few_controls_are_tested_against_all_of_them(n: int, verdict: Verdict) -> None:
    """p <= 2 % needs 49 controls: with 49 the test may stop early, with 48 it does not."""
    report = report_on(graded(0.3), [LOGIT, LOSS], Given(PAIRS[:n]), alpha=0.02)
    assert report.verdict is verdict
    assert report.stopped_early is (n == 49)
    assert report.n_controls == (
        48 if n == 48 else report_on(graded(0.3), [LOGIT], Given(PAIRS), alpha=0.05).n_controls
    )


def test_p_of_candidates_that_stop_early_together_is_corrected() -> None:
    one, two = reports(graded(0.2, 0.3), [LOGIT], Given(PAIRS), [(0, 1), (2, 3)], alpha=0.05)
    first, second = (report.effects["target_logit"] for report in (one, two))
    assert first.p is not None
    assert second.p is not None
    assert first.p_adjusted == first.p
    assert second.p_adjusted == max(first.p, second.p)


# ----------------------------------------------------------------------------------------------------------------------
# The level, over worlds without a circuit
# ----------------------------------------------------------------------------------------------------------------------


def test_controls_are_shared_by_first_candidates_of_all_cells_and_differ_for_second_ones() -> None:
    units = UnitSpace.heads([30])
    trial = trial_on(Additive({}, {}, units), drawing("layer_matched"), [LOGIT], test="disjoint")
    one, two, three = cases_of([(0, 1), (2, 3), (0, 1, 2)], trial)
    assert cases_of([(0, 1)], trial)[0] == one
    assert cases_of([(4, 5), (2, 3)], trial)[1] == two
    assert cases_of([(0, 1, 2)], trial)[0] == three  # another size has other controls
    assert one.comparison.groups != two.comparison.groups  # they share no unit with their candidate


def drawing(name: str) -> Any:
    return registry().get("controls", name).build({})


def test_the_pass_rate_is_at_most_the_level_if_there_is_no_circuit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planted null worlds of 60 equal pairs: a candidate is among the three most damaging in 3 / 60 of them."""
    monkeypatch.setattr("harness.closure.intervals.RESAMPLES", 99)  # every example changes alike
    pairs = tuple((i, i + 1) for i in range(2, 120, 2))  # 59 controls
    passes = 0
    for world in range(180):
        changes = np.random.default_rng(world).normal(-1.0, 0.1, 120)
        subject = Additive({"target_logit": changes, "loss": -changes}, {"target_logit": 4.0, "loss": 1.0})
        subject.units = UnitSpace.heads([120])
        verdict = report_on(subject, [LOGIT, LOSS], Given(pairs), alpha=0.05).verdict
        assert verdict in (Verdict.PASS, Verdict.NOT_SPECIFIC)
        passes += verdict is Verdict.PASS
    low, high = binom(180, 3 / 60).interval(0.99)
    assert low <= passes <= high
