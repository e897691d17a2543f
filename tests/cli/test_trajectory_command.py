"""`harness trajectory`: classes of heads through training, from a sweep over checkpoints to a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.records.workspace import Workspace

Run = Callable[..., Any]
SWEEP = (
    *("experiment=trajectory", "subject=tiny_retrieval", "subject.heads=2", "batch=key_retrieval", "batch.n=40"),
    *("controls.n=19", "tracking=none", "workspace=w"),
)  # eight heads: closure takes half a second; the text (documentation of Python) is read once, in seconds
HUB = ("subject=hf", "subject.path=model", "subject.history=[step1,main]")


def test_a_sweep_over_checkpoints_becomes_a_page(harness: Run) -> None:
    assert harness("sweep", *SWEEP, "subject.checkpoint=0,400").code == 0
    records, _ = Workspace(Path("w")).records()
    first, last = sorted(records, key=lambda record: int(record.provenance["step"]))
    assert [record.provenance["step"] for record in (first, last)] == [0, 400]
    assert first.classes == last.classes  # those of the last checkpoint
    assert [report.units for report in first.closure] == [report.units for report in last.closure]
    answer = harness("trajectory", "workspace=w", "out=o", "--json")
    assert answer.code == 0
    (data,) = answer.data["trajectories"]
    text = Path("o/trajectory.md").read_text()
    assert (data["subject"], data["signal"]) == ("tiny_retrieval-2-heads-0", "participation_ratio")
    for course in data["courses"]:
        for point, record in zip(course["points"], (first, last), strict=True):
            closed = next(report for report in record.closure if list(report.units) == course["units"])
            assert (point["verdict"], point["cell"]) == (closed.verdict.value, record.cell.id)
            group = record.diagnostics["groups"][" ".join(course["units"])]
            assert point["selectivity"]["value"] == group["selectivity"][course["name"]][0]
            assert point["score"] == {"value": group["score"][0], "interval": group["score"][1:]}
        assert f"### {course['name']}: {' '.join(course['units'])}" in text
    page = Path("o/trajectory.html").read_text()
    assert "<svg" in page
    assert "First attention of their class" in page
    assert Path("o/trajectory-1.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trajectory", "workspace=nothing"), "holds no records"),
        (("run", "subject=planted", "batch=planted", "labels=final_survey", "tracking=none"), "has no checkpoints"),
        (
            ("plan", *HUB, "labels=final_survey"),
            None,  # nothing is read before the cell runs
        ),
        (
            ("run", *HUB, "labels=final_survey", "tracking=none"),
            "subject.history: the name of revision 'main' does not say its step.",
        ),
        (
            ("run", *SWEEP[1:], "labels=final_survey", "partitioner=oracle", "labels.threshold=1e12"),
            "no unit has a class",
        ),
    ],
)
def test_bad_input_is_one_sentence(harness: Run, words: tuple[str, ...], said: str | None) -> None:
    answer = harness(*words)
    assert answer.code == (2 if said else 0)
    assert said is None or said in answer.err
    assert "Traceback" not in answer.err


def test_one_checkpoint_is_no_trajectory(harness: Run) -> None:
    assert harness("sweep", *SWEEP, "subject.checkpoint=400").code == 0
    answer = harness("trajectory", "workspace=w")
    assert (answer.code, answer.err.count("\n")) == (2, 2)
    assert "tiny_retrieval-2-heads-0: there is one checkpoint only, step 400." in answer.err
