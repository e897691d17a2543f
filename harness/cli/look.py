"""Commands that inspect: list, show, check, doctor. None loads a model; list and show do not load torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
import platform
from argparse import Namespace
from pathlib import Path
from typing import Any

from harness.cli.formulas import in_terminal
from harness.cli.session import Session, lines
from harness.data.stages import STAGES
from harness.registry.command import command, override
from harness.registry.config import expand, search_options
from harness.registry.presets import GROUPS, Preset, find_preset, presets
from harness.registry.registry import Method
from harness.util.errors import HarnessError, unknown
from harness.util.threads import cores, one_thread


def list_methods(arguments: Namespace) -> int:
    """List methods by stage with summary, parameters and owner, then experiments and presets, then broken plugins."""
    session = Session.open(arguments)
    for word in arguments.words:
        if word not in STAGES and word not in GROUPS:
            raise unknown("stage", word, [*STAGES, *GROUPS])
    listed = arguments.words or [*STAGES, *GROUPS]
    stages = [word for word in listed if word in STAGES]
    methods = [method for (stage, _), method in sorted(session.registry.methods.items()) if stage in stages]
    blocks = []
    found = {group: presets(group, session.registry) for group in listed}
    others = {group: [preset.name for preset in of_group] for group, of_group in found.items()}
    for stage in stages:
        of_stage = [method for method in methods if method.stage == stage]
        width = max((len(method.name) for method in of_stage), default=0)
        rows = [
            f"  {m.name:<{width}}  {in_terminal(m.summary)}\n  {'':<{width}}  {_parameters(m)}({m.owner})"
            for m in of_stage
        ]
        block = "\n".join([f"{stage}: {STAGES[stage].does}", *(rows or ["  (none)"])])
        blocks.append(block + (f"\n  presets: {', '.join(others[stage])}" if others[stage] else ""))
    for group in [word for word in listed if word in GROUPS]:
        text = lines([(preset.name, preset.summary) for preset in found[group]])
        blocks.append(f"{group}: {GROUPS[group]} ({group}=NAME; harness show {group} NAME)\n{text or '  (none)'}")
    blocks += [f"broken: {b.name} ({b.origin})\n  {b.reason}" for b in session.registry.problems]
    data = {
        "methods": [
            {"stage": m.stage, "name": m.name, "summary": m.summary, "owner": m.owner, "parameters": m.parameters}
            for m in methods
        ],
        "presets": others,
        "broken": [{"name": b.name, "origin": b.origin, "reason": b.reason} for b in session.registry.problems],
    }
    session.print("\n\n".join(blocks), data)
    return 0


def show(arguments: Namespace) -> int:
    """Show one method: its docstring (formula, shapes, units, source), its parameters, its file. Or show a preset."""
    session = Session.open(arguments)
    *groups, name = arguments.words or [""]
    if len(groups) < 2 and (preset := find_preset(name, session.registry, *groups)):
        return _show_preset(session, preset)
    if len(groups) != 1:
        raise HarnessError(
            "show takes a stage and a name, or a preset.", "Example: harness show affinity ising, harness show grid"
        )
    method = session.registry.get(groups[0], name)
    import dataclasses

    parameters, types = method.parameters, method.types
    rows = [
        (f"{method.stage}.{f.name}={parameters[f.name]!r}", types[f.name], in_terminal(str(f.metadata.get("help", ""))))
        for f in dataclasses.fields(method.cls)
    ]
    text = "\n".join(
        [
            f"{method.stage} {method.name}   ({method.owner}; {inspect.getfile(method.cls)})",
            "",
            in_terminal(inspect.getdoc(method.cls) or ""),
            "",
            "Parameters:" if rows else "No parameters.",
            lines(rows),
            *_choices(method),
        ]
    )
    data = {
        "stage": method.stage,
        "name": method.name,
        "owner": method.owner,
        "file": inspect.getfile(method.cls),
        "doc": inspect.getdoc(method.cls),
        "parameters": method.parameters,
        "defaults": method.defaults,
    }
    session.print(text.rstrip(), data)
    return 0


def _choices(method: Method) -> list[str]:
    """The methods that a subject chooses for other stages."""
    words = [override(stage, choice) for stage, choice in method.defaults.items()]
    return ["", "Unless others are chosen, a cell with it has:", f"  {' '.join(words)}"] if words else []


def _show_preset(session: Session, preset: Preset) -> int:
    word = f"{preset.group}={preset.name}"
    cells = len(expand([word], session.registry))
    typed = command("run" if cells == 1 else "sweep", word, *search_options())
    title = f"{preset.group} {preset.name}   ({preset.origin})"
    number = f"{cells} cell{'s' if cells > 1 else ''}: {typed}"
    text = "\n\n".join(part for part in (title, preset.comment, preset.body, number) if part)
    data = {"group": preset.group, "name": preset.name, "doc": preset.comment, "sets": preset.body, "cells": cells}
    session.print(text, data)
    return 0


def check(arguments: Namespace) -> int:
    """Check plugins against the contracts of their stages."""
    from harness.testing.contracts import check_method

    session = Session.open(arguments)
    methods = list(session.registry.methods.values())
    if not arguments.all:
        names = {method.name for method in methods}
        for word in arguments.words:
            if word not in names:
                raise unknown("plugin", word, names)
        if not arguments.words:
            raise HarnessError(
                "check takes the names of plugins.", "Example: harness check ising, or harness check --all"
            )
        methods = [method for method in methods if method.name in arguments.words]
    findings = [(method, finding) for method in methods for finding in check_method(method)]
    rows = [(f"{m.stage} {m.name}", f.outcome, f.check, f.reason or f.about) for m, f in findings]
    failed = sum(f.outcome == "failed" for _, f in findings)
    summary = f"{len(methods)} plugins, {len(findings)} checks, {failed} failed"
    session.print(
        f"{lines(rows, '')}\n{summary}",
        [{"stage": m.stage, "name": m.name, **vars(f)} for m, f in findings],
    )
    return 1 if failed else 0


def doctor(arguments: Namespace) -> int:
    """Check versions, device, threads, plugins, workspace and tracking. Exit code 1 if something does not work."""
    session = Session.open(arguments)
    findings = [*_versions(), *_machine(), *_threads(), *_plugins(session), *_workspace(session)]
    rows = [("ok" if good else "BAD", what, detail) for good, what, detail in findings]
    bad = sum(not good for good, *_ in findings)
    text = f"{lines(rows, '')}\n{f'{bad} problem(s), marked BAD' if bad else 'everything works'}"
    session.print(text, [{"ok": good, "what": what, "detail": detail} for good, what, detail in findings])
    return 1 if bad else 0


Finding = tuple[bool, str, str]
PACKAGES = (
    "torch",
    "transformers",
    "hydra-core",
    "omegaconf",
    "pluggy",
    "mlflow",
    "scikit-learn",
    "igraph",
    "leidenalg",
)


def _versions() -> list[Finding]:
    versions = []
    for name in PACKAGES:
        try:
            version, good = importlib.metadata.version(name), True
        except importlib.metadata.PackageNotFoundError:
            version, good = "not installed: pip install closure-harness", False
        if name == "transformers" and good and tuple(map(int, version.split(".")[:2])) < (5, 6):
            version, good = f"{version}: its router logits are probabilities. pip install 'transformers>=5.6,<6'", False
        versions.append((good, name, version))
    extras = {"gguf": "GGUF files", "accelerate": "device_map, GGUF", "datasets": "datasets as text"}
    missing = [f"{name} ({use})" for name, use in extras.items() if importlib.util.find_spec(name) is None]
    versions.append((True, "extras", f"not installed: {', '.join(missing)}" if missing else "all installed"))
    return [(True, "python", f"{platform.python_version()} on {platform.platform()}"), *versions]


def _machine() -> list[Finding]:
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")
    hub = "offline: models come from the cache or from folders" if offline else "used when a model is not in the cache"
    return [(True, "device", f"GPU: {gpu}"), (True, "model hub", hub)]


def _threads() -> list[Finding]:
    """How many threads each part of a cell uses, and whether every thread pool can be limited to one."""
    import torch
    from threadpoolctl import threadpool_info

    with one_thread():
        limited = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    pools = [(pool, f"{Path(pool['filepath']).name} {pool['num_threads']}") for pool in threadpool_info()]
    unlimited = [name for pool, name in pools if limited.get(pool["filepath"]) != 1]
    limit = os.environ.get("OMP_NUM_THREADS")
    because = f", OMP_NUM_THREADS={limit}" if limit else ""
    use = f"model on CPU: {torch.get_num_threads()}; other stages: 1 per library, independent fits on {cores()}"
    rest = f"; not limited to 1: {', '.join(unlimited)}" if unlimited else "; all limited to 1 outside the model"
    return [
        (True, "threads", f"{use} ({os.cpu_count()} cores{because})"),
        (not unlimited, "thread pools", ", ".join(name for _, name in pools) + rest),
    ]


def _plugins(session: Session) -> list[Finding]:
    methods = session.registry.methods
    owners = sorted({method.owner for method in methods.values()})
    good = [(True, "plugins", f"{len(methods)} methods from {', '.join(owners)}")]
    return good + [(False, f"plugin {b.name}", b.reason.replace("\n", " ")) for b in session.registry.problems]


def _workspace(session: Session) -> list[Finding]:
    workspace = session.workspace
    above = next(path for path in (workspace.root, *workspace.root.parents) if path.exists())
    writable = above.is_dir() and os.access(above, os.W_OK)
    finding = [(writable, "workspace", f"{workspace.root} {'can' if writable else 'cannot'} be written to")]
    records, problems = workspace.records()
    damaged = [(False, "record", problem.replace("\n", " ")) for problem in problems]
    database = workspace.root / "mlflow.db"
    tracking = f"{database}" if database.exists() else "no database yet; the first run creates it"
    return [*finding, (True, "records", f"{len(records)} read without errors"), *damaged, (True, "tracking", tracking)]


def _parameters(method: Method) -> str:
    def short(value: Any) -> str:
        return repr(list(value) if isinstance(value, tuple) else value).replace(" ", "")

    return "".join(f"{name}={short(value)} " for name, value in method.parameters.items())
