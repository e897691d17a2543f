"""The contract suite finds batches and labels that violate it, and skips those that need parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from harness.data.batch import Batch
from harness.data.grouping import Affinity, Labels
from harness.data.recording import Recording, Rows, Source, Spins
from harness.testing import examples
from harness.testing.contracts import Finding
from harness.util.errors import HarnessError

ANSWERS = "answers ordinary input"
TWICE = "gives the same result twice"


class BatchOf:
    """Random tokens."""

    name: ClassVar[str] = "batch"
    n: int = field(default=8, metadata={"help": "examples"})

    def __call__(self, vocabulary: Any) -> Batch:
        batch = examples.batch(self.n, vocabulary.vocab_size)
        return self.spoil(batch, vocabulary)

    def spoil(self, batch: Batch, vocabulary: Any) -> Batch:
        return batch


class Foreign(BatchOf):
    """Uses tokens outside the vocabulary."""

    def spoil(self, batch: Batch, vocabulary: Any) -> Batch:
        return replace(batch, tokens=batch.tokens + vocabulary.vocab_size)


class Stingy(BatchOf):
    """Returns fewer examples than requested."""

    def spoil(self, batch: Batch, vocabulary: Any) -> Batch:
        return batch.take(np.arange(3))


class Fresh(BatchOf):
    """Returns different examples at each call."""

    def spoil(self, batch: Batch, vocabulary: Any) -> Batch:
        return replace(batch, target=np.random.default_rng().integers(0, vocabulary.vocab_size, self.n))


class Wide(BatchOf):
    """Assumes a large vocabulary."""

    def spoil(self, batch: Batch, vocabulary: Any) -> Batch:
        return replace(batch, target=np.full(self.n, 100))


BATCHES = {
    Foreign: (ANSWERS, "outside the subject's vocabulary"),
    Stingy: (ANSWERS, "returns 3 examples, not the requested 8"),
    Fresh: (TWICE, "two calls with the same input differ"),
    Wide: ("answers or refuses a small vocabulary", "target 100 is outside"),
}


class LabelsOf:
    """The class of a head by where it attends."""

    name: ClassVar[str] = "labels"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values[:, :, :1]

    def __call__(self, recording: Recording) -> Labels:
        first = recording.readings["labels"].mean(axis=(0, 2))
        return Labels(tuple("first" if share > 0.02 else None for share in first), recording.units)


class Forgetting(LabelsOf):
    """Returns no class for the last unit."""

    def __call__(self, recording: Recording) -> Labels:
        return Labels(super().__call__(recording).classes[:-1], recording.units)


class Numbering(LabelsOf):
    """Returns numbers as classes."""

    def __call__(self, recording: Recording) -> Any:
        labels = super().__call__(recording)
        object.__setattr__(labels, "classes", tuple(range(len(recording.units))))
        return labels


class PartLabels(LabelsOf):
    """Compares an example with the others of its micro-batch."""

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values[:, :, :1] * (len(rows.batch) > 4)


LABELS = {
    Forgetting: (ANSWERS, "23 classes for 24 units"),
    Numbering: (ANSWERS, "classes must be names or None"),
    PartLabels: ("does not depend on micro batches", "depend on the micro-batches"),
}


CORRECT = {"batch": BatchOf, "labels": LabelsOf}
OFFENDERS = {"batch": BATCHES, "labels": LABELS}
for frozen in (*CORRECT.values(), *(cls for classes in OFFENDERS.values() for cls in classes)):
    dataclass(frozen=True)(frozen)


def test_the_correct_versions_of_the_offenders_pass(
    stage: str, cls: type, findings: Callable[[str, type], list[Finding]]
) -> None:
    assert [finding for finding in findings(stage, cls) if finding.outcome == "failed"] == []


def test_an_offender_fails_the_expected_check(
    stage: str, cls: type, check: str, reason: str, assert_fails: Callable[[str, type, str, str], None]
) -> None:
    assert_fails(stage, cls, check, reason)


class Homeless:
    """Requires a path."""

    name: ClassVar[str] = "homeless"

    def __call__(self) -> Any:
        raise HarnessError("subject.path is empty: which model?")


class Particular:
    """Cannot be built without parameters."""

    name: ClassVar[str] = "particular"
    path: str = field(default="", metadata={"help": "of a matrix"})

    def __post_init__(self) -> None:
        if not self.path:
            raise HarnessError("affinity.path is empty: which matrix?")

    def __call__(self, spins: Spins) -> Affinity:
        raise NotImplementedError


for frozen in (Homeless, Particular):
    dataclass(frozen=True)(frozen)


def test_a_method_with_required_parameters_is_skipped_with_a_reason(
    findings: Callable[[str, type], list[Finding]],
) -> None:
    last = findings("subject", Homeless)[-1]
    assert (last.outcome, "subject.path is empty" in last.reason) == ("skipped", True)
    last = findings("affinity", Particular)[-1]
    assert (last.outcome, "affinity.path is empty" in last.reason) == ("skipped", True)
