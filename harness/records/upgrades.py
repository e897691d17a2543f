"""Records of earlier schemas, read as records of today: one small function per schema turns it into the next.

A function renames keys and fills in defaults; it computes no result again. ``tests/old`` has a record of every schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from harness.data.units import Unit, UnitSpace

Json = dict[str, Any]
PREFIX = "closure-harness/record/"


def upgraded(data: Json) -> Json:
    """The record in today's schema; unchanged where no function reads its schema."""
    while upgrade := UPGRADES.get(data.get("schema")):
        data = upgrade(data)
    return data


def _from_2(data: Json) -> Json:
    """Schema 3 uses the field's terms for the parts of a closure report and for two settings."""
    return {
        **data,
        "schema": f"{PREFIX}3",
        "config": renamed(data.get("config", {}), SETTINGS_2),
        "provenance": {**data.get("provenance", {}), **_commands_2(data.get("provenance", {}))},
        "closure": [_closure_2(closure) for closure in data.get("closure", ())],
    }


SETTINGS_2 = {"give_up": "futility", "elsewhere": "contrast"}
CLOSURE_2 = {
    "upper_bound": "site_ablation",
    "widening": "inflation",
    "idle": "dispensable",
    "given_up": "stopped_early",
}
ANATOMY_2 = {"kept": "sufficiency", "shares": "leave_one_out", "idle": "dispensable", "elsewhere": "contrast"}


def _closure_2(closure: Json) -> Json:
    report = renamed(closure, CLOSURE_2)
    anatomy = {name: renamed(inside, ANATOMY_2) for name, inside in report.get("anatomy", {}).items()}
    for inside in anatomy.values():
        if inside.get("on_input"):
            inside["on_input"] = renamed(inside["on_input"], {"off": "off_input"})
    return {**report, "anatomy": anatomy}


def _commands_2(provenance: Json) -> Json:
    """The commands that make the record again, with today's keys."""
    commands: Json = {}
    if "command" in provenance:
        commands["command"] = _keys_2(provenance["command"])
    if provenance.get("typed"):
        commands["typed"] = [_keys_2(word) for word in provenance["typed"]]
    return commands


def _keys_2(words: str) -> str:
    words = re.sub(r"(^|[\s'])give_up=", r"\1futility=", words)
    return re.sub(r"(^|[\s'])(batch@)?elsewhere([.=])", r"\1\2contrast\3", words)


def renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> Json:
    return {names.get(key, key): value for key, value in values.items()}


def _from_3(data: Json) -> Json:
    """Schema 4 gives the sites of all units; it marks chosen partitions, of which there can be several.

    Until then every unit was a head: ``L3H5`` is head 5 of layer 3.
    """
    units = UnitSpace.from_labels(data["units"]) if data.get("units") else None
    if (chosen := data.get("chosen")) is not None and not 0 <= chosen < len(data.get("partitions", ())):
        raise ValueError(f"partition {chosen} is chosen, of {len(data.get('partitions', ()))}")
    return {
        **{key: value for key, value in data.items() if key != "chosen"},
        "schema": f"{PREFIX}4",
        "config": {**ADDED_4, **data.get("config", {})},
        "sites": [asdict(run) for run in units.runs] if units else [],
        "partitions": [
            {**partition, "chosen": place == data.get("chosen")}
            for place, partition in enumerate(data.get("partitions", ()))
        ],
        "candidates": [_candidate_3(candidate) for candidate in data.get("candidates", ())],
        "closure": [_closure_3(closure) for closure in data.get("closure", ())],
    }


ADDED_4: Json = {"stratifier": {"name": "none"}, "scope": "all", "deciding": "all"}
"""What records of schema 4 say, and older ones did without saying."""


def _candidate_3(candidate: Json) -> Json:
    sites = [Unit.head(layer, 0).site for layer in candidate["layers"]]
    return {"sites": sites, **{key: value for key, value in candidate.items() if key != "layers"}}


def _closure_3(closure: Json) -> Json:
    """``shortfall`` named layers as ``L3``; the other keys are classes."""
    short = {re.sub(r"^L(\d+)$", r"L\1.attn", key): missing for key, missing in closure.get("shortfall", {}).items()}
    return {**closure, "shortfall": short}


def _from_4(data: Json) -> Json:
    """Schema 5 has the exact test. Until then candidates were compared with groups that share no unit with them."""
    return {**data, "schema": f"{PREFIX}5", "config": {**ADDED_5, **data.get("config", {})}}


ADDED_5: Json = {
    "test": "disjoint",
    "statistic": "necessity",
    "joint": False,
    "prune": False,
    "check_task": False,
    "size_curve": False,
}
"""What records of schema 5 say, and older ones did without saying."""


def _from_5(data: Json) -> Json:
    """Schema 6 says over how many units agreement is. Nothing else changed."""
    return {**data, "schema": f"{PREFIX}6"}


def _from_6(data: Json) -> Json:
    """Schema 7 describes strata, and what a group does outside its own. Nothing else changed."""
    return {**data, "schema": f"{PREFIX}7", "config": {**ADDED_7, **data.get("config", {})}}


ADDED_7: Json = {"strata_null": 0}
"""What records of schema 7 say, and older ones did without saying."""


UPGRADES: Mapping[Any, Callable[[Json], Json]] = {
    f"{PREFIX}2": _from_2,
    f"{PREFIX}3": _from_3,
    f"{PREFIX}4": _from_4,
    f"{PREFIX}5": _from_5,
    f"{PREFIX}6": _from_6,
}
"""By schema: the function that converts its records to the next schema."""
