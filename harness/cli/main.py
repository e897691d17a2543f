"""The command line: its commands and their help, and how errors are shown."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness import __version__
from harness.cli.hydra_options import (
    Parser,
    add_search_options,
    add_show_options,
    as_sweep,
    check_options,
    show_configuration,
    shows_configuration,
    without_command,
)
from harness.cli.terminal import write_what_is_possible
from harness.decomposition.settings import Settings as Decomposition
from harness.util.errors import HarnessError, unknown

OVERRIDES = """\
KEY=VALUE words are Hydra overrides:
  subject=smollm2_wheel batch=natural_text      choose a method for a stage   (harness list STAGE)
  affinity.l2=0.01 'partitioner.k=[4,6]'        set its parameters            (harness show STAGE NAME)
  split=none alpha=0.01 seed=1 metric=[loss]    settings of the cell
  workspace=DIR (default: runs)  tracking=local|none|URI
  experiment=quickstart                         several settings from one file   (harness list experiment)
  ~preset  +key=value  ++key=value              delete, add, add or replace, as in Hydra"""


@dataclass(frozen=True)
class Command:
    """One command: its summary, its function (imported only when it is called), its own words and flags.

    ``notes``: the function that gives more text for its help.

    ``configured``: it works on cells that Hydra composes from its overrides, so that it has Hydra's options. ``keys``:
    those that it takes besides, or instead (:mod:`harness.cli.words`).
    """

    summary: str
    target: str
    words: str = ""
    flags: tuple[tuple[str, str], ...] = ()
    example: str = ""
    configured: bool = False
    keys: tuple[str, ...] = ("workspace",)
    notes: str = ""


DECOMPOSITION = tuple(field.name for field in dataclasses.fields(Decomposition))
FORCE = ("--force", "redo finished cells (add cache=false to recompute cached results as well)")
COMMANDS = {
    "run": Command("run one cell: propose a group and run its closure test", "cells:run", flags=(FORCE,),
                   example="harness run subject=tiny affinity=mutual_information", configured=True),
    "sweep": Command("run a grid of cells (Hydra multirun) and make its board", "cells:sweep", flags=(FORCE,),
                     example="harness sweep affinity=ising,mutual_information batch=synthetic_induction,natural_text",
                     configured=True),
    "propose": Command("run one cell without the closure test", "cells:propose",
                       example="harness propose affinity=ising 'partitioner.k=[4,6,8]'", configured=True),
    "close": Command("run the closure test of a group that you name", "cells:close", "UNITS",
                     (FORCE,), example="harness close L1H0,L1H3 subject=tiny batch=synthetic_induction",
                     configured=True),
    "survey": Command("classify every unit by what it attends to", "survey:survey",
                      example="harness survey subject=smollm2_wheel batch=natural_text", configured=True),
    "ranking": Command("show how rankings of units agree with their classes", "ranking:ranking",
                       example="harness ranking subject=tiny_retrieval signal=pr_trajectory "
                       "signal.summary=integral,spread", configured=True, keys=("workspace", "out")),
    "map": Command("ablate every unit alone: print the strongest and draw all", "map:map_units", "[CELL]",
                   example="harness map subject=tiny intervention=mean out=map.png", configured=True,
                   keys=("workspace", "out")),
    "experts": Command("show where the experts of a mixture are used, what they say, and what each one does",
                       "experts:experts", example="harness experts subject=experts out=experts.png", configured=True,
                       keys=("workspace", "out")),
    "curve": Command("show how much of a task the first units of a ranking keep: CPR and CMD", "curve:curve",
                     example="harness curve experiment=curve subject=tiny signal=attribution out=curve.png",
                     configured=True, keys=("workspace", "out")),
    "plan": Command("list the cells of a sweep, which are done, and the time of the rest", "cells:plan",
                    "[run|sweep|close] [UNITS]", (FORCE,), "harness plan affinity=ising,mutual_information",
                    configured=True),
    "decompose": Command("decompose a model's matrices into rank-one subcomponents", "decompose:decompose", "[RECIPE]",
                         example="harness decompose tms_20_10 out=tms.safetensors", configured=True,
                         keys=("workspace", "out", *DECOMPOSITION), notes="decompose:notes"),
    "list": Command("list the available methods by stage, experiments and presets", "look:list_methods",
                    "[STAGE|experiment|preset]", example="harness list affinity"),
    "show": Command("show a method's formula, parameters and source, or what a preset sets", "look:show",
                    "STAGE NAME|PRESET", example="harness show affinity ising"),
    "new-plugin": Command("write a working plugin and its test, for you to edit", "kit:new_plugin", "STAGE NAME",
                          (("--family=heads|neurons|vectors", "the units of a subject (default: heads)"),),
                          "harness new-plugin affinity my_affinity"),
    "check": Command("check a plugin against the contract of its stage", "look:check", "[NAME ...]",
                     (("--all", "check every plugin"),), example="harness check mutual_information"),
    "compare": Command("compare two cells, or two methods on all their tasks, in pairs",
                       "compare:compare", "A B", example="harness compare 'ising spectral' 'ising leiden'"),
    "leaderboard": Command("make a board from records, check it against them, or add records to it",
                           "boards:leaderboard", "[THEIR_RECORDS]",
                           (("--check", "check that the board agrees with its records"),
                            ("--add", "add THEIR_RECORDS to the board if they are valid"),
                            ("--seal", "fix a sealed split: show its secret number once, and a hash on the board"),
                            ("--open", "show the sealed number on the board, if THEIR_RECORDS is that number")),
                           "harness leaderboard workspace=runs out=leaderboards/mine", keys=("workspace", "out")),
    "boards": Command("compare all boards of a folder on one page, and write it", "boards:boards", "FOLDER",
                      example="harness boards leaderboards"),
    "strata": Command("show under which settings groups pass inside their strata, and only there", "boards:strata",
                      example="harness strata workspace=runs"),
    "trajectory": Command("follow classes of units through training: attention, score, necessity, verdict",
                          "boards:trajectory", example="harness trajectory workspace=runs out=trajectory",
                          keys=("workspace", "out")),
    "screen": Command("show the capability screens of a workspace, beside rankings of equal size", "boards:screen",
                      example="harness sweep experiment=screen && harness screen"),
    "matrix": Command("ablate the group of every model on every model, and compare what they share", "matrix:matrix",
                      example="harness matrix experiment=probe_circuits on.batch.gap=out", configured=True,
                      keys=("workspace", "out", "on")),
    "depth": Command("hold the routing mass of depth routes against their causal effect, by arm", "depth:depth",
                     example="harness depth experiment=depth_routing out=depth", configured=True,
                     keys=("workspace", "out")),
    "groups": Command("describe the groups of cells: correlation, agreement, modules, and what activates them",
                      "boards:groups", "[CELL ...]", example="harness groups 3f9c"),
    "fidelity": Command("show fidelity against sparsity: decompositions at several penalties, and their groups",
                        "boards:fidelity", example="harness sweep experiment=spd_penalty && harness fidelity",
                        keys=("workspace", "out")),
    "report": Command("write a page about one, several or all cells of a workspace",
                      "report:report", "[CELL ...]",
                      (("--paper", "print the closure paper's five verdicts and ours instead"),),
                      "harness report 3f9c"),
    "claims": Command("show what the cells of a workspace say about the claims of the two circuit papers",
                      "report:claims", example="harness claims workspace=runs"),
    "calibrate": Command("measure the error rates of the harness on planted groups", "calibrate:calibrate",
                         example="harness calibrate worlds=20 out=leaderboards/calibration",
                         keys=("worlds", "out")),
    "sync": Command("copy records to a tracking store that was not reachable during a sweep", "sync:sync",
                    example="harness sync workspace=runs tracking=http://localhost:5000",
                    keys=("workspace", "tracking")),
    "cache": Command("show or prune the cached results of a workspace", "cache:cache", "show|prune",
                     example="harness cache prune cache_limit=1GB", keys=("workspace", "cache_limit")),
    "doctor": Command("check versions, plugins, workspace and tracking", "look:doctor"),
    "completion": Command("print the script that completes words in a shell", "completion:completion",
                          "bash|zsh|fish", example='eval "$(harness completion bash)"'),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0; 1 if a cell failed; 2 if the user can correct the error; 130 on Ctrl-C."""
    # Spinning threads make a busy machine three times slower. OpenMP reads this when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if argv is None else argv)
    write_what_is_possible(json="--json" in words)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"closure-harness {__version__}")
        return 0
    debug = "--debug" in words or bool(os.environ.get("HARNESS_DEBUG"))
    try:
        code = _call(words[0], [word for word in words[1:] if word != "--debug"], debug)
        sys.stdout.flush()  # a full disk or a closed pipe is reported here, and not when Python ends
    except HarnessError as error:
        if debug:
            raise
        print(f"harness: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("harness: stopped. Finished cells are kept; the same command continues with the others.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has closed it: `harness list | head`
        _drop_output()
        return 0
    except OSError as error:  # of every command that reads or writes files
        if debug:
            raise
        if error.filename is None:
            _drop_output()
        print(f"harness: {_about_file(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        if debug:
            raise
        print(
            f"harness: {type(error).__name__}: {error}\nThis is a defect of the harness. --debug shows the traceback.",
            file=sys.stderr,
        )
        return 1
    return code


def _drop_output() -> None:
    """Output that cannot be written is not tried again when Python ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _about_file(error: OSError) -> str:
    """What could not be read or written, why, and what to do."""
    what = type(error).__name__ if error.filename is None else os.fsdecode(error.filename)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = "Free some space." if full else "Choose another folder (workspace=DIR, out=DIR), or make this one usable."
    return f"{what}: {error.strerror or error}.\n{fix} Finished cells are kept."


def _call(name: str, words: list[str], debug: bool) -> int:
    from harness.cli.words import separated  # loads Hydra, which `harness --help` does not need

    if name.startswith("-") or "=" in name:
        raise without_command([name, *words])
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    if debug:
        os.environ["HARNESS_DEBUG"] = "1"
    if name in ("run", "sweep", "plan") and (swept := as_sweep(words)) is not None:
        name, words = "sweep" if name == "run" else name, swept
    check_options(words)
    command = COMMANDS[name]
    arguments = parser_of(name).parse_intermixed_args(words)
    configured = command.configured or name == "calibrate"
    words_read = separated(arguments.words, command.keys, configured, bool(command.words))
    arguments.overrides, arguments.own, arguments.words = map(list, dataclasses.astuple(words_read))
    if arguments.words and not command.words:
        example = f"Example: {command.example}" if command.example else f"`harness {name} --help` describes it."
        raise HarnessError(f"{name}: '{arguments.words[0]}' is not of the form KEY=VALUE.", example)
    if getattr(arguments, "force", False):
        arguments.overrides.append("force=true")
    if shows_configuration(arguments):
        return show_configuration(arguments)
    try:
        return int(_function(command.target)(arguments) or 0)
    except SystemExit as error:
        raise HarnessError(f"a plugin ended the process: sys.exit({error}).", "--debug shows where.") from error


def _function(target: str) -> Callable[..., Any]:
    """A function of the command line, as ``module:function``."""
    module, function = target.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"harness.cli.{module}"), function)
    return found


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command's words and options."""
    command = COMMANDS[name]
    parser = Parser(
        prog=f"harness {name}",
        usage=f"harness {name} {command.words + ' ' if command.words else ''}[KEY=VALUE ...] [options]",
        description=command.summary,
        epilog="\n\n".join(
            [
                *([_function(command.notes)()] if command.notes else []),
                OVERRIDES,
                *([f"example: {command.example}"] if command.example else []),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON on stdout; everything else goes to stderr"
    )
    parser.add_argument("--plugin", action="append", default=[], metavar="FILE.py|MODULE", help="load one more plugin")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    for flag, text in command.flags:
        name, _, choices = flag.partition("=")
        if choices:
            parser.add_argument(name, choices=choices.split("|"), help=text)
        else:
            parser.add_argument(name, action="store_true", help=text)
    if command.configured or name in ("list", "show"):
        add_search_options(parser)
    if command.configured:
        add_show_options(parser)
    return parser


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: harness COMMAND [KEY=VALUE ...] [options]\n\n"
        "Is this group of components a circuit? Cheap statistics propose, ablation disposes.\n\n"
        f"{lines}\n\n{OVERRIDES}\n\n`harness COMMAND --help` describes a command. Start with: harness run"
    )
