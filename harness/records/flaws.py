"""What is wrong with a record whose fields have the right types: parts that contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NotRequired

from typing_extensions import TypedDict

from harness.closure.report import ClosureReport
from harness.data.stages import STAGES
from harness.records.record import Record
from harness.util.errors import HarnessError

CELL_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
"""The form of a cell's id. It is the name of a folder, so it has no dots and no separators."""


class _Method(TypedDict):
    name: NotRequired[str]


class _Batch(TypedDict):
    digest: NotRequired[str]
    n: NotRequired[int]


class _Subject(TypedDict):
    circuits: NotRequired[dict[str, list[str]] | None]
    weights: NotRequired[str]


class _Provenance(TypedDict):
    command: NotRequired[str]
    typed: NotRequired[list[str]]
    started: NotRequired[datetime]
    commit: NotRequired[str | None]
    packages: NotRequired[dict[str, str]]
    plugins: NotRequired[dict[str, list[str]]]
    python: NotRequired[str]
    subject: NotRequired[_Subject]
    batch: NotRequired[_Batch]


def flaws(record: Record) -> Iterator[str]:
    """The parts of a record that no later step could use, one sentence each."""
    yield from _of_types(record)
    if not CELL_ID.fullmatch(record.cell.id):
        yield f"cell.id: {record.cell.id!r:.99} is not the id of a cell"
    yield from _of_units(record)
    yield from _of_partitions(record)
    known = set(record.units)
    for place, candidate in enumerate(record.candidates):
        yield from _of_labels(f"candidates.{place}.units", candidate.units, known)
        yield from _of_labels(f"candidates.{place}.pruned", candidate.pruned, known)
        yield from _of_labels(f"candidates.{place}.unit_most_active", list(candidate.unit_most_active), known)
    for place, closure in enumerate(record.closure):
        yield from (f"closure.{place}.{flaw}" for flaw in (*_of_group(closure, known), *_of_effects(closure)))
    for metric, damage in record.unit_damage.items():
        yield from _of_labels(f"unit_damage.{metric}", list(damage), known)
    if record.closure and not record.unit_damage.keys() <= record.closure[0].effects.keys():
        yield "unit_damage: it has a metric without an effect"
    yield from _of_strata(record)
    if (curve := record.size_curve) is not None:
        if len({len(each) for each in (curve.sizes, curve.damage, curve.greedy, curve.pool)}) != 1:
            yield "size_curve: its parts differ in length"
        yield from _of_labels("size_curve.units", curve.units, known)
        yield from _of_labels("size_curve.greedy_units", curve.greedy_units, known)


def _of_units(record: Record) -> Iterator[str]:
    if sum(run.units for run in record.sites) != len(record.units) or any(run.units < 1 for run in record.sites):
        yield f"sites: they do not hold the {len(record.units)} units"
    elif record.units:
        try:
            _ = record.unit_space
        except HarnessError as error:
            yield f"units: {error.what.rstrip('.')}"
    if record.classes and len(record.classes) != len(record.units):
        yield f"classes: {len(record.classes)} for {len(record.units)} units"


def _of_partitions(record: Record) -> Iterator[str]:
    for place, partition in enumerate(record.partitions):
        if len(partition.labels) != len(record.units):
            yield f"partitions.{place}.labels: {len(partition.labels)} for {len(record.units)} units"
        elif min(partition.labels, default=0) < -1:
            yield f"partitions.{place}.labels: {min(partition.labels)} is no group"


def _of_group(closure: ClosureReport, known: set[str]) -> Iterator[str]:
    if not closure.units:
        yield "units: there are none"
    yield from _of_labels("units", closure.units, known)
    if not set(closure.dispensable) <= set(closure.units):
        yield "dispensable: not all are units of the group"
    if closure.groups and len(closure.groups) != closure.n_controls:
        yield f"groups: {len(closure.groups)}, but {closure.n_controls} are counted"
    if any(not 0 <= unit < len(known) for group in closure.groups for unit in group):
        yield "groups: a position is no unit"
    for name, inside in closure.anatomy.items():
        for each in (inside.necessity, inside.leave_one_out):
            if each is not None and len(each) != len(closure.units):
                yield f"anatomy.{name}: {len(each)} numbers for {len(closure.units)} units"
        if any(not 0 <= unit < len(closure.units) for unit in inside.dispensable):
            yield f"anatomy.{name}.dispensable: a position is no unit of the group"


def _of_effects(closure: ClosureReport) -> Iterator[str]:
    if not closure.effects:
        yield "effects: there are none"
    if not closure.effects.keys() >= closure.site_ablation.keys() | closure.anatomy.keys():
        yield "anatomy: it has a metric without an effect"
    for name, effect in closure.effects.items():
        if effect.damage not in (1, -1):
            yield f"effects.{name}.damage: {effect.damage} is neither 1 nor -1"
        if closure.groups and len(effect.controls) != len(closure.groups):
            yield f"effects.{name}.controls: {len(effect.controls)} for {len(closure.groups)} compared groups"
        if effect.statistics and len(effect.statistics) != len(effect.controls):
            yield f"effects.{name}.statistics: {len(effect.statistics)} for {len(effect.controls)} compared groups"


def _of_strata(record: Record) -> Iterator[str]:
    names = [stratum.name for stratum in record.strata]
    if len(set(names)) < len(names) or "" in names:
        yield "strata: their names do not tell them apart"
    for place, stratum in enumerate(record.strata):
        if min(stratum.n_proposed, stratum.n_tested) < 0:
            yield f"strata.{place}: a number of examples is below zero"
        if record.closure and not stratum.baseline.keys() <= record.closure[0].effects.keys():
            yield f"strata.{place}.baseline: it has a metric without an effect"
    for place, closure in enumerate(record.closure):
        if not closure.outside.keys() <= closure.effects.keys():
            yield f"closure.{place}.outside: it has a metric without an effect"
        if bool(closure.outside) is not bool(closure.n_outside):
            yield f"closure.{place}.n_outside: {closure.n_outside} with {len(closure.outside)} metrics outside"
        for name, outside in closure.outside.items():
            if len(outside.gaps) != closure.n_controls:
                yield f"closure.{place}.outside.{name}.gaps: {len(outside.gaps)} for {closure.n_controls} groups"
    if (null := record.strata_null) is not None and not 0 < len(null.null) <= null.runs:
        yield f"strata_null.null: {len(null.null)} of {null.runs} runs"


def _of_labels(where: str, labels: Sequence[str], known: set[str]) -> Iterator[str]:
    """What is wrong with labels of units."""
    if (unknown := next((label for label in labels if label not in known), None)) is not None:
        yield f"{where}: {unknown!r:.99} is no unit of the subject"
    elif len(set(labels)) < len(labels):
        yield f"{where}: a unit occurs twice"


def _of_types(record: Record) -> Iterator[str]:
    """What is of the wrong type in the fields of any form: the configuration, provenance and diagnostics."""
    from pydantic import ValidationError

    parts = {"config": record.config, "provenance": record.provenance, "diagnostics": record.diagnostics}
    for (name, value), adapter in zip(parts.items(), _free_forms(), strict=True):
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            yield f"{'.'.join(map(str, (name, *first['loc'])))}: {first['msg'].lower()}"


@cache
def _free_forms() -> tuple[Any, Any, Any]:
    from pydantic import TypeAdapter

    stages = {
        stage.name: NotRequired[dict[str, _Method] | None if stage.many else _Method | None]
        for stage in STAGES.values()
    }
    settings = {"seed": NotRequired[int], "alpha": NotRequired[float], "group": NotRequired[list[str]]}
    config = TypedDict("config", {**stages, **settings})  # type: ignore[misc]  # its keys are the stages
    return TypeAdapter(config), TypeAdapter(_Provenance), TypeAdapter(dict[str, dict[str, Any]])
