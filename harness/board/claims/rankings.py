"""Claim: the integral of the participation ratio over training finds heads with a class better than its spread does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.board.claims.agreement import p_higher
from harness.board.claims.claim import ALPHA, Claim, Finding, cells, supported
from harness.data.grouping import UNCLASSIFIED
from harness.records.record import FINISHED, Record
from harness.util.digest import digest

SUMMARIES = ("integral", "spread")


def judge(records: Sequence[Record]) -> Finding | None:
    """Pairs of cells that differ in the summary only: the share of their first candidate's units with a class."""
    pairs: dict[str, dict[str, Record]] = {}
    for record in records:
        signal = dict(record.config["signal"])
        if record.status in FINISHED and signal.get("name") == "pr_trajectory" and record.candidates:
            summary = str(signal.pop("summary"))
            pairs.setdefault(digest(record.cell.subject, record.cell.batch, signal, record.config["partitioner"]), {})[
                summary
            ] = record
    whole = [pair for pair in pairs.values() if all(name in pair for name in SUMMARIES)]
    if not whole:
        return None
    precision = np.array([[_precision(pair[name]) for name in SUMMARIES] for pair in whole])
    p = p_higher(precision)
    higher, lower = (int((sign * (precision[:, 0] - precision[:, 1]) > 0).sum()) for sign in (1, -1))
    evidence = (
        f"mean precision {precision[:, 0].mean():.2f} by integral, {precision[:, 1].mean():.2f} by spread; higher in "
        f"{higher}, lower in {lower} of {len(whole)} models (p {p:.3f})"
    )
    return Finding(supported(p <= ALPHA), evidence, cells([pair[name] for pair in whole for name in SUMMARIES]))


def _precision(record: Record) -> float:
    of_class = dict(zip(record.units, record.classes, strict=True))
    return float(np.mean([of_class[unit] not in (None, UNCLASSIFIED) for unit in record.candidates[0].units]))


CLAIM = Claim(
    text="Heads that rank highest by the integral of PR over training have a class more often than by its spread.",
    source="probe-circuit paper, comparison of signals (precision at 30: .97 by integral, .93 by spread)",
    rule=f"precision is higher over pairs of cells of one model, with p at most {ALPHA}",
    experiment="paper_rankings",
    judge=judge,
    published="precision was published for one model, so no p can be computed.",
)
