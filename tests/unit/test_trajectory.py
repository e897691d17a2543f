"""Classes through training, from records: which records belong together, which are refused, what is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.board.claims import training
from harness.board.claims.claim import Answer
from harness.board.emergence import Crossing, Figure
from harness.board.equal_weights import equal_weights, sentence
from harness.board.trajectory import trajectories_of
from harness.board.trajectory_page import across, as_data, as_markdown, sentences
from harness.closure.verdict import Verdict
from harness.records.record import Record, adapter
from harness.util.errors import HarnessError

Make = Callable[..., Record]
INDUCTION, SELF = ("L0H0", "L0H1"), ("L1H0",)
CLASSES = ("induction", "induction", "self", "unclassified", "unclassified")
STEPS = (0, 100, 200, 400)
RATIOS = {0: (1.0, 1.0), 100: (90.0, 2.0), 200: (95.0, 3.0), 400: (99.0, 80.0)}
RICHNESS = {0: 9.0, 100: 2.0, 200: 12.0, 400: 16.0}
ACCURACY = {0: 0.0, 100: 0.0, 200: 0.1, 400: 1.0}
VERDICTS = {
    0: (Verdict.TASK_NOT_DONE, Verdict.TASK_NOT_DONE),
    100: (Verdict.NULL, Verdict.WEAK_PASS),
    200: (Verdict.PASS, Verdict.NOT_SPECIFIC),
    400: (Verdict.PASS, Verdict.PASS),
}


@pytest.fixture
def at(make_record: Make, make_effect: Callable[..., Any]) -> Make:
    """The record of a checkpoint, with changes."""

    def at(step: int, controls: str = "layer_matched", verdicts: Any = None, **changes: Any) -> Record:
        effects = {"target_logit": make_effect(statistic=1.5), "accuracy": make_effect(baseline=ACCURACY[step])}
        made = make_record(
            cell=f"cell{step:03}{controls}", effects=effects, controls={"name": controls}, subject=f"toy@step-{step}"
        )
        ratios, rich = RATIOS[step], RICHNESS[step]
        groups = {
            " ".join(units): {
                "selectivity": {
                    "induction": [ratios[0], ratios[0] / 2, ratios[0] * 2],
                    "self": [ratios[1], ratios[1] / 2, ratios[1] * 2],
                    "local": [1.0, 1.0, 1.0],
                },
                "signal": "participation_ratio",
                "score": [rich, rich - 1, rich + 1],
            }
            for units in (INDUCTION, SELF)
        }
        closures = tuple(
            replace(made.closure[0], units=units, verdict=verdict)
            for units, verdict in zip((INDUCTION, SELF), verdicts or VERDICTS[step], strict=True)
        )
        about = {"weights": f"sha256:{step}"}
        return replace(
            made,
            closure=closures,
            classes=CLASSES,
            config={**made.config, "subject": {"name": "toy", "checkpoint": step}},
            diagnostics={"groups": groups},
            provenance={**made.provenance, "step": step, "subject": about},
            **changes,
        )

    return at


def test_a_class_is_followed_in_order_of_steps(at: Make) -> None:
    (found,) = trajectories_of([at(step) for step in (200, 0, 400, 100)])
    assert (found.subject, found.metric, found.steps) == ("toy", "target_logit", list(STEPS))
    induction, itself = found.courses
    assert (induction.name, induction.units, itself.units) == ("induction", INDUCTION, SELF)
    assert [point.verdict for point in induction.points] == [VERDICTS[step][0] for step in STEPS]
    assert induction.points[1].selectivity == Figure(90.0, (45.0, 180.0))
    assert induction.points[1].damage == Figure(2.0, (1.5, 2.5))  # the logit falls from 4 to 2 [-2.5, -1.5]
    assert (induction.selective, induction.needed) == (Crossing(100, 0), Crossing(200, 100))
    assert (itself.selective, itself.needed) == (Crossing(400, 200), Crossing(100, 0))
    assert induction.rich == Crossing(400, 200)
    assert induction.score_risen == Crossing(200, 100)  # from 2 to 16: half is 9
    assert found.accuracy_risen == Crossing(400, 200)
    assert found.nobody == ("local",)


def test_the_sentences_say_what_comes_first_and_what_is_decoupled(at: Make) -> None:
    (found,) = trajectories_of([at(step) for step in STEPS])
    assert list(sentences(found)) == [
        "First attention of their class: induction at 100, self at 400.",
        "First function: self at 100, induction at 200.",
        "Form without function: induction at 100.",
        "Function without form: self at 100.",
        "PR leads accuracy (half risen at 400 (after 200)) by steps: induction +200, self +200.",
        "No unit has these classes at the last checkpoint: local.",
    ]
    data = as_data([found])
    assert data[0]["decoupled"] == [
        {"class": "induction", "step": 100, "what": "form without function"},
        {"class": "self", "step": 100, "what": "function without form"},
    ]
    assert "| 100 " in as_markdown([found])


def test_a_class_that_fills_its_site_is_judged_by_wider_groups_where_there_are_cells(at: Make) -> None:
    none = (Verdict.UNDERPOWERED, Verdict.NULL)
    narrow = [at(step, verdicts=none) for step in STEPS]
    (alone,) = trajectories_of(narrow)
    assert [point.verdict for point in alone.courses[0].points] == [Verdict.UNDERPOWERED] * 4
    assert any(sentence.startswith("Underpowered: induction: ") for sentence in sentences(alone))
    wide = [at(step, "depth_band", verdicts=(Verdict.PASS, Verdict.PASS)) for step in STEPS]
    for records in (narrow + wide, wide + narrow):
        (both,) = trajectories_of(records)
        induction, itself = both.courses
        assert [(point.verdict, point.other) for point in induction.points] == [(Verdict.PASS, "depth_band")] * 4
        assert [(point.verdict, point.other) for point in itself.points] == [(Verdict.NULL, "")] * 4


def test_records_that_follow_no_class_are_left_out(at: Make, make_record: Make) -> None:
    other = replace(at(0), closure=(replace(at(0).closure[0], units=("L0H0",)),), cell=replace(at(0).cell, id="other"))
    (found,) = trajectories_of([*(at(step) for step in STEPS), make_record(), other])
    assert [course.units for course in found.courses] == [INDUCTION, SELF]
    assert len(found.courses[0].points) == 4


def test_seeds_of_a_model_are_trajectories_of_their_own(at: Make) -> None:
    records = [at(step) for step in STEPS]
    again = [
        replace(record, config={**record.config, "subject": {**record.config["subject"], "seed": 1}})
        for record in records
    ]
    both = trajectories_of(records + again)
    assert len(both) == 2
    assert list(across(both)) == [
        "induction, in 2 of 2 trajectories: attention before function 2, at the same checkpoint 0, after it 0; "
        "attention only 0.",
        "self, in 2 of 2 trajectories: attention before function 0, at the same checkpoint 0, after it 2; "
        "attention only 0.",
    ]
    assert not list(across(both[:1]))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "one checkpoint only, step 100"),
        ({"units": ("L0H0", "L0H1", "L1H0", "L1H1", "L9H9")}, "other units"),
        ({"classes": ("induction", "induction", "self", "self", "unclassified")}, "other classes at the last"),
        ({"provenance": {"step": 400, "subject": {"weights": "sha256:100"}}}, "steps 100 and 400 .* equal weights"),
    ],
)
def test_what_is_no_trajectory_is_refused_in_a_sentence(at: Make, changed: dict[str, Any], words: str) -> None:
    records = [at(100)] + ([replace(at(400), **changed)] if changed else [])
    with pytest.raises(HarnessError, match=words) as raised:
        trajectories_of(records)
    assert raised.value.fix


def test_without_a_record_that_follows_classes_the_command_is_named(make_record: Make) -> None:
    with pytest.raises(HarnessError, match="none of the 1 records follows classes") as raised:
        trajectories_of([make_record()])
    assert "experiment=trajectory" in raised.value.fix


def test_a_record_with_figures_of_groups_is_read_as_it_was_written(at: Make) -> None:
    record = at(100)
    assert adapter().validate_json(record.to_json()).diagnostics == record.diagnostics


def test_equal_weights_at_two_steps_are_named_whatever_the_models_are_called(at: Make, make_record: Make) -> None:
    same = replace(at(400), provenance={**at(400).provenance, "subject": {"weights": "sha256:100"}})
    (pair,) = equal_weights([at(0), same, at(100), at(100, "depth_band"), make_record()])
    assert sentence(pair).startswith("toy@step-100 and toy@step-400: the checkpoints at steps 100 and 400 have equal")
    assert not list(equal_weights([at(step) for step in STEPS]))


def test_the_papers_claim_needs_both_directions(at: Make, make_record: Make) -> None:
    found = training.judge([at(step) for step in STEPS])
    assert found is not None
    assert found.answer is Answer.SUPPORTED
    assert found.evidence == (
        "form without function: toy, induction at step 100; function without form: toy, self at step 100"
    )
    assert found.cells == (at(100).cell.id,)
    later = training.judge([at(step) for step in (0, 200, 400)])
    assert later is not None
    assert later.answer is Answer.NOT_SUPPORTED
    assert training.judge([make_record()]) is None
