"""What methods are given that ask for every checkpoint of a subject, and which histories are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from harness_plugins.labels.survey import Survey
from harness_plugins.subjects.hf import HuggingFace, step_in
from harness_plugins.subjects.mlp_layers import MLPLayers
from harness_plugins.subjects.tiny import Tiny
from harness_plugins.subjects.tiny_moe import TinyMoE
from harness_plugins.subjects.tiny_retrieval import TinyRetrieval

from harness.cells.cell import Cell
from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.data.contracts import SubjectMethod
from harness.data.history import History
from harness.engine.subject import HeadSubject
from harness.pipeline import run_cell
from harness.registry.config import registry, resolve
from harness.testing.contracts import check
from harness.util.cache import Cache, Memo
from harness.util.errors import HarnessError

pytestmark = pytest.mark.unchecked

LOG = Path(__file__).resolve().parents[2] / "plugins/subjects/tiny_retrieval/weights/2-heads/training_log.json"
RETRIEVAL = [row["step"] for row in json.loads(LOG.read_text(encoding="utf-8"))["seeds"][2]]
SMALL = ("batch.n=16", "batch.length=48", "labels=final_survey", "partitioner=oracle", "reruns=0", "tracking=none")


GROWTH = '''
from dataclasses import dataclass
from typing import ClassVar
from harness import Activity, History, Rows, Signal, Source, hookimpl

@dataclass(frozen=True)
class Growth(Signal):
    """Attention on the first key at the last checkpoint minus that at the first one."""
    name: ClassVar[str] = "zz_growth"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows):
        return rows.values[:, :, 0]

    def __call__(self, history: History) -> Activity:
        first, last = history.recordings[0], history.final
        return Activity(last.readings["signal"] - first.readings["signal"], first.units)

@hookimpl
def harness_signals():
    return [Growth]
'''


def cell(*overrides: str) -> Cell:
    return Cell.of(resolve([*SMALL, *overrides], registry()), registry())


def gathered(*overrides: str, memo: Memo | None = None) -> Inputs:
    return Inputs.gather(cell(*overrides), memo or Memo(), Progress(quiet=True), test=False)


def history_of(inputs: Inputs) -> History:
    found = inputs.history()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        (Tiny(), [0, 200, 400, 600, 800, 900, 1400, 2300, 2336]),
        (TinyMoE(), [0, 567, 1251, 1351, 1651, 2051]),
        (TinyRetrieval(seed=2, heads=2), RETRIEVAL),
        (MLPLayers(revision=800), [0, 200, 400, 600, 800, 900, 1400, 2300, 2336]),
    ],
)
def test_checkpoints_are_the_subject_at_the_steps_of_its_card(method: SubjectMethod, steps: list[int]) -> None:
    checkpoints = method.checkpoints()
    assert sorted(checkpoints) == steps
    assert {type(each) for each in checkpoints.values()} == {type(method)}
    assert len({each.fingerprint() for each in checkpoints.values()}) == len(steps)


def test_a_history_has_the_recording_of_each_checkpoint() -> None:
    inputs = gathered("subject.checkpoint=800")
    found = history_of(inputs)
    assert found.steps == (0, 200, 400, 600, 800, 900, 1400, 2300, 2336)
    for step in (0, 800, 1400):
        there = gathered(f"subject.checkpoint={step}")
        assert there.proposal_half is not None
        alone = there.record(there.proposal_half, there.readers("labels"))
        recording = found.recordings[found.steps.index(step)]
        np.testing.assert_array_equal(recording.readings["labels"], alone.readings["labels"])
        assert recording.batch.digest == alone.batch.digest
    some = found.take(np.array([3, 1])).final
    np.testing.assert_array_equal(some.readings["labels"], found.final.readings["labels"][[3, 1]])


def test_a_recording_is_cached_for_each_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Cache(tmp_path, 10**9)
    first = history_of(gathered(memo=Memo(disk=disk)))
    monkeypatch.setattr(HeadSubject, "record", lambda *_: pytest.fail("it was recorded before"))
    again = history_of(gathered("subject.checkpoint=800", memo=Memo(disk=disk)))
    for one, other in zip(first.recordings, again.recordings, strict=True):
        np.testing.assert_array_equal(one.readings["labels"], other.readings["labels"])


def test_classes_are_those_of_the_final_survey_and_selectivity_is_that_of_this_step() -> None:
    inputs, final = gathered("subject.checkpoint=600"), gathered()
    labels = inputs.labels_of_units()
    half = final.proposal_half
    assert half is not None
    at_end, now = (Survey()(each.record(half, {"labels": Survey()})) for each in (final, inputs))
    assert labels.classes == at_end.classes != now.classes
    for name, ratios in now.selectivity.items():
        np.testing.assert_array_equal(labels.selectivity[name], ratios)


def test_a_signal_of_another_plugin_is_given_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "growth.py"
    plugin.write_text(GROWTH)
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(plugin))
    growth = registry().get("signal", "zz_growth").cls
    assert check(growth) == []
    words = (
        "labels=survey",
        "signal=zz_growth",
        "binarizer=none",
        "affinity=pearson",
        "partitioner=leiden",
        "chooser=modularity",
    )
    outcome = run_cell(cell(*words), Memo(), Progress(quiet=True), test=False)
    first, last = (gathered("labels=none", f"subject.checkpoint={step}") for step in (0, "final"))
    on_first = []
    for inputs in (first, last):
        assert inputs.proposal_half is not None
        on_first.append(inputs.record(inputs.proposal_half, {"signal": growth()}).readings["signal"])
    np.testing.assert_array_equal(outcome.proposals[0].measured.values, on_first[1] - on_first[0])


@pytest.mark.parametrize(
    ("checkpoints", "words"),
    [
        ({1: Tiny(), 7: Tiny(checkpoint=800), 9: Tiny(checkpoint="step-000800")}, "steps 7 and 9 .* equal weights"),
        ({1: Tiny(), 7: TinyRetrieval(heads=2)}, "8 units, L0H0 to L3H1; tiny has 32 units, L0H0 to L3H7"),
    ],
)
def test_other_units_and_equal_weights_are_refused(
    checkpoints: dict[int, SubjectMethod], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tiny, "checkpoints", lambda _: checkpoints)
    with pytest.raises(HarnessError, match=words):
        gathered().history()


@pytest.mark.parametrize("subject", ["planted", "smollm2_wheel", "hf", "kv_groups subject.path=model"])
def test_a_subject_without_checkpoints_is_refused_before_it_is_loaded(subject: str) -> None:
    with pytest.raises(HarnessError, match=r"labels final_survey asks for .* has no checkpoints"):
        run_cell(cell(*f"subject={subject}".split()), Memo(), Progress(quiet=True))


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("step1000", 1000),
        ("step1000-tokens4B", 1000),
        ("stage1-step100000-tokens420B", 100000),
        ("step_0", 0),
        ("ckpt-300", 300),
        ("Step-007", 7),
    ],
)
def test_the_step_is_read_from_the_name_of_a_revision(revision: str, step: int) -> None:
    assert step_in(revision) == HuggingFace(revision=revision).step() == step


@pytest.mark.parametrize("revision", ["main", "", "a1b2c3d4", "step", "v1.0"])
def test_a_revision_that_does_not_say_its_step_is_refused_by_name(revision: str) -> None:
    with pytest.raises(HarnessError, match=f"revision '{revision}' does not say its step"):
        HuggingFace("model", history=("step1", revision)).checkpoints()


def test_two_revisions_of_one_step_are_refused() -> None:
    with pytest.raises(HarnessError, match="step1-tokens1B and step1 are both step 1"):
        HuggingFace("model", history=("step1-tokens1B", "step1")).checkpoints()


def test_the_list_of_revisions_leaves_older_cells_as_they_are() -> None:
    """A parameter at the default that came later does not enter the identity of a cell."""
    method = registry().get("subject", "hf")
    assert method.added == {"history": []}
