"""What cells share: the subject, its batches and their recordings, made once per process and when first needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from harness.batch import Batch
from harness.cache import Memo
from harness.cell import Cell
from harness.errors import without_model
from harness.progress import Progress
from harness.recording import Recording
from harness.stages import BatchMethod, Subject


def load_subject(cell: Cell, memo: Memo, progress: Progress) -> Subject:
    """The subject, loaded once for all cells that ask for the same one."""
    subject: Subject
    with progress.step("subject", cell.describe("subject")):
        subject = memo.get("subject", repr(cell.stages["subject"]), cell.stages["subject"], keep=1)
    return subject


def write_batch(
    cell: Cell, subject: Subject, memo: Memo, progress: Progress, method: BatchMethod | None = None
) -> Batch:
    """The batch (or what another ``method`` writes), in the subject's tokens and checked against it.

    Errors: a subject without a model.
    """
    if not subject.vocab_size:
        raise without_model(subject.label)
    batch: Batch
    writer: BatchMethod = method or cell.stages["batch"]
    with progress.step("batch", writer.name if method else cell.describe("batch")):
        key = (repr(cell.stages["subject"]), repr(writer))
        batch = memo.get("batch", key, lambda: writer(subject))
        batch.check(subject)
    return batch


@dataclass(eq=False)
class Halves:
    """The examples to propose on and those to test on, written when first needed.

    A group named by hand is tested on all of them.
    """

    cell: Cell
    subject: Subject
    memo: Memo
    progress: Progress

    @cached_property
    def whole(self) -> Batch:
        """Every example."""
        return write_batch(self.cell, self.subject, self.memo, self.progress)

    @cached_property
    def _split(self) -> tuple[Batch, Batch]:
        if self.cell.settings.group or self.cell.settings.split == "none":
            return self.whole, self.whole
        return self.whole.halves(self.cell.settings.seed)

    @property
    def proposal(self) -> Batch:
        """What groups are proposed on."""
        return self._split[0]

    @property
    def test(self) -> Batch:
        """What they are tested on."""
        return self._split[1]

    @cached_property
    def elsewhere(self) -> Batch | None:
        """Examples of another kind, where the cell names some."""
        if self.cell.elsewhere is None:
            return None
        return write_batch(self.cell, self.subject, self.memo, self.progress, self.cell.elsewhere)


def record_batch(
    cell: Cell, subject: Subject, batch: Batch, stages: Sequence[str], memo: Memo, progress: Progress
) -> Recording:
    """One pass for all stages that read the model."""
    readers = {stage: cell.stages[stage] for stage in stages if hasattr(cell.stages[stage], "read")}
    key = (repr(cell.stages["subject"]), batch.digest, repr(readers))
    with progress.step("recording", f"{len(batch)} examples", total=len(batch)) as tick:
        recording: Recording = memo.get("recording", key, lambda: subject.record(batch, readers, tick))
    return recording


@contextmanager
def one_thread() -> Iterator[None]:
    """Numerical libraries on one thread: small fits in a loop are fifty times slower when threads fight over cores."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield
