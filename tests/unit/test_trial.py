"""The closure test itself: which groups are ablated, and what becomes of the numbers that come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from scipy.stats import binom

from harness.board.card import card
from harness.closure.report import ClosureReport, close
from harness.closure.report import Tested as Heard
from harness.closure.selection import null_damage
from harness.closure.statistics import max_t
from harness.closure.trial import Trial, cases_of
from harness.closure.verdict import Verdict
from harness.data.batch import Batch
from harness.data.recording import Activity, Reader, Recording
from harness.data.sampling import inflation
from harness.data.stages import ControlSets, Intervention, Metric, Tick
from harness.data.units import UnitSpace
from harness.records.record import Record
from harness.registry.config import registry
from harness.testing import examples


@dataclass
class Additive:
    """A model whose every unit does a known damage to every metric; examples differ by an offset of their own."""

    damage: Mapping[str, np.ndarray]  # metric -> change per unit
    baseline: Mapping[str, float]
    units: UnitSpace = field(default_factory=lambda: UnitSpace.heads([4, 4]))
    label: str = "additive"
    about: Mapping[str, Any] = field(default_factory=dict)
    vocab_size: int = 100
    context: int = 100
    encode: Callable[[str], list[int]] | None = None
    asked: list[list[tuple[int, ...]]] = field(default_factory=list)  # conditions of every call

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick) -> Recording:
        raise NotImplementedError

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[tuple[int, ...]],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> np.ndarray:
        self.asked.append(list(conditions))
        offset = 10.0 * np.arange(len(batch))
        return np.array(
            [[self.baseline[m.name] + self.damage[m.name][list(c)].sum() + offset for c in conditions] for m in metrics]
        )


@dataclass(frozen=True)
class Measure:
    name: str
    damage: Literal[1, -1]
    worst: float | None = None

    def __call__(self, prediction: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Nothing:
    name: ClassVar[str] = "nothing"

    def __call__(self, output: Any) -> Any:
        return output


@dataclass(frozen=True)
class Given:
    groups: tuple[tuple[int, ...], ...]
    shortfall: Mapping[int, int] = field(default_factory=dict)
    inflation: float = 1.0
    name: ClassVar[str] = "given"

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        return ControlSets(self.groups, self.shortfall, self.inflation)


LOGIT, LOSS = Measure("target_logit", -1), Measure("loss", 1)
CONTROLS = tuple((i, j) for i in (2, 3) for j in (4, 5, 6, 7))  # 8 pairs


def model(**damage: list[float]) -> Additive:
    return Additive({name: np.array(values) for name, values in damage.items()}, {"target_logit": 4.0, "loss": 1.0})


def put_to_test(
    subject: Additive,
    metrics: Sequence[Any],
    controls: Given | None = None,
    candidates: Sequence[tuple[int, ...]] = ((0, 1),),
    null: Sequence[float] = (),
    **changes: Any,
) -> tuple[Heard, ...]:
    found = Given(CONTROLS) if controls is None else controls
    told = Trial(subject, examples.batch(5), Nothing(), found, metrics, **{"alpha": 0.25, **changes})
    return close(cases_of(candidates, told), told, lambda _: None, null)


def trials(*arguments: Any, **changes: Any) -> list[ClosureReport]:
    return [found.report for found in put_to_test(*arguments, **changes)]


def trial(*arguments: Any, **changes: Any) -> ClosureReport:
    (report,) = trials(*arguments, **changes)
    return report


# Units 0 and 1 take two from the logit and add one to the loss; the others hardly anything.
STRONG = {
    "target_logit": [-2.0, -2.0, -0.1, 0.0, 0.0, -0.1, 0.1, -0.2],
    "loss": [1.0, 1.0, 0.0, 0.1, 0.0, 0.0, -0.1, 0.2],
}


def test_what_is_ablated_and_each_group_once() -> None:
    """Candidate, its layers, controls, its parts (for two, the same as the rest without each), all, and all others."""
    subject = model(**STRONG)
    trial(subject, [LOGIT])
    assert subject.asked == [[(), (0, 1), (0, 1, 2, 3), *CONTROLS, (0,), (1,), tuple(range(8)), (2, 3, 4, 5, 6, 7)]]


def test_what_candidates_have_in_common_is_ablated_once_for_all() -> None:
    """One call for a cell: the parts of one are the parts of the other, a candidate may be the other's control."""
    subject = model(**STRONG)
    trials(subject, [LOGIT], candidates=[(0, 1), (1, 2)], contrast=examples.batch(7))
    here, contrast = subject.asked
    assert len(here) == len(set(here))
    assert {(0, 1), (1, 2), (0,), (1,), (2,), *CONTROLS} <= set(here)
    assert contrast == [(), (0, 1), (1, 2)]


def test_a_large_group_is_not_taken_apart() -> None:
    subject = Additive({"target_logit": -np.ones(40)}, {"target_logit": 4.0})
    subject.units = UnitSpace.heads([40])
    report = trial(subject, [LOGIT], Given(((38, 39),)), candidates=[tuple(range(17))])
    assert not any(len(group) == 1 for group in subject.asked[0])
    assert report.anatomy["target_logit"].leave_one_out is None
    assert report.anatomy["target_logit"].interaction is None


def test_effects_are_changes_of_means_and_offsets_of_examples_cancel() -> None:
    report = trial(model(**STRONG), [LOGIT, LOSS])
    logit, loss = report.effects["target_logit"], report.effects["loss"]
    assert (logit.baseline, logit.ablated, logit.delta) == pytest.approx((24.0, 20.0, -4.0))  # offsets average 20
    assert (loss.baseline, loss.ablated, loss.delta) == pytest.approx((21.0, 23.0, 2.0))
    assert logit.interval == pytest.approx((-4.0, -4.0))  # paired: what differs between examples is no doubt
    assert report.site_ablation == pytest.approx({"target_logit": -4.1, "loss": 2.1})
    assert report.units == ("L0H0", "L0H1")
    assert (report.n_examples, report.n_controls) == (5, 8)


def test_controls_are_damages_of_the_same_kind_and_z_is_taken_from_them() -> None:
    report = trial(model(**STRONG), [LOGIT])
    expected = [STRONG["target_logit"][i] + STRONG["target_logit"][j] for i, j in CONTROLS]
    effect = report.effects["target_logit"]
    assert effect.controls == pytest.approx(expected)
    assert effect.z == pytest.approx((-4 - np.mean(expected)) / np.std(expected, ddof=1))
    published = trial(model(**STRONG), [LOGIT], ddof=0).effects["target_logit"]
    assert published.z == pytest.approx((-4 - np.mean(expected)) / np.std(expected))


def test_metrics_are_asked_in_order_and_each_counts_only_if_those_before_it_do() -> None:
    report = trial(model(**STRONG), [LOSS, LOGIT])
    assert [effect.p for effect in report.effects.values()] == pytest.approx([1 / 9, 1 / 9])
    assert [effect.p_adjusted for effect in report.effects.values()] == pytest.approx([1 / 9, 1 / 9])
    assert report.verdict is Verdict.PASS
    weak = model(**{**STRONG, "target_logit": [-0.1, -0.1, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0]})
    report = trial(weak, [LOSS, LOGIT])
    assert report.effects["target_logit"].p == pytest.approx(5 / 9)  # the four controls with unit 2 do worse
    assert report.effects["loss"].p == pytest.approx(1 / 9)
    assert report.effects["loss"].p_adjusted == pytest.approx(5 / 9)  # the logit is asked first, and did not count
    assert list(report.effects) == ["loss", "target_logit"]


def test_p_is_corrected_for_the_candidates_tested_together() -> None:
    """Two candidates, the same controls: the second does no more than the strongest of eight controls do."""
    alone = trial(model(**STRONG), [LOGIT], candidates=[(0, 1)]).effects["target_logit"]
    first, second = trials(model(**STRONG), [LOGIT], candidates=[(0, 1), (2, 7)])
    assert first.effects["target_logit"].p_adjusted == alone.p_adjusted == pytest.approx(1 / 9)
    effect = second.effects["target_logit"]
    assert effect.p_adjusted is not None
    assert effect.p is not None
    assert effect.p_adjusted >= effect.p
    assert [report.units for report in (first, second)] == [("L0H0", "L0H1"), ("L0H2", "L1H3")]


def test_the_inside_of_a_group_of_independent_parts() -> None:
    inside = trial(model(**STRONG), [LOGIT, LOSS]).anatomy["target_logit"]
    assert inside.interaction == pytest.approx(0.0)
    assert inside.leave_one_out == pytest.approx((0.5, 0.5))
    assert inside.sufficiency == pytest.approx(1 - 0.3 / 4.3)  # the others do -0.3 of the -4.3 of everything
    assert inside.dispensable == ()
    assert inside.on_input is None  # nobody measured activity


def test_a_member_that_adds_nothing_is_idle() -> None:
    found = trial(model(**STRONG), [LOGIT], candidates=[(0, 1, 3)])
    assert found.dispensable == ("L0H3",)
    assert found.anatomy["target_logit"].leave_one_out == pytest.approx((0.5, 0.5, 0.0))


def test_damage_where_the_group_is_active_and_elsewhere() -> None:
    values = np.zeros((5, 8))
    values[:2, 0] = 1.0  # unit 0 is active on two of five examples, unit 1 never
    active = Activity(values, UnitSpace.heads([4, 4]))
    inside = trial(model(**STRONG), [LOGIT], activity=active, contrast=examples.batch(7)).anatomy["target_logit"]
    assert inside.on_input is not None
    assert inside.on_input.n == 2
    assert inside.on_input.delta == pytest.approx(-4.0)
    assert inside.on_input.off_input == pytest.approx(-4.0)  # this model does not care
    assert inside.contrast == (pytest.approx(-4.0), pytest.approx((-4.0, -4.0)))


def test_controls_are_spread_alike_for_every_p() -> None:
    """Where a group is active on all examples, p there is p everywhere."""
    values = np.zeros((5, 8))
    values[:4, 0], values[4, 1] = 1.0, 1.0
    wide = Given(CONTROLS, inflation=40.0)
    report = trial(model(**STRONG), [LOGIT], wide, activity=Activity(values, UnitSpace.heads([4, 4])))
    inside = report.anatomy["target_logit"].on_input
    assert inside is not None
    assert inside.n == 5
    assert inside.p == report.effects["target_logit"].p
    assert inside.p is not None
    assert inside.p > 1 / 9  # as they are, no control does as much


def test_a_group_chosen_where_it_is_tested_is_held_against_the_best_of_permuted_data() -> None:
    """The pipeline finds groups that do as much where there is nothing to find: then this one is nothing special."""
    lucky = trial(model(**STRONG), [LOGIT, LOSS], null=[-5.0, -4.5] * 10)
    assert lucky.selection_p == 1.0
    assert lucky.verdict is Verdict.NOT_SPECIFIC
    assert "permuted" in lucky.reason
    found = trial(model(**STRONG), [LOGIT, LOSS], null=[-1.0] * 19)
    assert found.selection_p == pytest.approx(1 / 20)
    assert found.verdict is Verdict.PASS


def test_the_null_takes_the_worst_group_of_each_permuted_run() -> None:
    told = Trial(model(**STRONG), examples.batch(5), Nothing(), Given(CONTROLS), [LOSS, LOGIT])
    found = null_damage([[(2, 3), (0,)], [(7,)], []], told, lambda _: None)
    assert found == pytest.approx([-2.0, -0.2, np.inf])  # a run that proposes nothing damages nothing


def test_damage_the_wrong_way_round_is_no_pass_however_large() -> None:
    helps = {name: [-change for change in changes] for name, changes in STRONG.items()}
    report = trial(model(**helps), [LOGIT, LOSS])
    assert report.verdict is Verdict.WRONG_DIRECTION
    assert report.effects["target_logit"].p == 1.0


def test_a_saturated_metric_is_neither_tested_nor_corrected_for() -> None:
    """Its baseline mean is exactly as bad as can be."""
    floor = Measure("accuracy", -1, worst=20.0)
    subject = model(**STRONG, accuracy=[0.0] * 8)
    subject.baseline = {**subject.baseline, "accuracy": 0.0}
    report = trial(subject, [LOGIT, floor, LOSS])
    assert report.effects["accuracy"].saturated
    assert report.effects["accuracy"].p_adjusted is None
    assert report.effects["loss"].p_adjusted == pytest.approx(1 / 9)
    assert report.verdict is Verdict.PASS


def test_without_controls_nothing_can_be_said() -> None:
    report = trial(model(**STRONG), [LOGIT, LOSS], Given(()))
    assert report.verdict is Verdict.UNDERPOWERED
    assert report.effects["loss"].controls == ()
    assert (report.effects["loss"].z, report.effects["loss"].p) == (None, None)


def test_controls_that_do_the_same_make_it_unspecific() -> None:
    report = trial(model(target_logit=[-1.0] * 8, loss=[0.5] * 8), [LOGIT, LOSS])
    assert report.verdict is Verdict.NOT_SPECIFIC
    assert report.effects["loss"].z is None  # no spread among them


def test_what_a_layer_lacked_is_reported_by_its_label() -> None:
    assert trial(model(**STRONG), [LOGIT], Given(CONTROLS, {0: 2})).shortfall == {"L0": 2}


# ----------------------------------------------------------------------------------------------------------------------
# Giving up
# ----------------------------------------------------------------------------------------------------------------------

PAIRS = tuple((i, i + 1) for i in range(10, 208, 2))  # 99 controls of a model of 208 units


def graded(candidate: float, other: float = 0.0) -> Additive:
    """Units 0 and 1 do some damage each, units 2 and 3 other; the controls' grows from 0 to 1 in a mixed order."""
    changes = np.zeros(208)
    changes[10:] = np.repeat(np.random.default_rng(0).permutation(99) / 98 / 2, 2)
    changes[:4] = candidate / 2, candidate / 2, other / 2, other / 2
    subject = Additive({"target_logit": -changes, "loss": changes}, {"target_logit": 4.0, "loss": 1.0})
    subject.units = UnitSpace.heads([208])
    return subject


def test_a_hopeless_candidate_is_given_up_at_the_tenth_control_that_does_as_much() -> None:
    subject = graded(0.3)
    (found,) = put_to_test(subject, [LOGIT, LOSS], Given(PAIRS), alpha=0.05)
    report = found.report
    done = np.cumsum([subject.damage["loss"][list(pair)].sum() >= 0.3 for pair in PAIRS])
    end = 1 + int(np.argmax(done >= 10))
    assert 10 < end < 19  # fewer than p needs to reach the level, and not underpowered
    assert (report.n_controls, report.stopped_early, report.verdict) == (end, True, Verdict.NOT_SPECIFIC)
    assert report.effects["target_logit"].p == pytest.approx(11 / (1 + end))
    assert found.deltas.shape == (2, 1 + end, 5)
    assert [len(effect.controls) for effect in report.effects.values()] == [end, end]
    first, *more = subject.asked
    assert first == [(), (0, 1), tuple(range(208)), *PAIRS[:10]]
    asked = [group for call in subject.asked for group in call]
    assert len(asked) == len(set(asked))
    assert {group for call in more for group in call} <= {*PAIRS}  # and not its parts, nor all but it
    inside = report.anatomy["target_logit"]
    assert (inside.leave_one_out, inside.sufficiency, inside.interaction, inside.dispensable) == (None, None, None, ())


def test_a_strong_candidate_sees_all_controls_and_each_condition_once() -> None:
    subject = graded(2.0)
    report = trial(subject, [LOGIT, LOSS], Given(PAIRS), alpha=0.05)
    assert (report.n_controls, report.stopped_early, report.verdict) == (99, False, Verdict.PASS)
    assert [sum(group in PAIRS for group in call) for call in subject.asked] == [10, 55, 34, 0]
    asked = [group for call in subject.asked for group in call]
    assert len(asked) == len(set(asked))
    assert report.anatomy["target_logit"].leave_one_out == pytest.approx((0.5, 0.5))
    at_once = graded(2.0)
    assert trial(at_once, [LOGIT, LOSS], Given(PAIRS), alpha=0.05, futility=None) == report
    assert len(at_once.asked) == 1


def test_a_cell_goes_on_while_one_of_its_candidates_may_pass() -> None:
    strong, weak = trials(graded(2.0, 0.3), [LOGIT, LOSS], Given(PAIRS), [(0, 1), (2, 3)], alpha=0.05)
    assert (strong.n_controls, weak.n_controls) == (99, 99)
    assert not weak.stopped_early
    one, two = trials(graded(0.2, 0.3), [LOGIT, LOSS], Given(PAIRS), [(0, 1), (2, 3)], alpha=0.05)
    assert one.stopped_early
    assert two.stopped_early


def test_candidates_are_given_up_by_the_metric_asked_first_that_has_room_to_fall() -> None:
    """Hopeless on the logit, without equal on loss: the logit decides; where it is saturated, accuracy does."""
    subject = graded(0.3)
    subject.damage = {**subject.damage, "loss": np.r_[9.0, 9.0, np.zeros(206)]}
    assert trial(subject, [LOSS, LOGIT], Given(PAIRS), alpha=0.05).stopped_early
    floor = Measure("target_logit", -1, worst=24.0)  # offsets average 20
    assert not trial(subject, [LOSS, floor], Given(PAIRS), alpha=0.05).stopped_early


def test_the_card_says_who_was_given_up(make_record: Callable[..., Record]) -> None:
    record = make_record()
    stopped = replace(record.closure[0], n_controls=20, stopped_early=True)
    assert "stopped early: 0 of 20 distinct controls did at least as much damage" in card(
        replace(record, closure=(stopped,))
    )
    assert "stopped early" not in card(record)


@pytest.mark.parametrize(("n", "verdict"), [(49, Verdict.NOT_SPECIFIC), (48, Verdict.UNDERPOWERED)])
def test_nobody_is_given_up_for_want_of_controls(n: int, verdict: Verdict) -> None:
    """p <= 2 % takes 49 of them: who has as many may be given up after fewer, who has not sees them all."""
    report = trial(graded(0.3), [LOGIT, LOSS], Given(PAIRS[:n]), alpha=0.02)
    assert report.verdict is verdict
    assert report.stopped_early is (n == 49)
    assert report.n_controls == (48 if n == 48 else trial(graded(0.3), [LOGIT], Given(PAIRS), alpha=0.05).n_controls)


def test_p_of_candidates_that_are_given_up_together_is_corrected_all_the_same() -> None:
    one, two = trials(graded(0.2, 0.3), [LOGIT], Given(PAIRS), [(0, 1), (2, 3)], alpha=0.05)
    assert one.n_controls == two.n_controls < 19
    for report in (one, two):
        effect = report.effects["target_logit"]
        assert effect.p is not None
        assert effect.p_adjusted is not None
        assert effect.p_adjusted >= effect.p


# ----------------------------------------------------------------------------------------------------------------------
# The level, over worlds where nothing is a circuit
# ----------------------------------------------------------------------------------------------------------------------


def test_the_first_of_every_cell_has_the_same_controls_and_the_second_others() -> None:
    units = UnitSpace.heads([30])
    told = Trial(Additive({}, {}, units), examples.batch(5), Nothing(), drawing("layer_matched"), [LOGIT])
    one, two, three = cases_of([(0, 1), (2, 3), (0, 1, 2)], told)
    assert cases_of([(0, 1)], told)[0] == one
    assert cases_of([(4, 5), (2, 3)], told)[1] == two
    assert cases_of([(0, 1, 2)], told)[0] == three  # of another size: no control of it is one of theirs
    assert told.draw((2, 3)).groups != two.drawn.groups


def drawing(name: str) -> Any:
    return registry().get("controls", name).build({})


def test_the_best_of_ten_candidates_of_one_profile_passes_no_more_often_than_the_level() -> None:
    """Five of 200 units each, whose damage is independent. If all ten were held against the same 99 groups, ten of 109
    worlds had a candidate worse than them all, whichever order they are compared in.
    """
    units, worlds = UnitSpace.heads([200]), 2000
    candidates = [tuple(range(5 * j, 5 * j + 5)) for j in range(10)]
    told = Trial(Additive({}, {}, units), examples.batch(5), Nothing(), drawing("layer_matched"), [LOGIT])
    cases = cases_of(candidates, told)
    groups = np.zeros((10, 100, 200))
    for j, case in enumerate(cases):
        for i, group in enumerate([case.candidate, *case.drawn.groups]):
            groups[j, i, list(group)] = 1
    damage = np.einsum("jgu,uw->wjg", groups, np.random.default_rng(0).standard_normal((200, worlds)), optimize=True)
    controls, wide = damage[:, :, 1:], inflation([(195, 5)])
    controls = controls.mean(axis=2, keepdims=True) * (1 - wide) + controls * wide
    passed = sum(min(max_t(own[:, 0], against)) <= 0.05 for own, against in zip(damage, controls, strict=True))
    assert binom(worlds, 0.05).ppf(0.001) <= passed <= binom(worlds, 0.05).ppf(0.999)


def test_nobody_passes_more_often_than_the_level_when_nothing_is_a_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted null worlds: 60 pairs that are all alike. One of the first three, of 60, reaches the level: 3 / 60."""
    monkeypatch.setattr("harness.closure.statistics.RESAMPLES", 99)  # every example changes alike
    pairs = tuple((i, i + 1) for i in range(2, 120, 2))  # 59 controls
    passes = 0
    for world in range(180):
        changes = np.random.default_rng(world).normal(-1.0, 0.1, 120)
        subject = Additive({"target_logit": changes, "loss": -changes}, {"target_logit": 4.0, "loss": 1.0})
        subject.units = UnitSpace.heads([120])
        verdict = trial(subject, [LOGIT, LOSS], Given(pairs), alpha=0.05).verdict
        assert verdict in (Verdict.PASS, Verdict.NOT_SPECIFIC)
        passes += verdict is Verdict.PASS
    low, high = binom(180, 3 / 60).interval(0.99)
    assert low <= passes <= high
