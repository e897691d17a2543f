"""The command that writes a working plugin and its test: new-plugin."""

from __future__ import annotations

import importlib.util
import keyword
import re
from argparse import Namespace
from pathlib import Path
from string import Template

from harness.cli.session import Session, lines
from harness.data.stages import STAGES
from harness.records.workspace import write_atomically
from harness.registry.registry import Registry
from harness.util.errors import HarnessError, unknown

SCAFFOLD = Path(__file__).parents[1] / "scaffold"
DIVIDER = "# ---- test ----\n"  # in a stage's template: the plugin is above it, its test below it


def new_plugin(arguments: Namespace) -> int:
    """Write a plugin and its test into the current folder."""
    if len(arguments.words) != 2:
        raise HarnessError("new-plugin takes a stage and a name.", "Example: harness new-plugin affinity my_affinity")
    stage, name = arguments.words
    session = Session.open(arguments)
    if stage not in STAGES:
        raise unknown("stage", stage, STAGES)
    if arguments.family and stage != "subject":
        raise HarnessError(
            f"new-plugin: --family={arguments.family} has no effect on stage {stage}.",
            "Leave it out: only subjects have a family.",
        )
    kind = f"_{arguments.family}" if arguments.family in ("neurons", "vectors") else ""
    template = (SCAFFOLD / f"{stage}{kind}.py.txt").read_text(encoding="utf-8")
    _check_name(stage, name, template, session.registry)
    names = {"stage": stage, "name": name, "Class": _class(name)}
    plugin, test = Template(template).substitute(names).split(DIVIDER)
    contract = Template((SCAFFOLD / "contract.py.txt").read_text(encoding="utf-8")).substitute(names)
    _write({f"{name}.py": plugin, f"test_{name}.py": test + contract})

    chosen = f"'{stage}=[{name}]'" if STAGES[stage].many else f"{stage}={name}"
    following = [
        (f"harness check --plugin {name}.py {name}", "check it against the contract of its stage"),
        (f"harness run --plugin {name}.py {chosen}", "run one cell with it"),
        (f"pytest test_{name}.py", "run its test"),
    ]
    session.print(
        f"{name}.py is a working plugin: replace its method with yours.\n"
        f"test_{name}.py tests it: replace its expected number with one from your theory.\nnext:\n{lines(following)}",
        {"paths": [f"{name}.py", f"test_{name}.py"], "next": [command for command, _ in following]},
    )
    return 0


def _check_name(stage: str, name: str, template: str, registry: Registry) -> None:
    """Errors: a name that is not valid, that another plugin has, or that would hide something."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789") or f"my_{stage}"
        raise HarnessError(
            f"new-plugin: '{name}' is not a name for a plugin. Use small letters, digits and _; begin with a letter.",
            f"Example: harness new-plugin {stage} {plain}",
        )
    why = ""
    if (stage, name) in registry.methods:
        why = f"{stage} '{name}' exists already, in {registry.methods[stage, name].owner}"
    elif keyword.iskeyword(name) or keyword.iskeyword(_class(name)) or importlib.util.find_spec(name):
        why = f"'{name}' is a word or a module of Python, and a file {name}.py would hide it"
    elif re.search(rf"import .*\b{_class(name)}\b", template):
        why = f"its class would be called {_class(name)}, like something that it uses"
    if why:
        raise HarnessError(f"new-plugin: {why}.", f"Choose another name: harness new-plugin {stage} my_{name}")


def _class(name: str) -> str:
    """``my_affinity`` -> ``MyAffinity``."""
    return "".join(part.capitalize() for part in name.split("_"))


def _write(files: dict[str, str]) -> None:
    """Write all files or none. Errors: a file that exists; a folder that cannot be written to."""
    for name in files:
        if Path(name).exists():
            raise HarnessError(
                f"new-plugin: {Path(name).resolve()} exists already.", "Move it, or choose another name."
            )
    for name, text in files.items():
        write_atomically(Path(name).absolute(), text)
