"""Settings, modules, classes and functions that have another name now, and the errors that give the new name."""

from __future__ import annotations

import ast
import re
import shlex
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.records.upgrades import SETTINGS_2
from harness.util.errors import HarnessError
from harness.util.fingerprint import reexports

SETTINGS: Mapping[str, str] = SETTINGS_2

MODULES: Mapping[str, str] = {
    f"harness.{old}": f"harness.{new}"
    for old, new in {
        "batch": "data.batch",
        "board.board_figures": "board.figures.board",
        "board.calibration": "calibration.page",
        "board.drawing": "board.figures.style",
        "board.made": "board.lineage",
        "board.match": "board.compare_methods",
        "board.pair": "board.compare_cells",
        "board.report_figures": "board.figures.report",
        "cache": "util.cache",
        "calibration": "calibration.calibrate",
        "cell": "cells.cell",
        "cli.pair": "cli.compare",
        "closure.case": "closure.trial",
        "closure.draw": "data.sampling",
        "closure.rounds": "closure.stopping",
        "config": "registry.config",
        "cost": "forecast",
        "cost.estimate": "forecast.estimate",
        "cost.flops": "engine.flops",
        "cost.groups": "forecast.conditions",
        "cost.machine": "forecast.machine",
        "cost.shapes": "engine.shapes",
        "cost.spent": "cells.spent",
        "digest": "util.digest",
        "engine.donors": "engine.replacement",
        "engine.forks": "engine.schedule",
        "engine.layout": "engine.discovery",
        "engine.passes": "engine.batching",
        "engine.prediction": "data.prediction",
        "engine.readings": "engine.recorder",
        "engine.room": "engine.budget",
        "errors": "util.errors",
        "groups": "data.grouping",
        "hookspecs": "registry.hookspecs",
        "identity": "util.fingerprint",
        "leaks": "cells.isolation",
        "memory": "util.memory",
        "mirrored": "tracking.run_view",
        "outcomes": "cells.ablations",
        "plugins": "registry.plugins",
        "progress": "cells.progress",
        "proposal": "proposal.proposal",
        "provenance": "cells.provenance",
        "record": "records.record",
        "recording": "data.recording",
        "registry": "registry.registry",
        "seeds": "util.seeds",
        "shared": "cells.inputs",
        "sizes": "util.bytesize",
        "spectrum": "data.spectrum",
        "stability": "proposal.stability",
        "stages": "data.contracts",
        "steps": "proposal.cached",
        "text": "data.corpus",
        "threads": "util.threads",
        "tracking": "tracking.mlflow",
        "units": "data.units",
        "workspace": "records.workspace",
        "written": "cells.result",
    }.items()
}
"""By old name: the new place of a module."""

NAMES: Mapping[str, str] = {
    "Anatomy": "harness.closure.report.Anatomy",
    "ClosureReport": "harness.closure.report.ClosureReport",
    "Tested": "harness.closure.report.CandidateResult",
    "LOCAL": "harness.data.tokens.LOCAL",
    "Twin": "harness.data.batch.Counterfactual",
    "asked": "harness.data.stages.inputs_of",
    "asked_first": "harness.closure.verdict.decision_order",
    "affinity_figure": "harness.board.figures.affinity.affinity_figure",
    "best_overlap": "harness.data.grouping.best_overlap",
    "default_id_range": "harness.data.tokens.default_id_range",
    "draw_affinity": "harness.board.figures.affinity.draw_affinity",
    "layer_bands": "harness.data.sampling.site_bands",
    "mean_outputs": "harness.engine.replacement.moments",
    "repeat_anchors": "harness.data.tokens.repeat_anchors",
    "jaccard": "harness.data.grouping.jaccard",
    "kept": "harness.closure.anatomy.sufficiency",
    "looks_elsewhere": "harness.data.stages.uses_other_runs",
    "null_groups": "harness.proposal.null.null_groups",
    "reseeded": "harness.data.contracts.reseeded",
    "shares": "harness.closure.anatomy.leave_one_out",
    "supply": "harness.data.stages.call_with",
    "widened": "harness.closure.statistics.inflated",
    "widening": "harness.data.sampling.inflation",
}
"""By old name: the new place of a class or function that was renamed, or that left its module."""

FIELDS: Mapping[str, str] = {
    "only_at_query": "method.positions == 'query'",
    "over_reference": "method.over == 'reference'",
    "per_position": "method.per == 'position'",
}
"""By name: functions that were replaced by a field of the method."""


def check_overrides(overrides: Iterable[str]) -> None:
    """Errors: an override whose key has another name now."""
    for word in overrides:
        key, equals, value = word.lstrip("+").partition("=")
        if (new := _renamed_key(key)) != key:
            raise HarnessError(f"{key} is now called {new}.", f"Write {shlex.quote(new + equals + value)}.")


def check_keys(config: Iterable[str], overrides: Iterable[str]) -> None:
    """Errors: a configuration file that sets a key under its old name. ``overrides`` chose the files."""
    for key in config:
        if (new := _renamed_key(key)) != key:
            raise HarnessError(
                f"{key} is now called {new}.",
                f"Write {new} in the configuration file that sets {key} (chosen by: {' '.join(overrides)}).",
            )


def _renamed_key(key: str) -> str:
    """``elsewhere.n`` -> ``contrast.n``, ``~batch@elsewhere`` -> ``~batch@contrast``. A current key is returned
    unchanged."""
    prefix, at, name = key.rpartition("@")
    first, dot, rest = name.partition(".")
    return f"{prefix}{at}{SETTINGS.get(first, first)}{dot}{rest}"


def moved(error: BaseException) -> str | None:
    """The import to write instead of one of an old name. None: the import failed for another reason."""
    if not isinstance(error, ImportError):
        return None
    module, names = _attempted(error)
    targets = {name: _target(module, name) for name in names if name not in FIELDS}
    sentences = [f"{module} has moved."] if module in MODULES else []
    sentences += [f"{name} is now called {new}." for name, (_, new) in targets.items() if new != name]
    sentences += [f"{name}(method) is now {FIELDS[name]}." for name in names if name in FIELDS]
    if not sentences and not any(name in NAMES for name in names):
        return None
    by_home: dict[str, list[str]] = {}
    for home, new in targets.values():
        by_home.setdefault(home, []).append(new)
    lines = [f"from {home} import {', '.join(new)}" for home, new in by_home.items()]
    if not names:
        lines = [f"import {MODULES[module]}"]
    return " ".join([*sentences, *([f"Write: {'; '.join(lines)}"] if lines else [])])


def _attempted(error: ImportError) -> tuple[str, list[str]]:
    """The module and the names of the import that failed: all names of its statement, or the missing one."""
    if missing := re.match(r"cannot import name '(\w+)' from '([\w.]+)'", str(error)):
        return missing[2], [missing[1]]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.suffix == ".py" and file.is_file():
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.ImportFrom) and node.lineno == frame.lineno and node.module:
                    return node.module, [alias.name for alias in node.names]
    return str(error.name), []


def _target(module: str, name: str) -> tuple[str, str]:
    """The module and the name to import instead; the module is ``harness`` for names of the public interface."""
    moved_to = MODULES.get(f"{module}.{name}") or NAMES.get(name) or f"{MODULES.get(module, module)}.{name}"
    home, _, new = moved_to.rpartition(".")
    return ("harness" if new in reexports("harness") else home), new
