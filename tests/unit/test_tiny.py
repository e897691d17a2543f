"""The embedded model: circuits that exist after training and form during it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.grouping import Labels
from harness.engine.subject import HeadSubject
from harness.registry.config import registry

WEIGHTS = Path(__file__).resolve().parents[2] / "plugins/subjects/tiny/weights"
LOG = json.loads((WEIGHTS / "training_log.json").read_text(encoding="utf-8"))


def build(stage: str, name: str, **parameters: Any) -> Any:
    return registry().get(stage, name).build(parameters)


def accuracy(checkpoint: str) -> float:
    """Top-1 accuracy at the query of examples not used in training (a different seed from the log's)."""
    subject: HeadSubject = build("subject", "tiny", checkpoint=checkpoint)()
    batch = build("batch", "synthetic_induction", n=64, seed=7)(subject.reads)
    hits = subject.evaluate(batch, [()], build("intervention", "zero"), [build("metric", "accuracy")])
    return float(hits.mean())


@pytest.fixture(scope="module")
def labels() -> Labels:
    subject = build("subject", "tiny")()
    survey = build("labels", "survey")
    batch = build("batch", "synthetic_induction", n=128, seed=7)(subject.reads)
    found: Labels = survey(subject.record(batch, {"labels": survey}))
    return found


def test_the_survey_finds_induction_previous_token_and_first_token_heads(labels: Labels) -> None:
    assert {"induction", "previous-token", "first-token"} <= set(Counter(labels.classes))


def test_the_log_and_a_survey_of_other_examples_name_the_same_induction_heads(labels: Labels) -> None:
    found = {labels.units.labels[i] for i, name in enumerate(labels.classes) if name == "induction"}
    assert found == {head for head, ratios in LOG["heads"].items() if max(ratios, key=ratios.get) == "induction"
                     and ratios["induction"] >= 30}  # fmt: skip


def test_the_last_checkpoint_copies_and_the_first_does_not() -> None:
    assert accuracy("final") > 0.9
    assert accuracy("0") < 0.1


def test_the_loss_on_held_out_text_is_far_below_the_entropy_of_single_tokens() -> None:
    assert LOG["final"]["text_loss"] < LOG["final"]["unigram_entropy"] - 1.5


def test_the_checkpoints_begin_at_initialisation_and_cover_the_phase_change() -> None:
    steps = sorted(int(folder.name.removeprefix("step-")) for folder in (WEIGHTS / "checkpoints").iterdir())
    assert steps == LOG["checkpoints"]
    assert steps[0] == 0
    assert len(steps) >= 8
    at = {row["step"]: row["induction_accuracy"] for row in LOG["history"]}
    assert np.ptp([at[step] for step in steps]) > 0.9
    assert any(0.1 < at[step] < 0.9 for step in steps)


def test_the_model_card_has_the_numbers_of_the_log() -> None:
    from harness_plugins.subjects.tiny.card import card

    assert card(LOG) == (WEIGHTS / "README.md").read_text(encoding="utf-8")


def test_all_shipped_weights_together_stay_under_20_megabytes() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) < 20e6
