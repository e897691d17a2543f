"""Which checks each stage's plugins are held to, and how a check becomes a finding."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.registry.registry import Method
from harness.testing import asking, disposing, proposing
from harness.testing.rules import Check, NotChecked, Violation, contents, require
from harness.util.errors import HarnessError, PluginError
from harness.util.threads import one_thread

CONTRACTS: Mapping[str, tuple[Check, ...]] = {
    "subject": asking.SUBJECT,
    "batch": asking.BATCH,
    "labels": asking.LABELS,
    "signal": proposing.SIGNAL,
    "transform": proposing.TRANSFORM,
    "binarizer": proposing.BINARIZER,
    "affinity": proposing.AFFINITY,
    "partitioner": proposing.PARTITIONER,
    "chooser": proposing.CHOOSER,
    "selector": proposing.SELECTOR,
    "intervention": disposing.INTERVENTION,
    "controls": disposing.CONTROLS,
    "metric": disposing.METRIC,
}
FEW = {"batch": {"n": 8}}  # enough for a check


@dataclass(frozen=True)
class Finding:
    """What one check found: ``reason`` says why it failed or could not be made, or what limit the plugin declares."""

    check: str
    outcome: Literal["passed", "failed", "skipped", "known limit"]
    reason: str = ""


def check_method(method: Method) -> list[Finding]:
    """Hold a method, with its default parameters, to the contract of its stage.

    The first check of a stage is whether ordinary input is answered at all; where it is not, the others are left out.
    A plugin that cannot keep a check says so with ``known_limits: ClassVar[Mapping[str, str]]``, check -> reason.
    """
    described, built = _find(describes_itself, method), _find(builds_from_its_parameters, method)
    if built.outcome != "passed":
        return [described, built]
    few = {name: n for name, n in FEW.get(method.stage, {}).items() if name in method.parameters}
    plugin = method.build(few)
    first, *more = CONTRACTS[method.stage]
    with one_thread():
        answered = _find(first, plugin)
        others = [_find(check, plugin) for check in more] if answered.outcome == "passed" else []
    found = [described, built, _find(is_frozen, plugin), _find(can_be_pickled, plugin), answered, *others]
    return _with_limits(found, plugin.known_limits)


def _with_limits(findings: list[Finding], limits: Mapping[str, str]) -> list[Finding]:
    """A failure that is declared is a known limit; a limit that is not there any more is a failure."""
    unknown = [
        Finding(name, "failed", "it is a known limit, but no check")
        for name in set(limits) - {f.check for f in findings}
    ]
    return unknown + [
        finding
        if finding.check not in limits
        else Finding(finding.check, "known limit", limits[finding.check])
        if finding.outcome == "failed"
        else Finding(finding.check, "failed", "it is declared as a known limit, and holds: remove the declaration")
        for finding in findings
    ]


def _find(check: Callable[[Any], None], subject: Any) -> Finding:
    name = check.__name__.replace("_", " ")
    try:
        check(subject)
    except Violation as violation:
        return Finding(name, "failed", str(violation))
    except NotChecked as why:
        return Finding(name, "skipped", str(why))
    except Exception as error:  # a stranger's code: anything can come out of it
        return Finding(name, "failed", f"{type(error).__name__}: {error}".strip())
    return Finding(name, "passed")


def describes_itself(method: Method) -> None:
    """`harness list` shows the first line, `harness show` the rest."""
    require(method.summary.endswith("."), f"the first line of its docstring is no sentence: {method.summary!r}")
    require(len(method.summary) <= 120, "the first line of its docstring is longer than 120 characters")


def builds_from_its_parameters(method: Method) -> None:
    """Defaults survive the way through a configuration file."""
    try:
        method.build({})
    except PluginError as error:  # a default that contradicts its annotation
        raise Violation(error.what) from error
    except HarnessError as error:
        raise NotChecked(f"needs parameters: {error.what}") from error
    plain, again = method.cls(), method.build(json.loads(json.dumps(method.parameters)))
    require(contents(plain) == contents(again), f"a configuration with its defaults gives {again!r}, not {plain!r}")


def is_frozen(plugin: Any) -> None:
    """Parameters enter a cell's identity: they may not change afterwards."""
    name = next((f.name for f in dataclasses.fields(plugin)), "anything")
    try:
        setattr(plugin, name, None)
    except dataclasses.FrozenInstanceError:
        return
    raise Violation(f"its parameter {name} can be changed after it is built")


def can_be_pickled(plugin: Any) -> None:
    """Sweeps hand plugins to other processes."""
    again = pickle.loads(pickle.dumps(plugin))  # noqa: S301  # our own bytes
    require(contents(again) == contents(plugin), "it is not the same after pickling")
