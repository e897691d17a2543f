"""Outcomes of ablations: a condition is evaluated once per subject, batch and metrics, whichever cell asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.cells.progress import Progress
from harness.cells.spent import of_closure
from harness.data.batch import Batch
from harness.data.contracts import Intervention, Metric, Subject, Tick
from harness.data.fitting import CONSTANT
from harness.data.stages import inputs_of
from harness.util.cache import Entry, Memo
from harness.util.digest import digest
from harness.util.fingerprint import identity

Condition = tuple[int, ...]
Outcomes = dict[Condition, Float[np.ndarray, "metrics examples"]]


def cached_evaluate(
    subject: Subject,
    key: Sequence[Any],
    memo: Memo,
    progress: Progress,
    batch: Batch,
    conditions: Sequence[Condition],
    intervention: Intervention,
    metrics: Sequence[Metric],
    tick: Tick,
    reference: Batch | None = None,
) -> Float[np.ndarray, "metrics conditions examples"]:
    """Every metric on every example under every condition, as ``subject.evaluate`` gives them.

    A group that several methods propose, or use as a control, is evaluated once. ``key`` is the subject's identity.
    ``progress`` counts the conditions requested and computed, the forwards (one per example and condition) and the
    FLOPs, where they are known.
    """
    takes_over = {"mean", CONSTANT} & {*inputs_of(type(intervention))}
    over_reference = takes_over and intervention.over == "reference"
    methods = [identity(intervention), [identity(metric) for metric in metrics]]
    context = digest(key, batch.digest, methods, reference.digest if over_reference and reference else None)
    outcomes = _outcomes(memo, context)
    missing = [group for group in dict.fromkeys(conditions) if group not in outcomes]
    progress.spend(
        conditions=len(conditions),
        computed=len(missing),
        forwards=len(batch) * len(conditions),
        flops=of_closure(subject, batch, conditions, intervention, reference),
    )
    tick(len(batch) * (len(conditions) - len(missing)))
    if missing:
        values = subject.evaluate(batch, missing, intervention, metrics, tick, reference)
        outcomes |= dict(zip(missing, values.swapaxes(0, 1), strict=True))
        memo.disk.write("outcome", f"{context}/{digest(missing)[:16]}", Entry({"values": values}, missing))
    values = np.empty((len(metrics), len(conditions), len(batch)))
    for place, group in enumerate(conditions):
        values[:, place] = outcomes[group]
    return values


def _outcomes(memo: Memo, context: str) -> Outcomes:
    """Outcomes by condition, including those that other processes have written in the meantime."""
    disk = memo.disk
    if disk.folder is None:
        return {}
    outcomes: Outcomes
    outcomes, read = memo.get("outcome", (disk.folder, context), lambda: ({}, set[str]()))
    for key in disk.keys("outcome", context):
        if key not in read and (entry := disk.read("outcome", key)):
            read.add(key)
            outcomes |= dict(zip(map(tuple, entry.about), entry.arrays["values"].swapaxes(0, 1), strict=True))
    return outcomes
