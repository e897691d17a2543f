"""Presets: configuration files that set several keys at once, of the harness, of plugins and of the user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import takewhile
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigSource

from harness.data.stages import STAGES
from harness.registry.command import command
from harness.registry.config import hydra_ready
from harness.registry.registry import Registry
from harness.util.errors import HarnessError, unknown

GROUPS = {"experiment": "sweeps and settings from one file", "preset": "a protocol: how candidates are tested"}
"""Groups of presets that are no stage: what their files are."""


@dataclass(frozen=True)
class Preset:
    """One file. ``text``: its content; ``origin``: where it was found."""

    group: str
    name: str
    text: str
    origin: str

    @property
    def comment(self) -> str:
        """The comment at its beginning."""
        lines = takewhile(lambda line: line.startswith("#"), self.text.splitlines())
        return " ".join(line.lstrip("# ") for line in lines if "@package" not in line)

    @property
    def summary(self) -> str:
        """The first sentence of its comment."""
        first, dot, _ = self.comment.partition(". ")
        return first + dot.strip()

    @property
    def body(self) -> str:
        """What it sets, as YAML."""
        lines = self.text.splitlines()
        head = len(list(takewhile(lambda line: line.startswith("#"), lines)))
        return "\n".join(lines[head:]).strip()


def presets(group: str, methods: Registry) -> list[Preset]:
    """The presets of a stage, or of another group, in the order of their names. Methods themselves are no presets."""
    with hydra_ready():
        loader = GlobalHydra.instance().config_loader()
        hidden = {"__init__", *methods.names(group)}
        names = [name for name in loader.get_group_options(group) if name not in hidden]
        return [_read(group, name, loader.get_sources()) for name in names]


def find_preset(name: str, methods: Registry, group: str | None = None) -> Preset | None:
    """The preset of this name, in one group or in any; None where a stage, or no group, has it.

    Errors: several groups have it; a group that is no stage does not have it.
    """
    searched = [group] if group else [*GROUPS, *STAGES]
    found = [preset for one in searched for preset in presets(one, methods) if preset.name == name]
    if len(found) > 1:
        groups = ", ".join(preset.group for preset in found)
        raise HarnessError(f"presets called '{name}': {groups}.", f"Type {command('show', found[0].group, name)}")
    if not found and group in GROUPS:
        raise unknown(group, name, [preset.name for preset in presets(group, methods)], command("list", group))
    return found[0] if found else None


def _read(group: str, name: str, sources: list[ConfigSource]) -> Preset:
    for root, origin in _roots(sources):
        path = root.joinpath(group, f"{name}.yaml")
        if path.is_file():
            return Preset(group, name, path.read_text(encoding="utf-8"), origin)
    return Preset(group, name, "", "a ConfigStore")  # a plugin that stores it without a file


def _roots(sources: list[ConfigSource]) -> Iterator[tuple[Path, str]]:
    """The folders that Hydra searches, in order."""
    for source in sources:
        if source.scheme() == "file":
            yield Path(source.path), source.path
        elif source.scheme() == "pkg":
            yield Path(str(files(source.path))), source.path
