"""The methods by stage and name: class, owner, parameters; and the checks that an offered class has to pass."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.data.contracts import with_defaults
from harness.data.stages import STAGES, inputs_of
from harness.registry.plugins import Broken, Plugins
from harness.util.errors import PluginError, unknown
from harness.util.fingerprint import code_of
from harness.util.validation import type_text, validated

IN_SESSION = "Python session"
"""The owner of a method whose object was given from Python: no other process has it."""
CHOOSING = ("subject", "batch")
"""The stages whose methods choose the methods of other stages, unless the user does."""


@dataclass(frozen=True)
class Method:
    """One method: its class, and the distribution or file that offers it."""

    stage: str
    name: str
    cls: type
    owner: str

    def __post_init__(self) -> None:
        with_defaults(self.cls, STAGES[self.stage].contract)

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (inspect.getdoc(self.cls) or "").split("\n", 1)[0]

    @property
    def parameters(self) -> dict[str, Any]:
        """Fields with their defaults."""
        return {f.name: _default(f) for f in dataclasses.fields(self.cls)}

    @property
    def types(self) -> dict[str, str]:
        """Types of the parameters as text, with their bounds."""
        return {f.name: type_text(f.type) for f in dataclasses.fields(self.cls)}

    @property
    def node(self) -> dict[str, Any]:
        """The defaults as they are in a configuration, where tuples are lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.parameters.items()}

    @property
    def defaults(self) -> dict[str, str | list[str]]:
        """The methods that a subject or a batch chooses for other stages, by stage; else those of its contract.

        Methods of other stages choose none.
        """
        contract: Any = STAGES[self.stage].contract
        choices = {**contract.defaults, **getattr(self.cls, "defaults", {})} if self.stage in CHOOSING else {}
        return {stage: choice if isinstance(choice, str) else list(choice) for stage, choice in choices.items()}

    @property
    def neutral(self) -> frozenset[str]:
        """Parameters that change how something is computed, not the result. They do not enter a cell's identity."""
        return frozenset(f.name for f in dataclasses.fields(self.cls) if f.metadata.get("neutral"))

    @property
    def by_content(self) -> frozenset[str]:
        """Parameters that name a file. Its content enters a cell's identity (``fingerprint``), its path does not."""
        return frozenset(f.name for f in dataclasses.fields(self.cls) if f.metadata.get("by_content"))

    @property
    def added(self) -> dict[str, Any]:
        """Parameters that were added when boards and cells existed (metadata ``added``), with their defaults.

        At its default such a parameter enters no identity, so that older rows and cells keep theirs.
        """
        return {f.name: self.node[f.name] for f in dataclasses.fields(self.cls) if f.metadata.get("added")}

    @property
    def follows(self) -> dict[str, str]:
        """Parameters that take the value of another key (``affinity.path``) where they are not set."""
        return {f.name: f.metadata["follows"] for f in dataclasses.fields(self.cls) if "follows" in f.metadata}

    @property
    def code(self) -> str:
        """Digest of its code. Records and cached results of other code are not reused."""
        return code_of(self.cls)

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """An instance, its parameters checked and converted by their annotations.

        Errors: an unknown parameter; a value that its annotation, or the class itself, rejects.
        """
        for name in parameters:
            if name not in self.parameters:
                raise unknown(f"{self.stage} {self.name}: parameter", name, self.parameters)
        key = f"{self.stage}.{self.name}" if STAGES[self.stage].many else self.stage
        return validated(self.cls, parameters, f"{key}.")


@dataclass
class Registry:
    """Every method by stage and name. ``problems`` are the offers that were refused."""

    methods: dict[tuple[str, str], Method] = field(default_factory=dict)
    contested: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    problems: list[Broken] = field(default_factory=list)

    @classmethod
    def of(cls, plugins: Plugins) -> Registry:
        """Collect what every plugin offers. A bad offer is refused and reported; the others are kept."""
        registry = cls()
        for stage in STAGES.values():
            for owner, offered in plugins.calls(stage.hook):
                try:
                    methods = list(offered)
                except Exception as error:  # not iterable, or a generator that raises
                    why = f"it does not return a list of classes: {type(error).__name__}: {error}"
                    registry.problems.append(Broken(f"{owner} ({stage.hook})", owner, why))
                    continue
                for method in methods:
                    try:
                        registry._add(stage.name, method, owner)
                    except PluginError as error:
                        registry.problems.append(Broken(f"{owner} ({stage.hook})", owner, str(error)))
        registry.problems += plugins.broken
        return registry

    def get(self, stage: str, name: str) -> Method:
        """The method of this name. Errors: an unknown stage or name, a name that two plugins offer."""
        if stage not in STAGES:
            raise unknown("stage", stage, STAGES)
        if (stage, name) in self.contested:
            owners = " and ".join(self.contested[stage, name])
            raise PluginError(
                f"{stage} '{name}' is offered twice: by {owners}.",
                "Rename one, or leave one out: HARNESS_BLOCK_PLUGINS=PLUGIN",
            )
        if (stage, name) not in self.methods:
            raise unknown(stage, name, self.names(stage), f"`harness list {stage}` describes them")
        return self.methods[stage, name]

    def names(self, stage: str) -> list[str]:
        """The names of the methods of a stage, sorted."""
        return sorted(name for method_stage, name in self.methods if method_stage == stage)

    def _add(self, stage: str, cls: Any, owner: str) -> None:
        method = method_of(stage, cls, owner)
        key = (stage, method.name)
        if key in self.methods:
            where = f"{owner} ({inspect.getfile(cls)})"
            first = self.methods[key]
            self.contested.setdefault(key, [f"{first.owner} ({inspect.getfile(first.cls)})"]).append(where)
            self.problems.append(
                Broken(f"{stage} {method.name}", owner, f"offered twice: by {' and by '.join(self.contested[key])}")
            )
            return
        self.methods[key] = method


def method_of(stage: str, cls: Any, owner: str) -> Method:
    """The method that a class defines. Errors: a class that is not of the shape of a method, with what to change."""
    _check(stage, cls, owner)
    return Method(stage, cls.name, cls, owner)


def _check(stage: str, cls: Any, owner: str) -> None:
    """Errors, in three lines for the plugin's author: which plugin, what it offers, what is wrong and how to fix it."""

    def refuse(why: str) -> PluginError:
        return PluginError(f"plugin {owner}\n  offers {cls!r} for stage {stage}\n  {why}")

    if not isinstance(cls, type):
        raise refuse("it is not a class: return classes, not instances")
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise refuse("it is not a frozen dataclass: decorate it with @dataclass(frozen=True)")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise refuse(f"its name is {name!r}: declare name: ClassVar[str] = 'lower_case_name'")
    if "name" in (f.name for f in dataclasses.fields(cls)):
        raise refuse("its name is a parameter: declare it as ClassVar[str]")
    doc = cls.__dict__.get("__doc__") or ""
    if not doc.strip() or doc.startswith(f"{cls.__name__}("):  # dataclass writes the second form itself
        raise refuse("it has no docstring: describe what it computes (formula, shapes, units, source)")
    declared, contract = _members(cls), STAGES[stage].contract
    members = _members(contract) | declared
    for method in ("__call__", *sorted(contract.__abstractmethods__)):  # type: ignore[attr-defined]
        if method not in members or hasattr(members[method], "__isabstractmethod__"):
            raise refuse(f"it has no method {method}: define it (the contract is {contract.__name__})")
    others = {*(cls.defaults if stage in CHOOSING and hasattr(cls, "defaults") else ())} - {*STAGES}
    if others:
        raise refuse(f"its defaults name {', '.join(sorted(others))}, which is no stage: {', '.join(STAGES)}")
    allowed = STAGES[stage].asks
    for argument in inputs_of(cls) if "__call__" in declared else ():
        if argument not in allowed:
            names = f"may have {', '.join(allowed)} (by these names)" if allowed else "has no arguments"
            raise refuse(f"its call has the argument '{argument}'; a call of this stage {names}")
    for parameter in dataclasses.fields(cls):
        if _default(parameter) is dataclasses.MISSING:
            raise refuse(f"its parameter '{parameter.name}' has no default: give it one")


def _members(cls: type) -> dict[str, Any]:
    return {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}


def _default(parameter: dataclasses.Field[Any]) -> Any:
    if parameter.default_factory is not dataclasses.MISSING:
        return parameter.default_factory()
    return parameter.default
