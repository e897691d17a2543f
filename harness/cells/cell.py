"""A cell: one combination of all stages, built from a resolved configuration, with an identity of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness.cells.rerun import rerun_words
from harness.cells.settings import FIRST_NAMES, FORMERLY, NEUTRAL, NOT_JUDGING, PROPOSING, Settings
from harness.data.stages import STAGES, inputs_of, upstream
from harness.data.units import named
from harness.registry.command import command
from harness.registry.registry import IN_SESSION, Method, Registry
from harness.util.bytesize import parse_size
from harness.util.digest import digest
from harness.util.errors import HarnessError, unknown
from harness.util.fingerprint import code_of
from harness.util.validation import validated


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
        """The stages that the result depends on.

        Of a group named by hand, activity matters with ``scope=active``; of groups that are followed through training,
        its score.
        """
        scored = self.followed or (self.settings.group and self.settings.scope == "active")
        read = {*self.proposing, *(["signal"] if scored else [])}
        return tuple(stage for stage in self.stages if stage not in PROPOSING or stage in read)

    @property
    def followed(self) -> bool:
        """Whether the labels compare checkpoints: the record then says what each group is like at this one."""
        return not self.settings.group and "history" in inputs_of(self.methods["labels"][0].cls)

    @cached_property
    def requested(self) -> frozenset[str]:
        """The names that the labels and the proposing stages ask for; none where a group is named by hand."""
        stages = () if self.settings.group else {"labels", *self.proposing}
        return frozenset(name for stage in stages for method in self.methods[stage] for name in inputs_of(method.cls))

    @cached_property
    def supervised(self) -> tuple[str, ...]:
        """The proposing stages whose method uses the labels, or the truth."""
        uses = {s: {name for method in self.methods[s] for name in inputs_of(method.cls)} for s in self.proposing}
        return tuple(stage for stage, names in uses.items() if names & {"labels", "truth"})

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
        return " ".join([*words, *self._refined])

    @property
    def row(self) -> str:
        """Identity of a board's row: the proposing methods with all their parameters."""
        proposing = [self.identity(stage) for stage in self._row_stages]
        return digest(self.settings.group or [*self._refined, *proposing])[:12]

    @property
    def _refined(self) -> list[str]:
        """How candidates are changed before they are tested."""
        settings = self.settings
        return [*([f"grown({settings.grow})"] if settings.grow else []), *(["pruned"] if settings.prune else [])]

    @property
    def _row_stages(self) -> tuple[str, ...]:
        """The proposing stages, after the stratifier if the cell has strata."""
        return (*(["stratifier"] if self.has_strata else []), *self.proposing)

    @property
    def has_strata(self) -> bool:
        """Whether the cell has strata of its examples."""
        return self.methods["stratifier"][0].name != "none"

    @property
    def divided(self) -> bool:
        """Whether each stratum is proposed on by itself: not where the affinity takes the strata as covariates."""
        return self.has_strata and not self.given_strata

    @property
    def given_strata(self) -> bool:
        """Whether the affinity takes the strata as covariates."""
        return "affinity" in self.proposing and self.stages["affinity"].given_strata

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
        for key in NOT_JUDGING:
            del settings[key]
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
        methods = {(method.stage, method.name): method for chosen in self.methods.values() for method in chosen}
        return command("run", *rerun_words(self.config, methods))

    def node(self, stage: str) -> Any:
        """A stage's name and parameters (a list of them where several are chosen), without neutral parameters."""
        nodes = self._nodes(stage)
        return nodes if STAGES[stage].many else nodes[0]

    def identity(self, stage: str) -> list[Any]:
        """Identity of the choice for a stage: its parameters, and the content of files instead of their names.

        Parameters that were added later are left out at their default.
        """
        chosen = [
            {k: v for k, v in node.items() if k not in method.by_content and (k, v) not in method.added.items()}
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
