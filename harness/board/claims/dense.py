"""Claim: communities of heads of a dense model pass closure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.board.claims.claim import Claim, Finding, cells, supported, task
from harness.board.claims.published import TESTS, p_of_published
from harness.closure.paper import paper_verdict
from harness.closure.verdict import Verdict, spaced
from harness.records.record import FINISHED, Record


def judge(records: Sequence[Record]) -> Finding | None:
    """On every task, most cells have a group that passes. Ising couplings, spectral clustering, a dense model."""
    by_task: dict[str, list[Record]] = {}
    for record in records:
        if record.status in FINISHED and _is_papers(record):
            by_task.setdefault(task(record), []).append(record)
    if not by_task:
        return None
    lines, most = [], []
    for name, alike in by_task.items():
        passing = sum(any(each.verdict is Verdict.PASS for each in record.closure) for record in alike)
        by_rule = sum(
            any(paper_verdict(each.effects)[0] is Verdict.PASS for each in record.closure) for record in alike
        )
        most.append(passing > len(alike) / 2)
        verdicts = Counter(spaced(each.verdict.value) for record in alike for each in record.closure)
        shown = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "none"
        lines.append(
            f"{name}: {passing} of {len(alike)} cells have a group that passes, {by_rule} by the paper's rule "
            f"(verdicts: {shown})"
        )
    used = [record for alike in by_task.values() for record in alike]
    return Finding(supported(all(most)), "; ".join(lines), cells(used))


def _is_papers(record: Record) -> bool:
    names = {stage: record.config[stage].get("name") for stage in ("affinity", "partitioner", "stratifier")}
    dense = not any(stratum.routing_entropy is not None for stratum in record.strata)
    chosen = record.config["chooser"]["name"] == "labels"
    return dense and chosen and names == {"affinity": "ising", "partitioner": "spectral", "stratifier": "none"}


CLAIM = Claim(
    text="Communities by Ising couplings, chosen by agreement with labels, pass closure in dense models.",
    source="closure paper, section 4, tests 1 to 4",
    rule="on every task, most cells have a group that passes the exact test",
    experiment="paper_claims",
    judge=judge,
    published="; ".join(f"test {test.number}: p {p_of_published(test)}" for test in TESTS[:4])
    + ". With five controls no p is below 1/6, so none of the four can be decided.",
)
