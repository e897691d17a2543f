"""A cell: one combination of all stages, built from a resolved configuration, with an identity of its own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from harness.digest import digest, digest_files
from harness.errors import HarnessError, unknown
from harness.registry import Method, Registry
from harness.stages import STAGES

PROPOSING = ("signal", "binarizer", "affinity", "partitioner", "selector")


@dataclass(frozen=True)
class Settings:
    """What a cell is told besides its methods.

    ``metrics``: what damage is measured by; ``split``: propose on one half of the examples and test on the other
    (``half``), or use all for both (``none``); ``alpha``: the level of the verdict; ``ddof``: of the controls' standard
    deviation in z; ``seed``: of the split and the bootstrap; ``group``: units named by hand, tested as they are;
    ``workspace``, ``tracking``, ``force``: where results go, and whether a finished cell is redone. The last three do
    not enter a cell's identity.
    """

    metrics: tuple[str, ...] = ("target_logit", "accuracy", "loss")
    split: Literal["half", "none"] = "half"
    alpha: float = 0.05
    ddof: Literal[0, 1] = 1
    seed: int = 0
    group: tuple[str, ...] = ()
    workspace: str = "runs"
    tracking: str = "local"
    force: bool = False


NEUTRAL = frozenset({"workspace", "tracking", "force"})


@dataclass(frozen=True)
class Cell:
    """One combination of all stages.

    ``config`` is the resolved configuration; ``methods`` what is used, by stage (``metric loss`` for each metric);
    ``stages`` and ``metrics`` are built from them.
    """

    config: Mapping[str, Any]
    settings: Settings
    methods: Mapping[str, Method]
    stages: Mapping[str, Any]
    metrics: tuple[Any, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any], registry: Registry) -> Cell:
        """Build every stage's method.

        Errors: an unknown method or key, a parameter of the wrong type, two metrics of one name.
        """
        chosen = [stage for stage in STAGES if stage != "metric"]  # metrics are a list of names, among the settings
        settings = _settings({key: value for key, value in config.items() if key not in chosen}, chosen)
        methods, stages = {}, {}
        for stage in chosen:
            node = dict(config.get(stage) or {})
            if "name" not in node:
                raise HarnessError(
                    f"configuration: no {stage} is chosen.", f"{stage} options: {', '.join(registry.names(stage))}"
                )
            method = registry.get(stage, node.pop("name"))
            methods[stage], stages[stage] = method, method.build(node)
        metrics = [registry.get("metric", name) for name in settings.metrics]
        methods |= {f"metric {metric.name}": metric for metric in metrics}
        return cls(config, settings, methods, stages, tuple(metric.build({}) for metric in metrics))

    @cached_property
    def id(self) -> str:
        """Digest of everything that decides the result: configuration, outside inputs, code of methods and core."""
        used = [stage for stage in self.stages if not (self.settings.group and stage in PROPOSING)]
        told = {key: value for key, value in vars(self.settings).items() if key not in NEUTRAL}
        parts = [[stage, self.node(stage), self.methods[stage].code, self._outside(stage)] for stage in used]
        measured = [self.methods[f"metric {metric.name}"].code for metric in self.metrics]
        return digest(_core_code(), told, parts, measured)[:12]

    @property
    def method(self) -> str:
        """What proposes, in one line: the row of a board."""
        if self.settings.group:
            return f"by hand: {' '.join(self.settings.group)}"
        return " ".join(self.describe(stage) for stage in PROPOSING)

    @property
    def row(self) -> str:
        """Identity of a board's row: what proposes, with all its parameters."""
        return digest(self.settings.group or [self.node(stage) for stage in PROPOSING])[:12]

    @property
    def protocol(self) -> str:
        """Identity of how candidates are judged; records of different protocols are never ranked together."""
        told = {key: value for key, value in vars(self.settings).items() if key not in NEUTRAL | {"group"}}
        return digest(told, self.node("controls"), self.node("labels"))[:12]

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
        for stage in self.stages:
            method = self.methods[stage]
            defaults = plain_parameters(method)
            words.append(f"{stage}={method.name}")
            words += [
                f"{stage}.{key}={written(value)}"
                for key, value in self.node(stage).items()
                if key != "name" and value != defaults[key]
            ]
        told = {key: self.config[key] for key in vars(self.settings) if key in self.config and key not in NEUTRAL}
        defaults = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(Settings()).items()}
        words += [f"{key}={written(value)}" for key, value in told.items() if value != defaults[key]]
        return shlex.join(words)

    def node(self, stage: str) -> dict[str, Any]:
        """A stage's name and parameters, without those that only say how to compute."""
        return {key: value for key, value in self.config[stage].items() if key not in self.methods[stage].neutral}

    def describe(self, stage: str) -> str:
        """``spectral``, or ``spectral(k=[4, 6])`` where a parameter differs from its default."""
        method, node = self.methods[stage], self.node(stage)
        defaults = plain_parameters(method)
        changed = [f"{key}={value}" for key, value in node.items() if key != "name" and value != defaults[key]]
        return f"{method.name}({', '.join(changed)})" if changed else method.name

    def _outside(self, stage: str) -> str:
        fingerprint = getattr(self.stages[stage], "fingerprint", None)
        return str(fingerprint()) if fingerprint else ""


@cache
def _core_code() -> str:
    """Digest of the core that computes results: a record made by another core is not served."""
    root = Path(__file__).parent
    return digest_files(*sorted(file for part in (".", "engine", "closure") for file in (root / part).glob("*.py")))


def plain_parameters(method: Method) -> dict[str, Any]:
    """A method's defaults as they stand in a configuration: tuples are lists there."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in method.parameters.items()}


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


def _settings(values: Mapping[str, Any], stages: Sequence[str]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    for key in values:
        if key not in Settings.__dataclass_fields__:
            raise unknown("configuration: key", key, [*stages, *Settings.__dataclass_fields__])
    try:
        settings = TypeAdapter(Settings).validate_python(dict(values))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg'].lower()}" for e in error.errors()]
        raise HarnessError("; ".join(problems), "`harness run --help` lists the settings.") from error
    if not 0 < settings.alpha < 1:
        raise HarnessError(f"alpha={settings.alpha}: it must lie between 0 and 1.")
    if len(set(settings.metrics)) != len(settings.metrics) or not settings.metrics:
        raise HarnessError(f"metrics={list(settings.metrics)}: name each metric once, and at least one.")
    return settings
