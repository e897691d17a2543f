"""The words that describe a cell, from its configuration alone: what to type to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.cells.settings import NEUTRAL, PROPOSING, Settings
from harness.data.stages import STAGES, upstream
from harness.registry.command import override
from harness.registry.registry import Method

Methods = Mapping[tuple[str, str], Method]
Nodes = list[dict[str, Any]]


def rerun_words(config: Mapping[str, Any], methods: Methods) -> list[str]:
    """The overrides of a cell with this configuration.

    Stages that the result does not depend on are left out, and so are values that are defaults of the harness's own
    methods. All values of other methods are written: the words are the same wherever those are installed.
    """
    known = {key: method for key, method in methods.items() if method.cls.__module__.startswith("harness_plugins.")}
    words = []
    for stage in _used(config, known):
        nodes = _nodes(config, stage)
        names = [node["name"] for node in nodes]
        words.append(override(stage, names if STAGES[stage].many else names[0]))
        for node in nodes:
            place = f"{stage}.{node['name']}" if STAGES[stage].many else stage
            changed = _changed(config, node, known.get((stage, node["name"])))
            words += [override(f"{place}.{key}", value) for key, value in changed.items()]
    for node in _nodes(config, "contrast"):
        words.append(override("batch@contrast", node["name"]))
        words += [override(f"contrast.{key}", value) for key, value in node.items() if key != "name"]
    for key, default in asdict(Settings()).items():
        usual = list(default) if isinstance(default, tuple) else default
        if key not in NEUTRAL and (value := config.get(key, usual)) != usual:
            words.append(override(key, value))
    return words


def _used(config: Mapping[str, Any], known: Methods) -> list[str]:
    """The stages that the result depends on; all of them where a proposing method is not the harness's own."""
    present = [stage for stage in STAGES if _nodes(config, stage) or (STAGES[stage].many and stage in config)]
    if config.get("group"):
        active = "signal" if config.get("scope") == "active" else ""
        return [stage for stage in present if stage not in PROPOSING or stage == active]
    chosen = {stage: [known.get((stage, node["name"])) for node in _nodes(config, stage)] for stage in STAGES}
    classes = {stage: [method.cls for method in of_stage if method] for stage, of_stage in chosen.items()}
    if any(None in chosen[stage] for stage in PROPOSING) or not chosen["selector"]:
        return present
    reached = upstream("selector", classes)
    return [stage for stage in present if stage not in PROPOSING or stage in reached]


def _nodes(config: Mapping[str, Any], stage: str) -> Nodes:
    """The methods that a configuration chooses for a stage, with their parameters."""
    given = config.get(stage)
    nodes = given.values() if isinstance(given, Mapping) and stage in STAGES and STAGES[stage].many else [given]
    return [dict(node) for node in nodes if isinstance(node, Mapping) and isinstance(node.get("name"), str)]


def _changed(config: Mapping[str, Any], node: Mapping[str, Any], method: Method | None) -> dict[str, Any]:
    """Parameters that differ from their defaults, or from the key they follow."""
    defaults = method.node if method else {}
    for key, followed in method.follows.items() if method else ():
        stage, _, parameter = followed.partition(".")
        defaults[key] = next((other.get(parameter) for other in _nodes(config, stage)), None)
    neutral = method.neutral if method else frozenset()
    return {
        key: value
        for key, value in node.items()
        if key != "name" and key not in neutral and (key not in defaults or value != defaults[key])
    }
