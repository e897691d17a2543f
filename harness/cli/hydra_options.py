"""Hydra's own options (``--cfg``, ``--info``, ``--config-dir``, ...): which work, and what to type for the others."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import NoReturn

from harness.registry.command import command, override
from harness.util.errors import HarnessError

PARTS = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
INSTEAD: Mapping[str, str] = {
    "--config-path": "The harness has a configuration of its own. --config-dir DIR adds a folder to it, and "
    "--config-name NAME starts from another file of that folder.",
    "-cp": "--config-dir DIR adds a folder of configuration files.",
    "--multirun": "Several cells are a sweep: harness sweep KEY=VALUE,VALUE",
    "-m": "Several cells are a sweep: harness sweep KEY=VALUE,VALUE",
    "--run": "Type harness run.",
    "-r": "Type harness run.",
    "--shell-completion": 'Type eval "$(harness completion bash)", or zsh, or fish.',
    "-sc": 'Type eval "$(harness completion bash)", or zsh, or fish.',
    "--hydra-help": "`harness COMMAND --help` describes a command, and --info shows what Hydra loads.",
    "--experimental-rerun": "The record of a cell holds the command that runs it again: harness report CELL",
}
"""By option of Hydra that the harness does not have: what to type."""


class Parser(ArgumentParser):
    """A parser whose errors are the harness's own."""

    def error(self, message: str) -> NoReturn:
        """Errors: always."""
        name = self.prog.removeprefix("harness ")
        raise HarnessError(f"{name}: {message}.", f"`{self.prog} --help` lists the options.")


def check_options(words: list[str]) -> None:
    """Errors: an option of Hydra that the harness does not have."""
    for word in words:
        if instead := INSTEAD.get(word.partition("=")[0]):
            raise HarnessError(f"{word.partition('=')[0]} is not an option of the harness.", instead)


def add_search_options(parser: ArgumentParser) -> None:
    """Where configuration files are searched."""
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="also search this folder for configuration files")
    parser.add_argument("--config-name", "-cn", metavar="NAME", help="start from NAME.yaml instead of config.yaml")


def add_show_options(parser: ArgumentParser) -> None:
    """What is printed about the configuration, instead of running it."""
    parser.add_argument("--cfg", "-c", choices=PARTS, help="print the configuration as YAML and stop")
    parser.add_argument("--package", "-p", metavar="KEY", help="with --cfg: only this part, such as affinity")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    parser.add_argument("--info", "-i", choices=INFO, nargs="?", const="all", help="print what Hydra loads and stop")


def as_sweep(words: list[str]) -> list[str] | None:
    """The words without ``-m`` or ``--multirun``; None if they have neither."""
    rest = [word for word in words if word not in ("-m", "--multirun")]
    return rest if len(rest) < len(words) else None


def shows_configuration(arguments: Namespace) -> bool:
    """Whether the configuration is to be printed. Errors: options that do not go together."""
    cfg, info = getattr(arguments, "cfg", None), getattr(arguments, "info", None)
    with_cfg = [option for option in ("package", "resolve") if getattr(arguments, option, None)]
    if with_cfg and not cfg:
        raise HarnessError(f"--{with_cfg[0]} goes with --cfg.", f"Type --cfg job --{with_cfg[0]} ...")
    if cfg and info:
        raise HarnessError("--cfg and --info are two questions.", "Ask one of them.")
    if arguments.json and (cfg or info):
        raise HarnessError(f"{'--cfg prints YAML' if cfg else '--info prints text'}, and --json asks for JSON.",
                           "Leave out --json.")  # fmt: skip
    return bool(cfg or info)


def show_configuration(arguments: Namespace) -> int:
    """Print the configuration of a cell, or what Hydra loads, in Hydra's own form."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from harness.cli.session import Session, units_of
    from harness.registry.config import composing, config_name

    session = Session.open(arguments)
    overrides = [*session.overrides, *([override("group", units_of(arguments.words))] if arguments.words else [])]
    with composing(overrides, session.registry):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        if arguments.cfg:
            try:
                hydra.show_cfg(config_name(), overrides, arguments.cfg, arguments.package, arguments.resolve)
            except SystemExit as error:  # Hydra ends the process
                what = f"--package {arguments.package}: there is no such key."
                raise HarnessError(what, "--cfg job without --package shows all keys.") from error
        else:
            hydra.show_info(arguments.info, config_name(), overrides, RunMode.RUN)
    return 0


def without_command(words: list[str]) -> HarnessError:
    """The error for words that start with an option or an override instead of a command."""
    return HarnessError(f"'{words[0]}' is not a command.", f"Type {command('run', *words)}")
