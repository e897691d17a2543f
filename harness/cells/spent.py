"""FLOPs of the ablations and recordings that a cell asks for, whether or not they were computed earlier.

They are counted from the shapes of a Hugging Face decoder, for its heads, and for other units where conditions share
blocks. Those of other subjects are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from harness.data.batch import Batch
from harness.data.contracts import Intervention, Subject
from harness.data.first_order import FirstOrder
from harness.data.recording import Reader
from harness.data.sampling import Group
from harness.data.stages import uses_other_runs
from harness.engine.flops import Work, closure, forward_pass, hooked_closure, with_gradient
from harness.engine.shapes import Shapes, of_config

if TYPE_CHECKING:
    from harness.engine.budget import Budget
    from harness.engine.hooked import HookedSubject
    from harness.engine.subject import HeadSubject


def of_recording(subject: Subject, batch: Batch, readers: Mapping[str, Reader]) -> int | None:
    """One recording of a batch for these readers; None where the subject's FLOPs are unknown."""
    sizes = _sizes(subject)
    if sizes is None or not readers:
        return None
    first_order = FirstOrder.among(readers)
    arguments = (sizes[0], len(batch), _length(batch), sizes[1])
    work = with_gradient(*arguments) if first_order else forward_pass(*arguments)
    other_runs = sum(uses_other_runs(reader.intervention) for reader in first_order.values())
    for reader in first_order.values():
        for _ in range(reader.steps):
            work += with_gradient(*arguments)
    return (work + forward_pass(*arguments) * other_runs).flops


def of_closure(
    subject: Subject, batch: Batch, conditions: Sequence[Group], intervention: Intervention, reference: Batch | None
) -> int | None:
    """These conditions on a batch, with the passes for donors or means; None where the subject's FLOPs are unknown."""
    at_query = intervention.positions == "query"
    sizes = _sizes(subject)
    hooked = "conditions_share" in subject.about  # only a HookedSubject has it
    needed = {"trunk"} if hooked else {"trunk", "inside", "tail"} | ({"past"} if at_query else set())
    if sizes is None or not needed <= _shared(subject):
        return None
    shapes, budget = sizes
    others = Work()
    if uses_other_runs(intervention):
        source = reference if reference is not None and intervention.over == "reference" else batch
        others = forward_pass(shapes, len(source), _length(source), budget)
    if hooked:
        layer_of = cast("HookedSubject", subject).hooked.element_of_unit
        return (others + hooked_closure(shapes, len(batch), _length(batch), conditions, budget, layer_of)).flops
    return (others + closure(shapes, len(batch), _length(batch), conditions, budget, at_query)).flops


def _shared(subject: Subject) -> set[str]:
    """The parts of the work that conditions share; empty where a subject does not say it."""
    return {*subject.about.get("shares", ()), *subject.about.get("conditions_share", ())}


def _sizes(subject: Subject) -> tuple[Shapes, Budget] | None:
    """The shapes of a Hugging Face model, and its budget of a pass."""
    config = getattr(subject.model, "config", None)
    if config is None or "trunk" not in _shared(subject):
        return None
    shapes = of_config(config.to_dict())
    return None if shapes is None else (shapes, cast("HeadSubject | HookedSubject", subject).budget)


def _length(batch: Batch) -> int:
    """Mean number of tokens up to the query, itself included: the positions that are computed of an example."""
    return round(float(batch.query.mean())) + 1
