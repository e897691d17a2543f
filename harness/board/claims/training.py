"""Claim: attention and function of a class come apart during training, in both directions."""

from __future__ import annotations

from collections.abc import Sequence

from harness.board.claims.claim import Claim, Finding, supported
from harness.board.emergence import FORM_ONLY, FUNCTION_ONLY
from harness.board.trajectory import follows_classes, trajectories_of
from harness.records.record import Record


def judge(records: Sequence[Record]) -> Finding | None:
    """The checkpoints at which one of both is missing, by the rule of ``harness trajectory``."""
    following = [record for record in records if follows_classes(record)]
    if not following:
        return None
    found: dict[str, list[tuple[str, str]]] = {FORM_ONLY: [], FUNCTION_ONLY: []}
    for trajectory in trajectories_of(following):
        for course in trajectory.courses:
            for point in course.points:
                if point.decoupled:
                    where = f"{trajectory.subject}, {course.name} at step {point.step}"
                    found[point.decoupled].append((where, point.cell))
    evidence = "; ".join(
        f"{kind}: {', '.join(where for where, _ in places) or 'nowhere'}" for kind, places in found.items()
    )
    used = tuple(dict.fromkeys(cell for places in found.values() for _, cell in places))
    return Finding(supported(all(found.values())), evidence, used or tuple(record.cell.id for record in following))


CLAIM = Claim(
    text="Attention and function of a class come apart during training: each can be there without the other.",
    source="closure paper, section 7",
    rule=(
        "at some checkpoint a class has certain selectivity (interval at or above 30) and certainly no function, and "
        "at some checkpoint a class passes with a selectivity that is certainly below 30"
    ),
    experiment="trajectory",
    judge=judge,
    published=(
        "five controls per checkpoint, so no p is below 1/6. OLMo, step 1000 (function without form): accuracy alone "
        "exceeds all controls, p 0.17; loss 0.33. Pythia, step 512 (form without function): loss falls, p 1.00."
    ),
)
