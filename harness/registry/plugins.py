"""The plugin manager. It loads built-in, installed and file plugins in the same way; a broken one stops no other."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from harness.registry import hookspecs
from harness.registry.renamed import moved
from harness.util.digest import digest
from harness.util.errors import HarnessError, unknown

# The plugins of `--plugin`, for the processes that a sweep starts.
EXTRA_VARIABLE = "HARNESS_EXTRA_PLUGINS"


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be loaded: its name, its origin, the reason, and the traceback for `--debug`."""

    name: str
    origin: str
    reason: str
    trace: str = ""


@dataclass(eq=False)
class Plugins:
    """The loaded plugins. ``manager`` calls their hooks, ``origins``: where each is from; ``broken``: failures."""

    manager: pluggy.PluginManager
    origins: dict[str, str] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    def origin(self, plugin: object) -> str:
        """The distribution and version, or the file, that a registered plugin comes from."""
        return self.origins[self.manager.get_name(plugin) or ""]

    def calls(self, hook: str) -> Iterator[tuple[str, Any]]:
        """The answer of each plugin to a hook, with its origin. A plugin that raises is added to ``broken``."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            origin = self.origin(implementation.plugin)
            try:
                yield origin, implementation.function()
            except (Exception, SystemExit) as error:  # third-party code can raise anything
                self.broken.append(_broken(f"{implementation.plugin_name} ({hook})", origin, error))

    @contextmanager
    def watched_by(self, watcher: object, name: str) -> Iterator[None]:
        """While the block runs, the hooks of this object are called as those of a plugin."""
        self.manager.register(watcher, name=name)
        try:
            yield
        finally:
            self.manager.unregister(watcher)


def load() -> Plugins:
    """Every plugin: those of the entry-point group ``closure_harness``, then those of ``--plugin``.

    ``HARNESS_PLUGINS`` loads only some of the installed plugins, ``HARNESS_BLOCK_PLUGINS`` leaves some out. Both take
    names of plugins (``affinities.ising``), packages (``affinities``) or distributions, separated by commas. A plugin
    that fails to load is listed in ``broken``.
    """
    extra = tuple(dict.fromkeys(names(os.environ.get(EXTRA_VARIABLE))))
    return _load(extra, os.environ.get("HARNESS_PLUGINS"), os.environ.get("HARNESS_BLOCK_PLUGINS"))


@cache
def _load(extra: tuple[str, ...], only: str | None, block: str | None) -> Plugins:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    points = importlib.metadata.entry_points(group=hookspecs.PROJECT)
    entries = sorted(map(_Entry, points), key=lambda entry: (entry.distribution, entry.name))
    wanted, blocked = set(names(only)), set(names(block))
    _check_names(entries, {"HARNESS_PLUGINS": wanted, "HARNESS_BLOCK_PLUGINS": blocked})
    for entry in entries:
        whole = {entry.name, entry.distribution}
        if whole & blocked or (wanted and not (whole | entry.modules.keys()) & wanted):
            continue  # it is not even imported
        for name, load in entry.plugins(manager):
            if name not in blocked and (not wanted or {name, *whole} & wanted):
                _register(plugins, name, entry.origin, load)
    for name in extra:
        _register(plugins, name, name, partial(_import, name))
    return plugins


@dataclass(frozen=True)
class _Entry:
    """An entry point of an installed distribution. It names a plugin, or a package whose modules are plugins."""

    point: Any  # an EntryPoint, of importlib.metadata or of its backport where some library has loaded that

    @property
    def name(self) -> str:
        return str(self.point.name)

    @property
    def distribution(self) -> str:
        return str(self.point.dist.name) if self.point.dist else ""

    @property
    def origin(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.point.dist.version}" if self.point.dist else str(self.point.value)

    @cached_property
    def modules(self) -> dict[str, str]:
        """The modules of the package by name (``affinities.ising``), found without importing it. Empty for a module."""
        try:
            spec = importlib.util.find_spec(self.point.value)
        except (Exception, SystemExit):  # in a parent package; reported when the plugin is registered
            return {}
        places = (spec.submodule_search_locations if spec else None) or ()
        submodules = [name for _, name, _ in pkgutil.iter_modules(places) if not name.startswith("_")]
        return {f"{self.name}.{name}": f"{self.point.value}.{name}" for name in submodules}

    def plugins(self, manager: pluggy.PluginManager) -> list[tuple[str, Callable[[], Any]]]:
        """Names of plugins, and functions that load them. A package with its own hooks is a single plugin."""
        package = None
        if self.modules:
            with suppress(Exception, SystemExit):  # reported when the plugin is registered
                package = self.point.load()
        if package is None or any(manager.parse_hookimpl_opts(package, name) for name in dir(package)):
            return [(self.name, self.point.load)]
        return [(name, partial(importlib.import_module, module)) for name, module in self.modules.items()]


def _check_names(entries: Sequence[_Entry], chosen: Mapping[str, set[str]]) -> None:
    installed = {name for entry in entries for name in (entry.name, entry.distribution, *entry.modules)} - {""}
    for variable, wanted in chosen.items():
        for name in sorted(wanted - installed):
            error = unknown("plugin", name, installed)
            raise HarnessError(f"{variable}: {error.what}", error.fix)


def _register(plugins: Plugins, name: str, origin: str, load: Any) -> None:
    unique = name if name not in plugins.origins else f"{name} ({origin})"
    try:
        module = load()
        plugins.manager.register(module, name=unique)
    except (Exception, SystemExit) as error:  # a script without a main guard may exit when it is imported
        if plugins.manager.has_plugin(unique):  # pluggy keeps the hooks that it registered before the one that failed
            plugins.manager.unregister(name=unique)
        plugins.broken.append(_broken(name, origin, error))
        return
    plugins.origins[unique] = origin
    callers = plugins.manager.get_hookcallers(module) or []
    if not callers:
        plugins.broken.append(Broken(name, origin, "it implements no hook: is @hookimpl missing?"))
    hooks = [hook for hook in vars(plugins.manager.hook) if getattr(plugins.manager.hook, hook).has_spec()]
    for caller in callers:
        if not caller.has_spec():
            plugins.broken.append(Broken(name, origin, str(unknown("hook", caller.name, hooks))))


def _import(name: str) -> ModuleType:
    """A module from a ``.py`` file or by its dotted name."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module_name = (
        f"closure_harness_file_{path.stem}_{digest(str(path))[:8]}"  # two folders may each have a my_affinity.py
    )
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look the module up by name
    spec.loader.exec_module(module)
    return module


def names(value: str | None) -> list[str]:
    """``"a, b"`` -> ``["a", "b"]``: the names in a variable."""
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def _broken(name: str, origin: str, error: BaseException) -> Broken:
    return Broken(name, origin, moved(error) or f"{type(error).__name__}: {error}", traceback.format_exc())
