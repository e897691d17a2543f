"""The checks of every stage, and how they are run on a plugin."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.data.contracts import Subject
from harness.data.stages import STAGES
from harness.registry.registry import Method
from harness.testing import activity, controls, inputs, intervention, metric, proposal, strata
from harness.testing.ablation import ABLATION
from harness.testing.bench import InMemory
from harness.testing.checks import Check, NotChecked, Violation, contents, require
from harness.testing.isolation import ISOLATION
from harness.testing.site import SITE
from harness.testing.subject import SUBJECT
from harness.util.errors import HarnessError, PluginError
from harness.util.threads import one_thread

CONTRACTS: Mapping[str, tuple[Check, ...]] = {
    "subject": (*SUBJECT, *ISOLATION, *ABLATION, *SITE),
    "batch": inputs.BATCH,
    "labels": inputs.LABELS,
    "stratifier": strata.STRATIFIER,
    "signal": activity.SIGNAL,
    "transform": activity.TRANSFORM,
    "binarizer": activity.BINARIZER,
    "affinity": proposal.AFFINITY,
    "partitioner": proposal.PARTITIONER,
    "chooser": proposal.CHOOSER,
    "selector": proposal.SELECTOR,
    "intervention": intervention.INTERVENTION,
    "controls": controls.CONTROLS,
    "metric": metric.METRIC,
}
SMALL = {"batch": {"n": 8}}  # parameters that make checks fast


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``reason``: why it failed or was skipped, or the known limit of the plugin.

    ``about``: what the check requires, in one line.
    """

    check: str
    outcome: Literal["passed", "failed", "skipped", "known limit"]
    reason: str = ""
    about: str = ""


def check_method(method: Method) -> list[Finding]:
    """Check a method, with its default parameters, against the contract of its stage.

    The first check of a stage calls the method on ordinary input. If it fails, the others are omitted. A plugin that is
    known to fail a check declares it in ``known_limits: ClassVar[Mapping[str, str]]``, check -> reason.
    """
    described, built = _find(describes_itself, method), _find(builds_from_its_parameters, method)
    if built.outcome != "passed":
        return [described, built]
    small = {name: n for name, n in SMALL.get(method.stage, {}).items() if name in method.parameters}
    plugin = method.build(small)
    first, *more = CONTRACTS[method.stage]
    with one_thread():
        answered = _find(first, plugin)
        others = [_find(check, plugin) for check in more] if answered.outcome == "passed" else []
    findings = [described, built, _find(is_frozen, plugin), _find(can_be_pickled, plugin), answered, *others]
    return _with_limits(findings, plugin.known_limits)


def check(plugin: Any, stage: str = "") -> list[str]:
    """What is wrong with a method, or with a loaded subject: its failed checks with their reasons. Empty: nothing.

    ``plugin``: the class of a method, or a subject that is in memory. ``stage``: needed only for a class that does not
    inherit from the contract of its stage.

    Errors: a class without a contract, where no stage is given.
    """
    if isinstance(plugin, Subject):
        with one_thread():
            findings = [_find(one, InMemory(plugin)) for one in CONTRACTS["subject"]]
    else:
        findings = check_method(Method(stage or _stage_of(plugin), plugin.name, plugin, plugin.__module__))
    return [f"{finding.check}: {finding.reason}" for finding in findings if finding.outcome == "failed"]


def _stage_of(cls: Any) -> str:
    found = next((stage.name for stage in STAGES.values() if stage.contract in getattr(cls, "__mro__", ())), None)
    if found is None:
        raise HarnessError(
            f"check: {cls!r} does not say which stage it is for.",
            "Let it inherit from a contract such as harness.AffinityMethod, or give stage='affinity'.",
        )
    return found


def _with_limits(findings: list[Finding], limits: Mapping[str, str]) -> list[Finding]:
    """A declared failure becomes a known limit; a declared limit that passes becomes a failure."""
    unknown = [
        Finding(name, "failed", "known_limits names this check, but it does not exist: remove the declaration")
        for name in set(limits) - {f.check for f in findings}
    ]
    return unknown + [
        finding
        if finding.check not in limits
        else replace(finding, outcome="known limit", reason=limits[finding.check])
        if finding.outcome == "failed"
        else replace(
            finding,
            outcome="failed",
            reason="known_limits declares this check, but it passes: remove the declaration",
        )
        for finding in findings
    ]


def _find(check: Callable[[Any], None], subject: Any) -> Finding:
    passed = Finding(check.__name__.replace("_", " "), "passed", about=(check.__doc__ or "").split("\n", 1)[0])
    try:
        check(subject)
    except Violation as violation:
        return replace(passed, outcome="failed", reason=str(violation))
    except NotChecked as why:
        return replace(passed, outcome="skipped", reason=str(why))
    except Exception as error:  # plugin code may raise anything
        return replace(passed, outcome="failed", reason=f"{type(error).__name__}: {error}".strip())
    return passed


def describes_itself(method: Method) -> None:
    """`harness list` shows the first line, `harness show` the rest."""
    require(
        method.summary.endswith("."), f"the first line of its docstring is {method.summary!r}: end it with a full stop"
    )
    require(len(method.summary) <= 120, "the first line of its docstring is longer than 120 characters: shorten it")


def builds_from_its_parameters(method: Method) -> None:
    """A configuration file with the defaults gives the same method."""
    try:
        method.build({})
    except PluginError as error:  # a default that contradicts its annotation
        raise Violation(error.what) from error
    except HarnessError as error:
        raise NotChecked(f"it needs parameters: {error.what}") from error
    plain, again = method.cls(), method.build(json.loads(json.dumps(method.parameters)))
    require(
        contents(plain) == contents(again),
        f"a configuration with its defaults gives {again!r}, not {plain!r}: use defaults of the annotated types",
    )


def is_frozen(plugin: Any) -> None:
    """Parameters are part of a cell's identity, so they must not change after the method is built."""
    name = next((f.name for f in dataclasses.fields(plugin)), "anything")
    try:
        setattr(plugin, name, None)
    except dataclasses.FrozenInstanceError:
        return
    raise Violation(f"its parameter {name} can be changed after it is built: use @dataclass(frozen=True)")


def can_be_pickled(plugin: Any) -> None:
    """Sweeps send plugins to other processes."""
    again = pickle.loads(pickle.dumps(plugin))  # noqa: S301  # our own bytes
    require(contents(again) == contents(plugin), "it is not the same after pickling: keep all state in its fields")
