"""A cell: one combination of all stages, built from a resolved configuration, with an identity of its own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from harness.data.stages import STAGES, inputs_of, upstream
from harness.registry.registry import Method, Registry
from harness.util.bytesize import parse_size
from harness.util.digest import digest
from harness.util.errors import HarnessError, unknown
from harness.util.fingerprint import code_of

PROPOSING = ("signal", "transform", "binarizer", "affinity", "partitioner", "chooser", "selector")


@dataclass(frozen=True)
class Settings:
    """What a cell is told besides its methods.

    ``split``: propose on one half of the examples and test on the other (``half``), or use all for both (``none``);
    ``alpha``: the level of the verdict; ``futility``: a candidate is given up once as many controls did at least as much
    damage (none: all controls are evaluated, whatever they do); ``ddof``: of the controls' standard deviation in z;
    ``seed``: of the split, the bootstrap and the reruns; ``reruns``: how often partitions are found again on resamples,
    other orders and seeds, to see how stable they are; ``active``: when a group counts as active on an example: any of
    its units, all, or its most selective one; ``null_proposals``: how often the pipeline is run on permuted data to see
    what it chooses there (none: 99 where it is tested on the examples it proposed on, else 0); ``group``: units named
    by hand, tested as they are; ``workspace``, ``tracking``, ``force``: where results go, and whether a finished cell
    is redone; ``on_error``: whether a sweep goes on after a cell that failed; ``cache``, ``cache_limit``: whether what
    cells share is kept on disk (in the workspace), and how much of it. The last six do not enter a cell's identity.
    """

    split: Literal["half", "none"] = "half"
    alpha: float = 0.05
    futility: int | None = 10
    ddof: Literal[0, 1] = 1
    seed: int = 0
    reruns: int = 5
    active: Literal["any", "all", "most_selective"] = "any"
    null_proposals: int | None = None
    group: tuple[str, ...] = ()
    workspace: str = "runs"
    tracking: str = "local"
    force: bool = False
    on_error: Literal["continue", "stop"] = "continue"
    cache: bool = True
    cache_limit: str = "10GB"


RENAMED = {"futility": "give_up", "contrast": "elsewhere"}
"""Settings that enter the digest of a protocol under an earlier name: a new name makes no new protocol."""
NEUTRAL = frozenset({"workspace", "tracking", "force", "on_error", "cache", "cache_limit"})


@dataclass(frozen=True)
class Cell:
    """One combination of all stages.

    ``config`` is the resolved configuration; ``methods`` what is chosen, by stage; ``stages`` what is built from them:
    one instance per stage, or a tuple where several are chosen. ``contrast`` is another batch, on which a group that
    is specific does no damage, or None.
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
        reached = upstream("selector", {stage: [method.cls for method in of] for stage, of in self.methods.items()})
        return tuple(stage for stage in PROPOSING if stage in reached)

    @cached_property
    def supervised(self) -> tuple[str, ...]:
        """The proposing stages whose method looks at the labels."""
        return tuple(s for s in self.proposing if any("labels" in inputs_of(method.cls) for method in self.methods[s]))

    @cached_property
    def id(self) -> str:
        """Digest of everything that decides the result: configuration, outside inputs, code of methods and core."""
        used = [stage for stage in self.stages if stage not in PROPOSING or stage in self.proposing]
        code = [[method.code for method in self.methods[stage]] for stage in used]
        return digest(_core_code(), self._told(), [self.identity(stage) for stage in used], code)[:12]

    @property
    def method(self) -> str:
        """What proposes, in one line: the row of a board."""
        if self.settings.group:
            return f"by hand: {' '.join(self.settings.group)}"
        return " ".join(text for stage in self.proposing if (text := self.describe(stage)))

    @property
    def row(self) -> str:
        """Identity of a board's row: what proposes, with all its parameters."""
        return digest(self.settings.group or [self.identity(stage) for stage in self.proposing])[:12]

    @property
    def protocol(self) -> str:
        """Identity of how candidates are judged; records of different protocols are never ranked together."""
        judges = [self.identity(stage) for stage in ("controls", "labels", "metric")]
        settings = {RENAMED.get(key, key): value for key, value in self._told().items() if key != "group"}
        return digest(settings, judges)[:12]

    @property
    def title(self) -> str:
        """The cell in one line."""
        return (
            f"{self.describe('subject')} · {self.describe('batch')} · {self.method} · {self.describe('intervention')}"
        )

    @property
    def command(self) -> str:
        """What to type to get this cell again."""
        words = ["harness", "run"]
        for stage, methods in self.methods.items():
            names = [method.name for method in methods]
            words.append(f"{stage}={written(names) if STAGES[stage].many else names[0]}")
            for method, node in zip(methods, self._nodes(stage), strict=True):
                place = f"{stage}.{method.name}" if STAGES[stage].many else stage
                words += [f"{place}.{key}={written(value)}" for key, value in self._changed(method, node).items()]
        if self.contrast is not None:
            node = self.config["contrast"]
            words.append(f"batch@contrast={node['name']}")
            words += [f"contrast.{key}={written(value)}" for key, value in node.items() if key != "name"]
        told = {key: self.config[key] for key in self._told() if key in self.config and key != "contrast"}
        defaults = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(Settings()).items()}
        words += [f"{key}={written(value)}" for key, value in told.items() if value != defaults[key]]
        return shlex.join(words)

    def node(self, stage: str) -> Any:
        """A stage's name and parameters (a list of them where several are chosen), without neutral parameters."""
        nodes = self._nodes(stage)
        return nodes if STAGES[stage].many else nodes[0]

    def identity(self, stage: str) -> list[Any]:
        """What makes two choices for a stage the same: parameters, and content instead of the names of files."""
        told = [
            {key: value for key, value in node.items() if key not in method.by_content}
            for method, node in zip(self.methods[stage], self._nodes(stage), strict=True)
        ]
        return [stage, told, self._outside(stage)]

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
        for key, of in method.follows.items():
            stage, _, parameter = of.partition(".")
            defaults[key] = self.config[stage].get(parameter)
        return {key: value for key, value in node.items() if key != "name" and value != defaults[key]}

    def _told(self) -> dict[str, Any]:
        told = {key: value for key, value in vars(self.settings).items() if key not in NEUTRAL}
        return told | {"contrast": repr(self.contrast)}

    def _outside(self, stage: str) -> list[str]:
        built = self.stages[stage] if STAGES[stage].many else [self.stages[stage]]
        return [str(plugin.fingerprint()) for plugin in built]


@cache
def _core_code() -> str:
    """Digest of everything that the pipeline imports: a record made by other code is not served."""
    return code_of("harness.pipeline")


def written(value: Any) -> str:
    """A value as Hydra's command line reads it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    text = str(value)
    plain = isinstance(value, int | float) or re.fullmatch(r"[A-Za-z_/~][\w./~@:%+-]*", text)
    return text if plain else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _settings(values: Mapping[str, Any]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    for key in values:
        if key not in Settings.__dataclass_fields__:
            raise unknown("configuration: key", key, [*STAGES, *Settings.__dataclass_fields__])
    try:
        settings = TypeAdapter(Settings).validate_python(dict(values))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg'].lower()}" for e in error.errors()]
        raise HarnessError("; ".join(problems), "`harness run --help` lists the settings.") from error
    if not 0 < settings.alpha < 1:
        raise HarnessError(f"alpha={settings.alpha}: it must lie between 0 and 1.")
    if settings.futility is not None and settings.futility < 1:
        raise HarnessError(
            f"futility={settings.futility}: a candidate cannot be given up before a control did as much damage.",
            "The default is 10; futility=null evaluates all controls.",
        )
    if settings.reruns < 0:
        raise HarnessError(f"reruns={settings.reruns}: it cannot be negative.", "reruns=0 measures no stability.")
    try:
        parse_size(settings.cache_limit)
    except ValueError as error:
        raise HarnessError(f"cache_limit: {error}.", "The default is cache_limit=10GB.") from error
    if settings.null_proposals is not None and settings.null_proposals < 0:
        raise HarnessError(f"null_proposals={settings.null_proposals}: it cannot be negative.", "0 asks for none.")
    return settings
