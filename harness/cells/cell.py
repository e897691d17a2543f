"""A cell: one combination of all stages, built from a resolved configuration, with an identity of its own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval

from harness.data.stages import STAGES, inputs_of, upstream
from harness.data.units import named
from harness.records.upgrades import SETTINGS_2
from harness.registry.registry import IN_SESSION, Method, Registry
from harness.util.bytesize import parse_size
from harness.util.digest import digest
from harness.util.errors import HarnessError, unknown
from harness.util.fingerprint import code_of
from harness.util.validation import validated

PROPOSING = ("signal", "transform", "binarizer", "affinity", "partitioner", "chooser", "selector")


@dataclass(frozen=True)
class Settings:
    """The settings of a cell, besides its methods.

    - ``split``: propose on one half of the examples and test on the other (``half``), or use all for both (``none``).
    - ``alpha``: the level of the verdict.
    - ``futility``: testing a candidate stops early when this many groups have at least its statistic (None: never).
    - ``ddof``: delta degrees of freedom of the controls' standard deviation in z.
    - ``seed``: of the split, the bootstrap and the reruns.
    - ``reruns``: how often partitions are computed again to measure their stability (this many reruns of each kind).
    - ``scope``: the examples that a group is judged on: ``all``, those on which this group is ``active``, or those of
      the ``stratum`` that it was proposed on.
    - ``active``: a group is active on an example where any of its units is, all are, or its most selective one is.
    - ``test``: the exact test, or the former one against ``disjoint`` groups. ``statistic``: what the exact test
      compares: the ``necessity`` of the units, or their ``share`` of the group's damage.
    - ``joint``: a group passes only if its units need each other: their interaction is certainly below zero.
    - ``deciding``: the metrics that decide: the first and those that declare it (``declared``), or ``all``.
    - ``prune``: drop units that a candidate does not need, by ablation on the proposal half, before it is tested.
    - ``check_task``: the verdict is TASK_NOT_DONE where the model does not do the task better than chance.
    - ``size_curve``: also measure the damage by the method's first 1, 2, 4, 8 and 16 units, for boards.
    - ``null_proposals``: how often the pipeline runs on permuted data (None: see :attr:`permuted_runs`).
    - ``group``: units named by hand, which are tested as they are.

    These do not enter a cell's identity:

    - ``workspace``, ``tracking``: where results go; ``force``: redo a finished cell.
    - ``on_error``: whether a sweep continues after a failed cell.
    - ``cache``, ``cache_limit``: whether shared results are kept on disk (in the workspace), and how many bytes.
    """

    split: Literal["half", "none"] = "half"
    alpha: Annotated[float, Interval(gt=0, lt=1)] = 0.05
    futility: Annotated[int, Ge(1)] | None = 10
    ddof: Literal[0, 1] = 1
    seed: int = 0
    reruns: Annotated[int, Ge(0)] = 5
    scope: Literal["all", "active", "stratum"] = "all"
    active: Literal["any", "all", "most_selective"] = "any"
    test: Literal["exact", "disjoint"] = "exact"
    statistic: Literal["necessity", "share"] = "necessity"
    joint: bool = False
    deciding: Literal["declared", "all"] = "declared"
    prune: bool = False
    check_task: bool = True
    size_curve: bool = False
    null_proposals: Annotated[int, Ge(0)] | None = None
    group: tuple[str, ...] = ()
    workspace: str = "runs"
    tracking: str = "local"
    force: bool = False
    on_error: Literal["continue", "stop"] = "continue"
    cache: bool = True
    cache_limit: str = "10GB"

    @property
    def permuted_runs(self) -> int:
        """How often the pipeline runs on permuted data: as set. By default 99 if candidates are tested on the examples
        they were proposed on, else 0.
        """
        if self.null_proposals is not None:
            return self.null_proposals
        return 99 if self.split == "none" else 0


FIRST_NAMES = {new: old for old, new in SETTINGS_2.items()}
"""A renamed setting enters the digest of a protocol under its first name, so that older records share the protocol."""
FORMERLY = {
    "scope": "all",
    "deciding": "all",
    "test": "disjoint",
    "statistic": "necessity",
    "joint": False,
    "check_task": False,
}
"""Settings that older records do not have, with the value that they follow. It does not enter the digest either."""
NEUTRAL = frozenset({"workspace", "tracking", "force", "on_error", "cache", "cache_limit"})


@dataclass(frozen=True)
class Cell:
    """One combination of all stages.

    ``config``: the resolved configuration. ``methods``: the chosen methods, by stage. ``stages``: an instance of each,
    or a tuple where several are chosen. ``contrast``: another batch, on which a specific group does no damage, or None.
    """

    config: Mapping[str, Any]
    settings: Settings
    methods: Mapping[str, tuple[Method, ...]]
    stages: Mapping[str, Any]
    contrast: Any = None

    @classmethod
    def of(cls, config: Mapping[str, Any], registry: Registry) -> Cell:
        """Build every stage's method.

        Errors: an unknown method or key, a parameter of the wrong type, no metric.
        """
        settings = _settings({key: value for key, value in config.items() if key not in {*STAGES, "contrast"}})
        methods: dict[str, tuple[Method, ...]] = {}
        stages: dict[str, Any] = {}
        for stage in STAGES.values():
            nodes = list((config.get(stage.name) or {}).values()) if stage.many else [config.get(stage.name) or {}]
            if any("name" not in node for node in nodes) or (stage.name == "metric" and not nodes):
                options = ", ".join(registry.names(stage.name))
                raise HarnessError(f"configuration: no {stage.name} is chosen.", f"{stage.name} options: {options}")
            chosen = [registry.get(stage.name, node["name"]) for node in nodes]
            built = [
                method.build({key: value for key, value in node.items() if key != "name"})
                for method, node in zip(chosen, nodes, strict=True)
            ]
            methods[stage.name], stages[stage.name] = tuple(chosen), tuple(built) if stage.many else built[0]
        other = dict(config.get("contrast") or {})
        contrast = registry.get("batch", other.pop("name")).build(other) if other else None
        return cls(config, settings, methods, stages, contrast)

    @cached_property
    def proposing(self) -> tuple[str, ...]:
        """The stages that the candidates depend on, in order; none where a group is named by hand."""
        if self.settings.group:
            return ()
        classes = {stage: [method.cls for method in methods] for stage, methods in self.methods.items()}
        reached = upstream("selector", classes)
        return tuple(stage for stage in PROPOSING if stage in reached)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """The stages that the result depends on. Of a group named by hand, activity matters with ``scope=active``."""
        active = {"signal"} if self.settings.group and self.settings.scope == "active" else set()
        return tuple(stage for stage in self.stages if stage not in PROPOSING or stage in {*self.proposing, *active})

    @cached_property
    def requested(self) -> frozenset[str]:
        """The names that the labels and the proposing stages ask for; none where a group is named by hand."""
        stages = () if self.settings.group else {"labels", *self.proposing}
        return frozenset(name for stage in stages for method in self.methods[stage] for name in inputs_of(method.cls))

    @cached_property
    def supervised(self) -> tuple[str, ...]:
        """The proposing stages whose method uses the labels."""
        return tuple(s for s in self.proposing if any("labels" in inputs_of(method.cls) for method in self.methods[s]))

    @cached_property
    def id(self) -> str:
        """Digest of everything that decides the result: configuration, outside inputs, code of methods and core."""
        code = [[method.code for method in self.methods[stage]] for stage in self.used]
        stages = [self.identity(stage) for stage in self.used]
        return digest(_core_code(), self._settings_in_identity(), stages, code)[:12]

    @property
    def method(self) -> str:
        """The proposing methods, in one line: the row of a board."""
        if self.settings.group:
            return f"by hand: {named(self.settings.group)}"
        words = [text for stage in self._row_stages if (text := self.describe(stage))]
        return " ".join([*words, "pruned"] if self.settings.prune else words)

    @property
    def row(self) -> str:
        """Identity of a board's row: the proposing methods with all their parameters."""
        proposing = [self.identity(stage) for stage in self._row_stages]
        return digest(self.settings.group or (["pruned", *proposing] if self.settings.prune else proposing))[:12]

    @property
    def _row_stages(self) -> tuple[str, ...]:
        """The proposing stages, after the stratifier if the cell has strata."""
        return (*(["stratifier"] if self.has_strata else []), *self.proposing)

    @property
    def has_strata(self) -> bool:
        """Whether examples are divided into strata, each proposed on by itself."""
        return self.methods["stratifier"][0].name != "none"

    @property
    def protocol(self) -> str:
        """Identity of how candidates are judged; records of different protocols are never ranked together.

        Seeds of one protocol are repetitions: they share a row of a board.
        """
        judges = [self.identity(stage) for stage in ("controls", "labels", "metric")]
        settings = {
            FIRST_NAMES.get(key, key): value
            for key, value in self._settings_in_identity().items()
            if (key, value) not in FORMERLY.items()
        }
        settings["seed"] = Settings.seed
        del settings["group"], settings["prune"], settings["size_curve"]
        return digest(settings, judges)[:12]

    @property
    def title(self) -> str:
        """The cell in one line."""
        parts = (self.describe("subject"), self.describe("batch"), self.method, self.describe("intervention"))
        return " · ".join(parts)

    @property
    def command(self) -> str:
        """The command that runs this cell again; a comment where it has objects of a Python session."""
        objects = [f"{s} {m.name}" for s, methods in self.methods.items() for m in methods if m.owner == IN_SESSION]
        if objects:
            return f"# run from Python, with objects in memory: {', '.join(objects)}"
        words = ["harness", "run"]
        for stage in self.used:
            names = [method.name for method in self.methods[stage]]
            words.append(f"{stage}={as_override(names) if STAGES[stage].many else names[0]}")
            for method, node in zip(self.methods[stage], self._nodes(stage), strict=True):
                place = f"{stage}.{method.name}" if STAGES[stage].many else stage
                words += [f"{place}.{key}={as_override(value)}" for key, value in self._changed(method, node).items()]
        if self.contrast is not None:
            node = self.config["contrast"]
            words.append(f"batch@contrast={node['name']}")
            words += [f"contrast.{key}={as_override(value)}" for key, value in node.items() if key != "name"]
        for key, default in asdict(Settings()).items():
            usual = list(default) if isinstance(default, tuple) else default
            if key not in NEUTRAL and (value := self.config.get(key, usual)) != usual:
                words.append(f"{key}={as_override(value)}")
        return shlex.join(words)

    def node(self, stage: str) -> Any:
        """A stage's name and parameters (a list of them where several are chosen), without neutral parameters."""
        nodes = self._nodes(stage)
        return nodes if STAGES[stage].many else nodes[0]

    def identity(self, stage: str) -> list[Any]:
        """Identity of the choice for a stage: its parameters, and the content of files instead of their names."""
        chosen = [
            {key: value for key, value in node.items() if key not in method.by_content}
            for method, node in zip(self.methods[stage], self._nodes(stage), strict=True)
        ]
        return [stage, chosen, self._outside(stage)]

    def describe(self, stage: str) -> str:
        """``spectral``, or ``spectral(k=[4, 6])`` where a parameter differs from its default."""
        parts = []
        for method, node in zip(self.methods[stage], self._nodes(stage), strict=True):
            changed = ", ".join(
                f"{key}={Path(value).name if key in method.by_content else value}"
                for key, value in self._changed(method, node).items()
            )
            parts.append(f"{method.name}({changed})" if changed else method.name)
        return "+".join(parts)

    def _nodes(self, stage: str) -> list[dict[str, Any]]:
        given = self.config.get(stage) or {}
        nodes = list(given.values()) if STAGES[stage].many else [given]
        return [
            {key: value for key, value in node.items() if key not in method.neutral}
            for method, node in zip(self.methods[stage], nodes, strict=True)
        ]

    def _changed(self, method: Method, node: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that differ from their defaults, or from the key they follow."""
        defaults = method.node
        for key, followed in method.follows.items():
            stage, _, parameter = followed.partition(".")
            defaults[key] = self.config[stage].get(parameter)
        return {key: value for key, value in node.items() if key != "name" and value != defaults[key]}

    def _settings_in_identity(self) -> dict[str, Any]:
        settings = {key: value for key, value in asdict(self.settings).items() if key not in NEUTRAL}
        return settings | {"contrast": repr(self.contrast)}

    def _outside(self, stage: str) -> list[str]:
        built = self.stages[stage] if STAGES[stage].many else [self.stages[stage]]
        return [str(plugin.fingerprint()) for plugin in built]


@cache
def _core_code() -> str:
    """Digest of everything that the pipeline imports: a record made by other code is not reused."""
    return code_of("harness.pipeline")


def as_override(value: Any) -> str:
    """A value as it is written in a Hydra override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_override, value))}]"
    text = str(value)
    plain = isinstance(value, int | float) or re.fullmatch(r"[A-Za-z_/~][\w./~@:%+-]*", text)
    return text if plain else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _settings(values: Mapping[str, Any]) -> Settings:
    for key in values:
        if key not in Settings.__dataclass_fields__:
            raise unknown("configuration: key", key, [*STAGES, *Settings.__dataclass_fields__])
    settings = validated(Settings, values)
    try:
        parse_size(settings.cache_limit)
    except ValueError as error:
        raise HarnessError(f"cache_limit: {error}.", "The default is cache_limit=10GB.") from error
    return settings
