"""Strata of examples, and the examples that a group is judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import HarnessError, Recording, Strata, UnitSpace, method
from harness.cells.inputs import cache_of
from harness.cells.progress import Progress
from harness.closure.trial import Trial
from harness.closure.verdict import Verdict
from harness.data.recording import Activity
from harness.notebook.choices import cell_of
from harness.pipeline import run_cell
from harness.testing import examples
from harness.util.cache import Memo

pytestmark = pytest.mark.unchecked

PLANTED = ("subject=planted", "batch=planted", "batch.n=256", "reruns=1", "controls.n=19", "tracking=none")


def run(folder: Path, *words: str) -> Any:
    cell = cell_of((*PLANTED, f"workspace={folder}", *words), {})
    return run_cell(cell, Memo(disk=cache_of(cell)), Progress(quiet=True))


def test_every_stratum_is_proposed_on_by_itself(tmp_path: Path) -> None:
    result = run(tmp_path, "stratifier=groups", "stratifier.by=stratum", "scope=stratum", "stratifier.smallest=10")
    strata = [proposal.stratum for proposal in result.proposals]
    assert strata == ["0", "1", "2", "3"]
    sizes = [len(proposal.batch) for proposal in result.proposals]
    assert sum(sizes) == 128
    for proposal in result.proposals:
        assert set(proposal.batch.groups["stratum"].tolist()) == {int(proposal.stratum)}
    for report in result.record.closure:
        assert report.scope == "stratum"
        assert report.n_examples == report.n_tested < 128
    chosen = [partition for partition in result.record.partitions if partition.chosen]
    assert [partition.stratum for partition in chosen] == strata
    assert {candidate.stratum for candidate in result.record.candidates} <= set(strata)


def test_with_scope_all_groups_of_every_stratum_are_judged_on_all_examples(tmp_path: Path) -> None:
    result = run(tmp_path, "stratifier=groups", "stratifier.by=stratum", "stratifier.smallest=10")
    assert {report.n_examples for report in result.record.closure} == {128}
    assert {report.scope for report in result.record.closure} == {"all"}


def test_without_strata_all_examples_are_the_stratum(tmp_path: Path) -> None:
    """So that one sweep has proposals on all examples beside those on strata, judged by one protocol."""
    inside, whole = (run(tmp_path, f"scope={scope}", "strata_null=9").record for scope in ("stratum", "all"))
    assert [(report.scope, report.stratum) for report in inside.closure] == [("all", "")] * len(whole.closure)
    assert [report.effects for report in inside.closure] == [report.effects for report in whole.closure]
    assert inside.strata_null is None


def test_labels_are_those_of_all_examples(tmp_path: Path) -> None:
    divided = run(tmp_path, "stratifier=groups", "stratifier.by=stratum", "stratifier.smallest=10", "labels=truth")
    whole = run(tmp_path, "labels=truth")
    assert divided.record.classes == whole.record.classes


def test_a_routed_circuit_does_damage_in_its_stratum_only(tmp_path: Path) -> None:
    """Planted worlds use their routed circuit on the examples of stratum 0 alone."""
    subject = method("subject", "planted")()
    group = ",".join(subject.units.names(subject.groups["routed"][0]))
    result = run(
        tmp_path, f"group=[{group}]", "stratifier=groups", "stratifier.by=stratum", "scope=stratum", "batch.n=512"
    )
    delta = {report.stratum: report.effects["target_logit"].delta for report in result.record.closure}
    assert delta["0"] < -1
    assert max(abs(delta[name]) for name in "123") < 0.05 * abs(delta["0"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("stratifier=groups", "stratifier.by=document"),
            "stratifier.by=document: the examples of batch planted do not have this property",
        ),
        (
            ("stratifier=groups", "stratifier.by=stratum", "stratifier.smallest=100"),
            r"groups \(stratum\): none of 4 strata has 100",
        ),
        (("stratifier=kmeans", "stratifier.reads=router"), "stratifier reads 'router', which subject planted"),
        (
            ("scope=active", "signal=participation_ratio", "group=[L0H0,L1H1]"),
            "no activity of its units on single examples",
        ),
    ],
)
def test_strata_that_cannot_be_formed_are_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        run(tmp_path, *words)


def test_a_rule_that_returns_other_than_one_stratum_per_example_is_refused() -> None:
    recording = Recording(examples.batch(), examples.UNITS, {})
    for rule in (lambda _: np.zeros(3, dtype=int), lambda r: np.full(len(r.batch), 2), lambda _: np.zeros(24)):
        with pytest.raises(HarnessError, match="a rule of strata returned"):
            Strata(("a", "b"), rule).of(recording)
    with pytest.raises(HarnessError, match="names that differ"):
        Strata(("a", "a"), lambda r: np.zeros(len(r.batch), dtype=int))


# ----------------------------------------------------------------------------------------------------------------------
# The examples that a group is judged on
# ----------------------------------------------------------------------------------------------------------------------

UNITS = UnitSpace.heads([4])
ACTIVE = np.array([[1, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]], dtype=float)  # [examples, units]
DAMAGE = np.array([8.0, 4.0, 2.0, 1.0])  # a unit's damage on each example


def trial(scope: Any) -> Trial:
    def evaluate(batch: Any, conditions: Any, *_: Any) -> np.ndarray:
        return np.stack([[10 - DAMAGE * len(group) for group in conditions]])

    return Trial(
        UNITS,
        evaluate,
        examples.batch(4),
        method("intervention", "zero"),
        method("controls", "layer_matched"),
        [method("metric", "accuracy")],
        alpha=0.5,
        futility=None,
        activity=Activity(ACTIVE, UNITS),
        scope=scope,
    )


def test_a_group_and_its_controls_are_judged_each_on_their_own_active_examples() -> None:
    from harness.closure.cases import cases_of
    from harness.closure.report import close

    (found,) = close(cases_of([(0,)], trial("active")), trial("active"), lambda _: None)
    effect = found.report.effects["accuracy"]
    assert found.report.n_examples == 2
    assert effect.delta == -6.0  # the mean of 8 and 4: unit 0 is active on the first two examples
    assert sorted(effect.controls) == [-2.5, -1.5, 0.0]  # unit 2: 4 and 1; unit 1: 2 and 1; unit 3: never active
    assert effect.baseline == 10.0
    assert effect.statistic == 6.0
    assert [-(value or 0.0) for value in effect.statistics] == list(effect.controls)  # T of one unit is its damage
    (whole,) = close(cases_of([(0,)], trial("all")), trial("all"), lambda _: None)
    assert {whole.report.effects["accuracy"].delta, *whole.report.effects["accuracy"].controls} == {-3.75}


def test_a_group_that_is_never_active_is_underpowered() -> None:
    from harness.closure.cases import cases_of
    from harness.closure.report import close

    (found,) = close(cases_of([(3,)], trial("active")), trial("active"), lambda _: None)
    assert (found.report.verdict, found.report.n_examples) == (Verdict.UNDERPOWERED, 0)
    assert found.report.reason == "The group is active on no example."


# ----------------------------------------------------------------------------------------------------------------------
# The examples on which a group is most active
# ----------------------------------------------------------------------------------------------------------------------


def test_the_examples_on_which_a_candidate_is_most_active_are_those_of_its_activity(tmp_path: Path) -> None:
    result = run(tmp_path)
    candidate, proposal = result.record.candidates[0], result.proposals[0]
    activity = proposal.measured.values[:, list(UnitSpace.find(proposal.units, candidate.units))]
    unit = candidate.units[0]
    best = activity[:, 0].argmax()
    assert candidate.unit_most_active[unit][0].example == best
    assert candidate.unit_most_active[unit][0].activity == activity[best, 0]
    scores = ((activity - activity.mean(axis=0)) / activity.std(axis=0)).mean(axis=1)
    assert candidate.most_active[0].example == scores.argmax()
    shown = candidate.most_active[0].shown
    assert shown.endswith(f" → {proposal.batch.target[scores.argmax()]}")


def test_cells_that_judge_groups_on_their_own_examples_are_not_compared(tmp_path: Path) -> None:
    from harness.board.compare_cells import compare_cells
    from harness.records.workspace import Workspace

    record = run(tmp_path, "scope=active", "group=[L2H4,L2H9]").record
    with pytest.raises(HarnessError, match="judges each group on its own active examples"):
        compare_cells(record, record, Workspace.at(str(tmp_path)))
