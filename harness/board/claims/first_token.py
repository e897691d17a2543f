"""Claim: no head of the first two layers is a first-token head."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from harness.board.claims.claim import ALPHA, Claim, Finding, cells, supported, task
from harness.board.claims.published import FIRST_TOKEN
from harness.records.record import FINISHED, Record

CLASS = "first-token"


def judge(records: Sequence[Record]) -> Finding | None:
    """Of every task with first-token heads, the cell that has most of them in the first two layers."""
    worst: dict[str, Record] = {}
    for record in records:
        heads = {run.family for run in record.sites} == {"head"}
        surveyed = record.config["labels"].get("name") == "survey" and CLASS in record.classes
        if record.status in FINISHED and heads and surveyed and not record.config.get("group"):
            first = worst.setdefault(task(record), record)
            worst[task(record)] = max(first, record, key=lambda each: _counts(each)[-1])
    if not worst:
        return None
    counts = {name: _counts(record) for name, record in worst.items()}
    shown = "; ".join(
        f"{name}: {early} of {total} are in layers 0 and 1 (p {p_of_none(units, first_two, total):.3f} for none)"
        for name, (units, first_two, total, early) in counts.items()
    )
    none = not any(early for *_, early in counts.values())
    unlikely = any(p_of_none(units, two, total) <= ALPHA for units, two, total, _ in counts.values())
    return Finding(supported(none and unlikely), f"first-token heads, {shown}", cells(list(worst.values())))


def p_of_none(units: int, first_two: int, total: int) -> float:
    r"""The chance that none of ``total`` heads, drawn at random, is in the first two layers: hypergeometric.

    .. math:: p = \binom{\text{units} - \text{first two}}{\text{total}} \Big/ \binom{\text{units}}{\text{total}}
    """
    return comb(units - first_two, total) / comb(units, total)


def _counts(record: Record) -> tuple[int, int, int, int]:
    depths = record.unit_space.depth_of
    of_class = np.array([name == CLASS for name in record.classes])
    early = depths < 2
    return len(depths), int(early.sum()), int(of_class.sum()), int((of_class & early).sum())


def _published() -> str:
    shown = "; ".join(
        f"{model} {early} of {total} (p {p_of_none(layers * width, 2 * width, total):.1g})"
        for model, (layers, width, total, early) in FIRST_TOKEN.items()
    )
    return f"in layers 0 and 1: {shown}"


CLAIM = Claim(
    text="No head of layers 0 and 1 is a first-token head.",
    source="probe-circuit paper; closure paper, section 6",
    rule=f"no first-token head is in layers 0 and 1, on any task, and chance would place one there (p at most {ALPHA})",
    experiment="paper_claims",
    judge=judge,
    published=_published(),
)
