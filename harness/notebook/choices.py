"""From names, mappings and objects of Python to a cell: what ``key=value`` is on the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.cells.cell import Cell
from harness.data.batch import Batch
from harness.data.contracts import BatchMethod, Subject, with_defaults
from harness.data.prompts import CONTINUATION
from harness.data.stages import FOR_ANSWERS, FOR_ANY_UNITS, FOR_COUNTERFACTUALS, STAGES
from harness.notebook.memory import LoadedBatch, LoadedSubject, method_of
from harness.registry.command import override
from harness.registry.config import registry, resolve
from harness.registry.registry import IN_SESSION, Method, Registry
from harness.registry.registry import method_of as method_of_class
from harness.util.errors import HarnessError
from harness.util.fingerprint import content

Words = str | Mapping[str, Any]
"""Overrides as on the command line, or a mapping of choices."""


@dataclass(frozen=True)
class Chosen:
    """An object that was chosen for a stage: its method, and its name and parameters as a configuration holds them."""

    instance: Any
    method: Method
    node: Mapping[str, Any]

    @classmethod
    def of(cls, stage: str, value: Any, methods: Registry) -> Chosen:
        """A method of any class, a loaded subject, or a batch. Errors: an object that is none of these."""
        label = ""
        if is_subject(value):
            with_defaults(type(value), Subject)
        if is_subject(value) or isinstance(value, Batch):
            label = value.name if isinstance(value, Batch) else value.label
            value = method_of(value)
        if isinstance(value, type) or not hasattr(value, "name"):
            raise not_a_method(stage, value)
        method = methods.methods.get((stage, value.name))
        if isinstance(value, LoadedSubject | LoadedBatch):
            method = Method(stage, label, type(value), IN_SESSION)
        elif method is None or method.cls is not type(value):
            method = method_of_class(stage, type(value), IN_SESSION)
        parameters = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name != "loaded"}
        node = {"name": value.name, **{key: _plain(stage, key, parameter) for key, parameter in parameters.items()}}
        if not label and all(map(_is_plain, parameters.values())):
            value = method.build(parameters)  # which checks them
        return cls(value, method, node)


def merged(configs: Sequence[Words], choices: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The words among the configurations, and all choices by key: later ones win."""
    words = [config for config in configs if isinstance(config, str)]
    mappings = [config for config in configs if not isinstance(config, str)]
    return words, {key: value for mapping in (*mappings, choices) for key, value in mapping.items()}


def cell_of(words: Sequence[str], choices: Mapping[str, Any]) -> Cell:
    """The cell that words and choices describe; choices win.

    Errors: those of :func:`harness.registry.config.resolve` and of :meth:`Cell.of`; an object that is not a method.
    """
    methods = registry()
    overrides = [*_fitting(choices, words), *words]
    given: dict[str, list[Any]] = {}
    for key, value in choices.items():
        if value is None and key in (*STAGES, "contrast", "workspace"):
            continue
        if key not in STAGES and key != "contrast":
            overrides.append(override(key, value))
            continue
        items = [_read(item) for item in _items(key, value)]
        overrides += _overrides(key, items)
        if any(not isinstance(item, Named) for item in items):
            given[key] = items
    return _with_objects(Cell.of(resolve(overrides, methods), methods), given, methods)


@dataclass(frozen=True)
class Named:
    """A method by name; ``""``: the default one, with other parameters."""

    name: str
    parameters: Mapping[str, Any]


def is_subject(value: Any) -> bool:
    """Whether a value is a loaded subject, whether or not its class inherits from the contract."""
    return hasattr(value, "evaluate") and hasattr(value, "units")


def _fitting(choices: Mapping[str, Any], words: Sequence[str]) -> Iterator[str]:
    """Methods that fit a loaded batch, and a loaded subject whose units do not attend, where none are chosen."""
    subject, batch = choices.get("subject"), choices.get("batch")
    chosen = {*choices, *(word.partition("=")[0] for word in words)}
    if isinstance(batch, Batch) and "metric" not in chosen:
        fits = FOR_COUNTERFACTUALS if batch.counterfactual else BatchMethod.defaults
        if batch.target_kind == CONTINUATION and (batch.counterfactual or batch.answers):
            fits = FOR_ANSWERS
        yield override("metric", fits["metric"])
    if subject is None or not is_subject(subject) or "attention" in getattr(subject, "sources", ()):
        return
    alone = len(subject.units.sites) == len(subject.units)  # one unit per site: sites are matched in bands
    fitting = {**FOR_ANY_UNITS, **({"controls": "depth_band"} if alone else {})}
    yield from (f"{stage}={name}" for stage, name in fitting.items() if stage not in chosen)


def _items(key: str, value: Any) -> Sequence[Any]:
    """The choices for a stage: several only where a cell has several."""
    if key == "contrast" or not STAGES[key].many:
        return [value]
    if isinstance(value, Mapping) and "name" not in value:  # as in a configuration: by name
        return [{"name": name, **(parameters or {})} for name, parameters in value.items()]
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping)
    return list(value) if isinstance(value, list | tuple) and not is_pair else [value]


def _read(item: Any) -> Any:
    """The forms of a name as one: ``"ising"``, ``("ising", {"l2": 0.1})``, ``{"name": "ising", "l2": 0.1}``."""
    match item:
        case str():
            return Named(item, {})
        case (str() as name, Mapping() as parameters):
            return Named(name, parameters)
        case Mapping():
            return Named(item.get("name", ""), {key: value for key, value in item.items() if key != "name"})
    return item


def _overrides(key: str, items: Sequence[Any]) -> Iterator[str]:
    """The words of the command line for choices by name."""
    group = "batch@contrast" if key == "contrast" else key
    named = [item for item in items if isinstance(item, Named)]
    many = key in STAGES and STAGES[key].many
    if many and (named or not items):
        yield override(group, [item.name for item in named])
    for item in named:
        if item.name and not many:
            yield override(group, item.name)
        place = f"{key}.{item.name}" if many else key
        yield from (override(f"{place}.{name}", value) for name, value in item.parameters.items())


def _with_objects(cell: Cell, given: Mapping[str, Sequence[Any]], methods: Registry) -> Cell:
    """The cell with objects in the place of named methods."""
    config, chosen, stages = dict(cell.config), dict(cell.methods), dict(cell.stages)
    contrast = cell.contrast
    for key, items in given.items():
        objects = [
            _named(cell, key, item) if isinstance(item, Named) else Chosen.of(_stage(key), item, methods)
            for item in items
        ]
        if key == "contrast":
            config[key], contrast = dict(objects[0].node), objects[0].instance
            continue
        many = STAGES[key].many
        nodes = {f"{one.node['name']}": dict(one.node) for one in objects}
        if len(nodes) < len(objects):
            raise HarnessError(f"{key}: two methods have the same name.", "Choose each method once.")
        config[key] = nodes if many else dict(objects[0].node)
        chosen[key] = tuple(one.method for one in objects)
        stages[key] = tuple(one.instance for one in objects) if many else objects[0].instance
    return Cell(config, cell.settings, chosen, stages, contrast)


def _stage(key: str) -> str:
    return "batch" if key == "contrast" else key


def _named(cell: Cell, stage: str, item: Named) -> Chosen:
    """A method of a stage with several that the cell has by name."""
    at = [method.name for method in cell.methods[stage]].index(item.name)
    return Chosen(cell.stages[stage][at], cell.methods[stage][at], list(cell.config[stage].values())[at])


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _plain(stage: str, key: str, value: Any) -> Any:
    """A parameter as a record holds it: the value if JSON can hold it, otherwise the digest of its content."""
    if _is_plain(value):
        return list(value) if isinstance(value, tuple) else value
    try:
        return f"sha256:{content(value)}"
    except TypeError as error:
        raise HarnessError(f"{stage}.{key}: {error}.", "Use numbers, text, lists or arrays as parameters.") from error


def not_a_method(stage: str, value: Any) -> HarnessError:
    """The error for a value that cannot be chosen for a stage."""
    if isinstance(value, type):
        return HarnessError(f"{stage}: {value.__name__} is a class.", f"Give an instance: {value.__name__}()")
    if stage == "subject":
        return HarnessError(
            f"subject: a {type(value).__name__} is not a subject.",
            "Make one of it: harness.subject(model, tokenizer), or harness.subject(model, sites=[...])",
        )
    return HarnessError(
        f"{stage}: a {type(value).__name__} is not a method.",
        f'Give a name ("NAME"), a name with parameters (("NAME", {{"key": value}})), or an instance of a class. '
        f"`harness list {stage}` lists the names.",
    )
