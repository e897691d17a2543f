"""Outcomes of ablations that any cell has asked for: a condition is evaluated once per model, examples and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.cells.progress import Progress
from harness.cells.spent import of_closure
from harness.data.batch import Batch
from harness.data.stages import Intervention, Metric, Subject, Tick, inputs_of
from harness.util.cache import Entry, Memo
from harness.util.digest import digest
from harness.util.fingerprint import identity

Condition = tuple[int, ...]
Outcomes = dict[Condition, Float[np.ndarray, "metrics examples"]]


class Remembering:
    """A subject that evaluates only the conditions whose outcome nobody knows; in all else the one it stands for.

    Two methods that propose the same group, or share controls, have it tested once. ``progress`` is told what was asked
    for (conditions; forwards, one per example and condition; FLOPs, where they are known) and how many conditions were
    computed. ``key`` is the subject's identity.
    """

    def __init__(self, subject: Subject, key: Sequence[Any], memo: Memo, progress: Progress) -> None:
        self.label, self.units, self.about = subject.label, subject.units, subject.about
        self.vocab_size, self.context, self.encode = subject.vocab_size, subject.context, subject.encode
        self.record, self.truth, self.model = subject.record, subject.truth, subject.model
        self._subject, self._key, self._memo, self._progress = subject, key, memo, progress

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[Condition],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric on every example under every condition, as the subject itself would give them."""
        averaged = "mean" in inputs_of(type(intervention)) and intervention.over == "reference"
        told = [identity(intervention), [identity(metric) for metric in metrics]]
        context = digest(self._key, batch.digest, told, reference.digest if averaged and reference else None)
        known = self._known(context)
        missing = [group for group in dict.fromkeys(conditions) if group not in known]
        self._progress.spend(
            conditions=len(conditions),
            computed=len(missing),
            forwards=len(batch) * len(conditions),
            flops=of_closure(self._subject, batch, conditions, intervention, reference),
        )
        tick(len(batch) * (len(conditions) - len(missing)))
        if missing:
            values = self._subject.evaluate(batch, missing, intervention, metrics, tick, reference)
            known |= dict(zip(missing, values.swapaxes(0, 1), strict=True))
            self._memo.disk.write("outcome", f"{context}/{digest(missing)[:16]}", Entry({"values": values}, missing))
        values = np.empty((len(metrics), len(conditions), len(batch)))
        for place, group in enumerate(conditions):
            values[:, place] = known[group]
        return values

    def _known(self, context: str) -> Outcomes:
        """Outcomes by condition, with those that other processes have written since."""
        disk = self._memo.disk
        if disk.folder is None:
            return {}
        known: Outcomes
        known, read = self._memo.get("outcome", (disk.folder, context), lambda: ({}, set[str]()))
        for key in disk.keys("outcome", context):
            if key not in read and (entry := disk.read("outcome", key)):
                read.add(key)
                known |= dict(zip(map(tuple, entry.about), entry.arrays["values"].swapaxes(0, 1), strict=True))
        return known
