"""Every hook, stage, command and parameter is documented."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from harness.data.stages import STAGES
from harness.registry import hookspecs
from harness.registry.config import registry
from harness.registry.registry import Method

HOOKS = {name: f for name, f in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("harness_")}
METHODS = list(registry().methods.values())


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_and_argument_is_documented(name: str) -> None:
    doc = inspect.getdoc(HOOKS[name]) or ""
    assert len(doc.splitlines()) >= 3
    assert "Example:" in doc
    for argument in inspect.signature(HOOKS[name]).parameters:
        assert f"``{argument}``" in doc


def test_every_stage_has_a_hook_of_its_own() -> None:
    offered = {stage.hook for stage in STAGES.values()}
    assert len(offered) == len(STAGES)
    assert offered <= set(HOOKS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.stage}-{method.name}")
def test_every_method_documents_its_input_output_and_source(method: Method) -> None:
    doc = inspect.getdoc(method.cls) or ""
    assert doc.split("\n")[0].endswith(".")
    if method.stage not in ("subject", "batch"):
        assert "Input:" in doc
        assert "Output:" in doc
    if method.stage != "subject":
        assert "Source:" in doc
    for parameter in dataclasses.fields(method.cls):
        assert parameter.metadata.get("help"), f"{parameter.name} has no help"


def test_every_setting_is_documented() -> None:
    from harness.cells.settings import Settings

    doc = inspect.getdoc(Settings) or ""
    for setting in dataclasses.fields(Settings):
        assert f"``{setting.name}``" in doc or setting.name == "metrics", setting.name
