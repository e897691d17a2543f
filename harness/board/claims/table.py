"""The claims, what the records of a workspace say about each, and the command for those that they do not decide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.board.claims import agreement, dense, distribution, first_token, picks, rankings, routes, training
from harness.board.claims.claim import Answer, Claim, Finding
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.registry.command import command, in_workspace

WIDTH = 120
CLAIMS = (
    dense.CLAIM,
    agreement.CLAIM,
    distribution.CLAIM,
    routes.CLAIM,
    training.CLAIM,
    first_token.CLAIM,
    rankings.CLAIM,
    picks.CLAIM,
)


@dataclass(frozen=True)
class Judged:
    """A claim, and what the records of a workspace say about it."""

    claim: Claim
    finding: Finding


def judged(records: Sequence[Record], workspace: Workspace) -> list[Judged]:
    """Every claim in the order of the papers. Where no record decides, the finding says which sweep makes them."""
    found = []
    for claim in CLAIMS:
        missing = command(claim.command, f"experiment={claim.experiment}", *in_workspace(workspace.root))
        nothing = Finding(Answer.NOT_TESTABLE, f"no cell of this workspace decides; make them: {missing}")
        found.append(Judged(claim, claim.judge(records) or nothing))
    return found


def as_text(found: Sequence[Judged]) -> str:
    """Claim by claim: the answer, the evidence, the rule, and what the published numbers say."""
    parts = []
    for each in found:
        claim, finding = each.claim, each.finding
        rows = {
            "here": finding.evidence,
            "rule": f"supported if {claim.rule}",
            "published": claim.published,
            "source": claim.source,
            "cells": " ".join(finding.cells),
        }
        lines = [f"{finding.answer.value.upper()}: {claim.text}"]
        parts.append("\n".join([*lines, *(_row(name, text) for name, text in rows.items() if text)]))
    return "\n\n".join(parts)


def as_data(found: Sequence[Judged]) -> list[dict[str, Any]]:
    """The same for ``--json``."""
    return [
        {
            "claim": each.claim.text,
            "source": each.claim.source,
            "rule": each.claim.rule,
            "experiment": each.claim.experiment,
            "published": each.claim.published,
            "answer": each.finding.answer.value,
            "evidence": each.finding.evidence,
            "cells": list(each.finding.cells),
        }
        for each in found
    ]


def _row(name: str, text: str) -> str:
    indent = " " * 13
    whole = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False,
                          break_on_hyphens=False)  # fmt: skip
    return f"  {name:<11}{whole.lstrip()}"
