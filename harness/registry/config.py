"""From overrides to a resolved configuration: parameters of plugins become Hydra nodes, errors become sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, ClassVar

from hydra import compose, initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins as HydraPlugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.data.stages import STAGES
from harness.registry import plugins
from harness.registry.registry import Registry
from harness.registry.renamed import check_keys, check_overrides
from harness.util.errors import HarnessError, unknown

CONFIG_MODULE = "harness_conf"


class PluginSearchPath(SearchPathPlugin):
    """Adds the configuration folders of plugins to Hydra's search path."""

    folders: ClassVar[tuple[tuple[str, str], ...]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra calls this when it starts."""
        for owner, path in self.folders:
            search_path.append(provider=owner, path=path)


def registry() -> Registry:
    """Every available method. Afterwards Hydra knows the parameters of exactly these methods."""
    return _registered(plugins.load())


@lru_cache(maxsize=1)  # Hydra's store holds the nodes of one set of plugins: those loaded last
def _registered(loaded: plugins.Plugins) -> Registry:
    methods, PluginSearchPath.folders = _methods_and_folders(loaded)
    store = ConfigStore.instance()
    for stage in STAGES:
        store.repo.pop(stage, None)
    for (stage, name), method in methods.methods.items():
        node = {"name": name, **method.node}
        node |= {key: f"${{oc.select:{other},null}}" for key, other in method.follows.items()}
        if method.defaults:
            # Hydra reads defaults lists from the last entry to the first, and the first choice that it meets counts:
            # that of a word, then of an experiment, of a preset, of a subject, of config.yaml.
            node["defaults"] = [*({f"override /{other}@_global_.{other}": choice} for other, choice in method.defaults.items()), "_self_"]
        package = f"{stage}.{name}" if STAGES[stage].many else None  # each of several methods has its own node
        store.store(group=stage, name=name, node=node, package=package, provider=method.owner)
    HydraPlugins.instance().register(PluginSearchPath)
    for preset in files(CONFIG_MODULE).joinpath("hydra", "launcher").iterdir():
        store.repo["hydra"]["launcher"].pop(
            preset.name, None
        )  # the launcher's own preset: two of one name cause a warning
    return methods


@cache
def _methods_and_folders(loaded: plugins.Plugins) -> tuple[Registry, tuple[tuple[str, str], ...]]:
    """The methods, and the configuration folders with their owners."""
    folders: list[tuple[str, str]] = []
    for owner, paths in loaded.calls("harness_config_paths"):
        if isinstance(paths, (list, tuple)):
            folders += [(owner, path) for path in paths]
        else:
            what = f"{owner} (harness_config_paths)"
            loaded.broken.append(plugins.Broken(what, owner, f"it returns {paths!r}, not a list of search paths"))
    return Registry.of(loaded), tuple(folders)


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Hydra's composer is ready inside the block; nothing is written to disk."""
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        yield


def resolve(overrides: Sequence[str], methods: Registry) -> dict[str, Any]:
    """The configuration of one cell, as plain data.

    Errors: a stage option or key that does not exist (with the nearest names) or that has another name now, an override
    that does not parse.
    """
    check_overrides(overrides)
    with hydra_ready(), _explained(methods):
        config = plain(compose("config", overrides=list(overrides)))
    check_keys(config, overrides)
    return config


def expand(overrides: Sequence[str], methods: Registry) -> list[list[str]]:
    """The overrides of every cell of a sweep: comma lists and ``glob(*)`` expanded as Hydra's own sweeper does.

    Sweep lists of an experiment file (``hydra.sweeper.params``) apply to keys that the command line does not name.
    Errors: as :func:`resolve`.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    check_overrides(overrides)
    with hydra_ready(), _explained(methods):
        loader = GlobalHydra.instance().config_loader()
        parser = OverridesParser.create(config_loader=loader)
        parsed_overrides = parser.parse_overrides(list(overrides))
        params = _hydra_node(overrides).sweeper.params or {}
        named = {parsed.key_or_group for parsed in parsed_overrides}
        swept = [f"{key}={value}" for key, value in params.items() if key not in named]
        check_keys(params, overrides)
        batches = BasicSweeper.split_arguments(parser.parse_overrides([*swept, *overrides]), max_batch_size=None)
        return [list(cell) for batch in batches for cell in batch]


def runs_here(overrides: Sequence[str]) -> bool:
    """Whether Hydra would run a sweep in this process, one cell after the other, without callbacks."""
    with hydra_ready():
        node = _hydra_node(overrides)
    return bool(node.runtime.choices["hydra/launcher"] == "basic" and not node.callbacks and not node.job.env_set)


def _hydra_node(overrides: Sequence[str]) -> DictConfig:
    """Hydra's own settings for a sweep, from the overrides that are not swept."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    parsed = zip(overrides, parser.parse_overrides(list(overrides)), strict=True)
    fixed = [text for text, override in parsed if not override.is_sweep_override()]
    node: DictConfig = compose("config", overrides=fixed, return_hydra_config=True).hydra
    return node


def presets(stages: Sequence[str], methods: Registry) -> dict[str, list[str]]:
    """The presets of each stage: configuration files of the harness and of plugins, without the methods themselves."""
    with hydra_ready():
        loader = GlobalHydra.instance().config_loader()
        return {
            stage: [name for name in loader.get_group_options(stage) if name not in {"__init__", *methods.names(stage)}]
            for stage in stages
        }


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data: interpolations resolved, without Hydra's own node."""
    with _explained(None):
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items() if key != "hydra"}


@contextmanager
def _explained(methods: Registry | None) -> Iterator[None]:
    try:
        yield
    except MissingConfigException as error:
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        if group in STAGES and methods is not None and (group, name) in methods.contested:
            methods.get(group, name)
        # For a list of choices (metric=[lss]) Hydra does not give the options.
        options = list(error.options or (methods.names(group) if methods is not None and group in STAGES else []))
        if not group or not options:
            raise HarnessError(f"configuration: {_first_lines(error)}") from error
        hint = f"`harness list {group}` describes them" if group in STAGES else ""
        raise unknown(group, name, [option for option in options if option != "__init__"], hint) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises ValueError for affinity=null
        raise _explain(error) from error


def _explain(error: Exception) -> HarnessError:
    text = str(error)
    key = re.search(r"Could not override '([^']+)'", text)
    if key is None:
        return HarnessError(
            f"configuration: {_first_lines(error)}", "`harness run --help` shows how overrides are written."
        )
    check_overrides([key[1]])  # the key may come from a file's defaults list
    stage = key[1].split(".")[0]
    hint = (
        f"`harness list {stage}` shows its parameters." if stage in STAGES else "`harness run --help` lists the keys."
    )
    return HarnessError(f"configuration: there is no key '{key[1]}'.", hint)


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:3] if line.strip())
