"""What a cell asks of its model, in FLOPs by its shapes: whether or not another cell has computed it before.

Any subject may be asked; only of a :class:`harness.engine.subject.HeadSubject` they are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.batch import Batch
from harness.data.recording import Reader
from harness.data.sampling import Group
from harness.data.stages import Intervention, uses_other_runs
from harness.engine.flops import Work, closure, forward_pass, with_gradient
from harness.engine.shapes import Shapes, of_config


def of_recording(subject: Any, batch: Batch, readers: Mapping[str, Reader]) -> int | None:
    """One pass of a batch for these readers; None where the subject's FLOPs are not known."""
    shapes = _shapes(subject, {"trunk"})
    if shapes is None or not readers:
        return None
    made = with_gradient if any(reader.source == "first_order" for reader in readers.values()) else forward_pass
    return made(shapes, len(batch), _length(batch), subject.room).flops


def of_closure(
    subject: Any, batch: Batch, conditions: Sequence[Group], intervention: Intervention, reference: Batch | None
) -> int | None:
    """These conditions on a batch, with what the intervention puts in their place; None as above."""
    at_query = intervention.positions == "query"
    shapes = _shapes(subject, {"trunk", "inside", "tail"} | ({"past"} if at_query else set()))
    if shapes is None:
        return None
    room, others = subject.room, Work()
    if uses_other_runs(intervention):
        of = reference if reference is not None and intervention.over == "reference" else batch
        others = forward_pass(shapes, len(of), _length(of), room)
    return (others + closure(shapes, len(batch), _length(batch), conditions, room, at_query)).flops


def _shapes(subject: Any, needed: set[str]) -> Shapes | None:
    """Shapes of a loaded transformer that lets conditions share what is counted as shared."""
    model = subject.model
    if model is None or not needed <= {*subject.about.get("shares", ())}:
        return None
    return of_config(model.config.to_dict())


def _length(batch: Batch) -> int:
    """Tokens up to the query, itself counted, on average: what is computed of an example."""
    return round(float(batch.query.mean())) + 1
