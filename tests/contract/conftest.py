"""What the contract suite finds in a class, and whether it finds what it should."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from harness.registry import Method
from harness.testing.contracts import Finding, check_method


def _findings(stage: str, cls: type) -> list[Finding]:
    return check_method(Method(stage, "offender", cls, "tests"))


@pytest.fixture(scope="session")
def findings() -> Callable[[str, type], list[Finding]]:
    """What the suite says about a class offered for a stage."""
    return _findings


@pytest.fixture
def found_out(unchecked: None) -> Callable[[str, type, str, str], None]:
    """The suite, as users run it, says that this check fails for this reason."""

    def found_out(stage: str, cls: type, check: str, reason: str) -> None:
        found = _findings(stage, cls)
        failed = {finding.check: finding.reason for finding in found if finding.outcome == "failed"}
        assert check in failed
        assert re.search(reason, failed[check]), failed[check]

    return found_out
