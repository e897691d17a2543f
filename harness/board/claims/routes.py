"""Claim: communities of one route agree with the labels, but do not pass closure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.board.claims.claim import ALPHA, Claim, Finding, cells, supported
from harness.board.claims.published import GAP, NULL, TESTS, p_of, p_of_published
from harness.closure.verdict import Verdict
from harness.records.record import FINISHED, Record


def judge(records: Sequence[Record]) -> Finding | None:
    """Strata by routes in a mixture of experts: p of their agreement among random strata, and verdicts inside."""
    found = [
        record
        for record in records
        if record.status in FINISHED
        and record.config["stratifier"].get("name") == "routes"
        and record.strata_null
        and not record.config["subject"]["name"].startswith("planted")
    ]
    if not found:
        return None
    p = min(record.strata_null.p for record in found if record.strata_null)
    adjusted = min(1.0, p * len(found))
    reports = [closure for record in found for closure in record.closure]
    passing = sum(closure.verdict is Verdict.PASS for closure in reports)
    evidence = (
        f"agreement within a route, against random strata: p {adjusted:.2f} (the best of {len(found)} cells, times "
        f"{len(found)}); {passing} of {len(reports)} groups pass inside their stratum"
    )
    return Finding(supported(adjusted <= ALPHA and not passing), evidence, cells(found))


CLAIM = Claim(
    text="In a mixture of experts, communities within a route agree with the labels, but do not pass closure.",
    source="closure paper, section 5, test 5",
    rule=f"agreement within routes is higher than within random strata (p at most {ALPHA}), and no group passes inside",
    experiment="moe_routes",
    judge=judge,
    published=(
        f"agreement: p {p_of(NULL):.2f} among ten random divisions; closure: p {p_of_published(TESTS[4])}; "
        f"route-specificity gap of the target logit: p {p_of(GAP, -1):.2f}. With five controls no p is below 1/6."
    ),
)
