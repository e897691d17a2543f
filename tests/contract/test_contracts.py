"""Every installed plugin passes the contract suite of its stage."""

from __future__ import annotations

from typing import Any

import pytest

from harness.data.stages import STAGES
from harness.registry.config import registry
from harness.registry.registry import Method
from harness.testing.contracts import CONTRACTS, check_method

METHODS = list(registry().methods.values())


def case(method: Method) -> Any:
    """Loading a model that is not shipped with the harness is slow; a subject runs the engine hundreds of times."""
    slow = [pytest.mark.slow] if method.stage == "subject" and method.name not in ("tiny", "hf") else []
    many_passes = [pytest.mark.unchecked] if method.stage == "subject" else []
    return pytest.param(method, marks=[*slow, *many_passes], id=f"{method.stage}-{method.name}")


@pytest.mark.parametrize("method", [case(method) for method in METHODS])
def test_every_plugin_satisfies_its_contract(method: Method) -> None:
    findings = check_method(method)
    broken = [f"{finding.check}: {finding.reason}" for finding in findings if finding.outcome == "failed"]
    assert not broken, "\n".join(broken)
    if findings[-1].outcome == "skipped" and len(findings) <= 5:  # it needs parameters, so its stage is not checked
        pytest.skip(f"{findings[-1].check}: {findings[-1].reason}")


def test_every_stage_has_a_contract() -> None:
    assert set(CONTRACTS) == set(STAGES)


def test_every_stage_has_a_method_to_check() -> None:
    assert {method.stage for method in METHODS} == set(STAGES)
