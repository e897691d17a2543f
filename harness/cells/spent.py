"""FLOPs of the ablations and recordings that a cell asks for, whether or not they were computed earlier.

They are counted from shapes, for a :class:`harness.engine.subject.HeadSubject`; those of other subjects are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from harness.data.batch import Batch
from harness.data.contracts import Intervention, Subject
from harness.data.recording import Reader
from harness.data.sampling import Group
from harness.data.stages import uses_other_runs
from harness.engine.flops import Work, closure, forward_pass, with_gradient
from harness.engine.shapes import Shapes, of_config

if TYPE_CHECKING:
    from harness.engine.budget import Budget
    from harness.engine.subject import HeadSubject


def of_recording(subject: Subject, batch: Batch, readers: Mapping[str, Reader]) -> int | None:
    """One recording of a batch for these readers; None where the subject's FLOPs are unknown."""
    sizes = _sizes(subject, {"trunk"})
    if sizes is None or not readers:
        return None
    needs_gradient = any(reader.source == "first_order" for reader in readers.values())
    count = with_gradient if needs_gradient else forward_pass
    shapes, budget = sizes
    return count(shapes, len(batch), _length(batch), budget).flops


def of_closure(
    subject: Subject, batch: Batch, conditions: Sequence[Group], intervention: Intervention, reference: Batch | None
) -> int | None:
    """These conditions on a batch, with the passes for donors or means; None where the subject's FLOPs are unknown."""
    at_query = intervention.positions == "query"
    sizes = _sizes(subject, {"trunk", "inside", "tail"} | ({"past"} if at_query else set()))
    if sizes is None:
        return None
    shapes, budget = sizes
    others = Work()
    if uses_other_runs(intervention):
        source = reference if reference is not None and intervention.over == "reference" else batch
        others = forward_pass(shapes, len(source), _length(source), budget)
    return (others + closure(shapes, len(batch), _length(batch), conditions, budget, at_query)).flops


def _sizes(subject: Subject, needed: set[str]) -> tuple[Shapes, Budget] | None:
    """A model's shapes and its budget of a pass, if its conditions share the ``needed`` parts of the work."""
    if subject.model is None or not needed <= {*subject.about.get("shares", ())}:
        return None
    heads = cast("HeadSubject", subject)  # only its `about` contains "shares"
    shapes = of_config(heads.model.config.to_dict())
    return None if shapes is None else (shapes, heads.budget)


def _length(batch: Batch) -> int:
    """Mean number of tokens up to the query, itself included: the positions that are computed of an example."""
    return round(float(batch.query.mean())) + 1
