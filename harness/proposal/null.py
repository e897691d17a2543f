"""Proposals of the same pipeline on permuted data, in which there are no circuits to find."""

from __future__ import annotations

from harness.data.sampling import Group
from harness.proposal.proposal import Proposal
from harness.util.errors import HarnessError
from harness.util.seeds import seed_for


def null_groups(proposal: Proposal, n: int) -> list[list[Group]]:
    """The candidates of the same pipeline on ``n`` sets of permuted observations; an empty list where it finds none."""
    groups: list[list[Group]] = []
    for i in range(n):
        permuted = proposal.permuted(seed_for(proposal.seed, f"null proposal {i}"))
        try:
            groups.append([candidate.members for candidate in permuted.candidates])
        except HarnessError:
            groups.append([])
    return groups
