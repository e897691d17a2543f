"""Claim: the heads that a model's own training picks carry its retrieval; those picked for other seeds do not."""

from __future__ import annotations

from collections.abc import Sequence

from harness.board.claims.claim import Claim, Finding, cells, supported
from harness.board.task import subject_digest
from harness.closure.report import ClosureReport
from harness.closure.verdict import decision_order
from harness.records.record import FINISHED, Record


def judge(records: Sequence[Record]) -> Finding | None:
    """The cells of ``harness matrix``: the group of each model, ablated on every model."""
    finished = [record for record in records if record.status in FINISHED and _retrieves(record)]
    proposed: dict[str, set[frozenset[str]]] = {}
    for record in finished:
        if not record.config["group"] and record.candidates:
            proposed.setdefault(subject_digest(record), set()).add(frozenset(record.candidates[0].units))
    own: dict[str, Record] = {}
    others = []
    for record in finished:
        if record.config["group"] and record.closure:
            model, group = subject_digest(record), frozenset(record.closure[0].units)
            if group in proposed.get(model, ()):
                own[model] = record
            elif any(group in groups for groups in proposed.values()):
                others.append(record)
    mine, others = list(own.values()), [record for record in others if subject_digest(record) in own]
    if len(mine) < 2 or not others:
        return None
    harmed_mine = sum(_destroys(record.closure[0]) for record in mine)
    harmed_others = sum(_destroys(record.closure[0]) for record in others)
    shared = [len({*record.closure[0].units} & {*own[subject_digest(record)].closure[0].units}) for record in others]
    evidence = (
        f"own picks destroy retrieval on {harmed_mine} of {len(mine)} models; other seeds' picks in {harmed_others} of "
        f"{len(others)} pairs. Other seeds' picks share {min(shared)} to {max(shared)} heads with the model's own"
    )
    return Finding(supported(harmed_mine == len(mine) and not harmed_others), evidence, cells([*mine, *others]))


def _destroys(closure: ClosureReport) -> bool:
    """The first metric is certainly harmed, and accuracy loses half of what it has."""
    effects = closure.effects
    accuracy = effects.get("accuracy")
    halved = accuracy is not None and accuracy.ablated <= accuracy.baseline / 2
    return halved and effects[decision_order(effects)[0]].harmed


def _retrieves(record: Record) -> bool:
    names = record.config["subject"].get("name"), record.config["batch"].get("name")
    return names == ("tiny_retrieval", "key_retrieval")


CLAIM = Claim(
    text="Ablating the heads that are picked for a seed destroys its retrieval; heads picked for others do not.",
    source="probe-circuit paper, cross-seed ablation",
    rule=(
        "on every model its own picks halve accuracy with certain damage to the first metric, and no other seed's do"
    ),
    experiment="probe_circuits",
    command="matrix",
    judge=judge,
    published=(
        "two pairs were published: s42 keeps .838 of .843 under s271's heads, and s271 falls from .526 to .251 under "
        "s42's heads. Its own picks have no effect on s271 at steps 6000 and 10000. No controls, so no p."
    ),
)
