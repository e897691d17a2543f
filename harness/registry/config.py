"""From overrides to a resolved configuration: parameters of plugins become Hydra nodes, errors become sentences."""

from __future__ import annotations

import os
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
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins as HydraPlugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.data.stages import STAGES
from harness.registry import plugins
from harness.registry.command import command
from harness.registry.grid import GridComposer
from harness.registry.hydra_keys import check_hydra_keys
from harness.registry.registry import Registry
from harness.registry.renamed import check_keys, check_overrides
from harness.util.errors import HarnessError, unknown

CONFIG_MODULE = "harness_conf"
DIR_VARIABLE = "HARNESS_CONFIG_DIR"
"""A folder of the user's own configuration files: ``--config-dir``, also for the processes that a sweep starts."""
NAME_VARIABLE = "HARNESS_CONFIG_NAME"
"""The file that a configuration starts from: ``--config-name``, by default ``config``."""


SEARCH_OPTIONS = ("--config-dir", "--config-name", "--plugin")
"""The options by which a process finds configuration files and plugins."""
SEVERAL = frozenset(stage.name for stage in STAGES.values() if stage.many)

# For every composition Hydra copies its sources, and with them the store of all methods: half of the time it takes.
# The store is one for the whole process, and gives copies of what it holds, so nothing needs that copy.
ConfigStore.__deepcopy__ = lambda self, _: self  # type: ignore[attr-defined]


class PluginSearchPath(SearchPathPlugin):
    """Adds the configuration folders of plugins, and that of the user, to Hydra's search path."""

    folders: ClassVar[tuple[tuple[str, str], ...]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra calls this when it starts."""
        for owner, path in self.folders:
            search_path.append(provider=owner, path=path)
        if folder := os.environ.get(DIR_VARIABLE):
            search_path.append(provider="--config-dir", path=f"file://{folder}")


def config_name() -> str:
    """The name of the file that a configuration starts from."""
    return os.environ.get(NAME_VARIABLE) or "config"


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
            # that of a word, then of an experiment, of a preset, of a subject, of a batch, of config.yaml. A subject
            # comes before the batch, because it may choose the batch as well, and knows what its outputs are. Every
            # batch chooses (the contract does for the others), so that the contrast batch, which Hydra meets last,
            # never does.
            node["defaults"] = [
                *({f"override /{other}@_global_.{other}": choice} for other, choice in method.defaults.items()),
                "_self_",
            ]
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
    that does not parse, several values for a key.
    """
    with composing(overrides, methods):
        config = compose(config_name(), overrides=list(overrides))
    plain_config = plain(config)
    check_keys(plain_config, overrides)
    return plain_config


def resolve_all(cells: Sequence[Sequence[str]], methods: Registry) -> list[dict[str, Any]]:
    """The configurations of the cells of a sweep (:func:`expand`), as :func:`resolve` gives each. Errors: the same."""
    configs = []
    with hydra_ready(), _explained(methods):
        composer = GridComposer(config_name(), cells[0]) if cells else None
        for cell in cells:
            assert composer is not None
            _check_repeated(cell)
            config = composer.config(tuple(cell))
            text = repr(config)
            configs.append(plain(OmegaConf.create(config)) if "${" in text or "'???'" in text else config)
            check_keys(configs[-1], cell)
    return configs


@contextmanager
def composing(overrides: Sequence[str], methods: Registry) -> Iterator[None]:
    """Hydra is ready to compose one cell of these overrides. Errors: as :func:`resolve`."""
    check_overrides(overrides)
    check_hydra_keys(overrides, sweep=False)
    with hydra_ready(), _explained(methods):
        _check_one_cell(overrides)
        _check_repeated(overrides)
        yield


def _check_one_cell(overrides: Sequence[str]) -> None:
    """Errors: overrides that describe several cells."""
    parsed = _parsed(overrides)
    swept = [text for text, override in zip(overrides, parsed, strict=True) if override.is_sweep_override()]
    fix = f"Type {command('sweep', *overrides, *search_options())}\nfor all of them, or name one value."
    if swept:
        raise HarnessError(f"{swept[0]} has several values, and this command takes one cell.", fix)
    if any(override.key_or_group == "experiment" for override in parsed):
        lists = _lists_of_files(overrides)
        if lists:
            raise HarnessError(f"the experiment sweeps {', '.join(lists)}, and this command takes one cell.", fix)


def _check_repeated(overrides: Sequence[str]) -> None:
    """Errors: a method that is listed twice. Hydra would take it once."""
    for override in _parsed([text for text in overrides if text.split("=")[0] in SEVERAL]):
        chosen = override.value()
        names = [str(name) for name in chosen] if isinstance(chosen, list) else []
        if repeated := next((name for name in names if names.count(name) > 1), None):
            stage = override.key_or_group
            fix = f"Type {stage}=[{','.join(dict.fromkeys(names))}]."
            raise HarnessError(f"{override.input_line}: {stage} {repeated} is listed twice.", fix)


def search_options() -> list[str]:
    """The options by which this process finds configuration files and plugins, for a command that is printed."""
    extra = plugins.names(os.environ.get(plugins.EXTRA_VARIABLE))
    given = [os.environ.get(DIR_VARIABLE), os.environ.get(NAME_VARIABLE), *extra]
    options = [*SEARCH_OPTIONS, *([SEARCH_OPTIONS[-1]] * len(extra))]
    return [word for option, value in zip(options, given, strict=False) if value for word in (option, value)]


def _parsed(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(list(overrides))


def _lists_of_files(overrides: Sequence[str]) -> dict[str, Any]:
    """Lists of configuration files (``hydra.sweeper.params``) for keys that the overrides do not name."""
    named = {override.key_or_group for override in _parsed(overrides)}
    params = _hydra_node(overrides).sweeper.params or {}
    check_keys(params, overrides)
    return {key: value for key, value in params.items() if key not in named}


def expand(overrides: Sequence[str], methods: Registry) -> list[list[str]]:
    """The overrides of every cell of a sweep: comma lists and ``glob(*)`` expanded as Hydra's own sweeper does.

    Sweep lists of an experiment file (``hydra.sweeper.params``) apply to keys that the command line does not name.
    Errors: as :func:`resolve`.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    check_overrides(overrides)
    check_hydra_keys(overrides, sweep=True)
    cells = []
    with hydra_ready(), _explained(methods):
        for words in _by_experiment(overrides):
            swept = [f"{key}={value}" for key, value in _lists_of_files(words).items()]
            batches = BasicSweeper.split_arguments(_parsed([*swept, *words]), max_batch_size=None)
            cells += [list(cell) for batch in batches for cell in batch]
    return cells


def by_experiment(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides once for every experiment: each of ``experiment=grid,baselines`` has lists of its own."""
    with hydra_ready(), _explained(None):
        return _by_experiment(overrides)


def _by_experiment(overrides: Sequence[str]) -> list[list[str]]:
    for i, override in enumerate(_parsed(overrides)):
        if override.key_or_group == "experiment" and override.is_sweep_override():
            chosen = [f"experiment={name}" for name in override.sweep_string_iterator()]
            return [[*overrides[:i], word, *overrides[i + 1 :]] for word in chosen]
    return [list(overrides)]


def runs_here(overrides: Sequence[str]) -> bool:
    """Whether Hydra would run a sweep in this process, one cell after the other, without callbacks."""
    with hydra_ready():
        node = _hydra_node(overrides)
    return bool(node.runtime.choices["hydra/launcher"] == "basic" and not node.callbacks and not node.job.env_set)


def _hydra_node(overrides: Sequence[str]) -> DictConfig:
    """Hydra's own settings for a sweep, from the overrides that are not swept.

    Parameters of methods are left out: a method that a swept subject chooses is not chosen here.
    """
    fixed = []
    for text, override in zip(overrides, _parsed(overrides), strict=True):
        stage, _, parameter = override.key_or_group.partition(".")
        if not override.is_sweep_override() and not (stage in STAGES and parameter):
            fixed.append(text)
    node: DictConfig = compose(config_name(), overrides=fixed, return_hydra_config=True).hydra
    return node


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
        if error.missing_cfg_file == config_name():
            raise HarnessError(
                f"--config-name: there is no file {config_name()}.yaml.",
                "Put it into a folder and name that: --config-dir DIR. Its defaults list starts with `- config`.",
            ) from error
        if not group or not options:
            raise HarnessError(f"configuration: {_first_lines(error)}") from error
        hint = f"`harness list {group}` describes them" if group in STAGES else ""
        raise unknown(group, name, [option for option in options if option != "__init__"], hint) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra raises ValueError for affinity=null
        raise _explain(error) from error


def _explain(error: Exception) -> HarnessError:
    text = str(error)
    if deleted := re.search(r"Could not delete (?:from config. )?'([^'=]+)", text):
        many = deleted[1] in STAGES and STAGES[deleted[1]].many
        fix = f"{deleted[1]} is a list. Type '{deleted[1]}=[]'." if many else "`harness run --cfg job` shows all keys."
        return HarnessError(f"~{deleted[1]} deletes nothing.", fix)
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
