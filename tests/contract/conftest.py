"""Findings of the contract suite about a class, and their comparison with the expected ones."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from harness.registry.registry import Method
from harness.testing.contracts import Finding, check_method


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module's ``CORRECT`` (class per stage) and ``OFFENDERS`` (class -> check and reason, per stage) as cases."""
    if "reason" in metafunc.fixturenames:
        cases = [
            (stage, cls, *expected)
            for stage, classes in metafunc.module.OFFENDERS.items()
            for cls, expected in classes.items()
        ]
        names = [f"{stage}-{cls.__name__}" for stage, cls, *_ in cases]
        metafunc.parametrize(("stage", "cls", "check", "reason"), cases, ids=names)
    elif "stage" in metafunc.fixturenames:
        metafunc.parametrize(("stage", "cls"), metafunc.module.CORRECT.items())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Offenders are put to the suite as it is for users, where it is the suite that has to notice."""
    if "assert_fails" in getattr(item, "fixturenames", ()):
        item.add_marker("unchecked")


def _findings(stage: str, cls: type) -> list[Finding]:
    return check_method(Method(stage, "offender", cls, "tests"))


@pytest.fixture(scope="session")
def findings() -> Callable[[str, type], list[Finding]]:
    """The findings of the suite about a class offered for a stage."""
    return _findings


@pytest.fixture
def assert_fails() -> Callable[[str, type, str, str], None]:
    """Assert that the suite, run as users run it, reports that this check fails for this reason."""

    def assert_fails(stage: str, cls: type, check: str, reason: str) -> None:
        found = _findings(stage, cls)
        failed = {finding.check: finding.reason for finding in found if finding.outcome == "failed"}
        assert check in failed
        assert re.search(reason, failed[check]), failed[check]

    return assert_fails
