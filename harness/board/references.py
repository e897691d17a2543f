"""The references on every board, and the commands for results that a board lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.cells.rerun import rerun_words
from harness.cells.settings import PROPOSING
from harness.records.record import Record
from harness.registry.command import command as written
from harness.registry.config import registry
from harness.registry.registry import IN_SESSION

ROW = ("stratifier", *PROPOSING, "prune", "grow")
"""The parts of a configuration that make a row of a board."""


class Kind(StrEnum):
    """The role of a row; only methods are ranked."""

    METHOD = "method"
    BASELINE = "baseline"  # uses no data of the model: every method should beat it
    CEILING = "ceiling"  # uses the labels: no unsupervised method is expected to beat it
    SUPERVISED = "supervised"  # uses targets and gradients: for comparison only


@dataclass(frozen=True)
class Reference:
    """A row of every board: the methods whose configuration chooses ``words``, with any other stages."""

    kind: Kind
    name: str
    words: tuple[str, ...]

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Whether a cell's configuration belongs to this reference."""
        chosen = dict(word.split("=") for word in self.words)
        return all((config.get(stage) or {}).get("name") == name for stage, name in chosen.items())


REFERENCES = (
    Reference(Kind.BASELINE, "random groups", ("partitioner=random",)),
    Reference(Kind.BASELINE, "whole layers", ("partitioner=layers",)),
    Reference(Kind.CEILING, "the labels themselves", ("partitioner=oracle",)),
    Reference(Kind.SUPERVISED, "first-order attribution", ("signal=attribution", "partitioner=top_k")),
)


SUPERVISED_SIGNALS = frozenset({"attribution", "integrated_gradients"})
"""Signals that use targets and gradients: a method with one of them is a reference, whatever its other stages."""


def kind_of(config: Mapping[str, Any]) -> Kind:
    """The role of a row with this configuration."""
    for reference in REFERENCES:
        if reference.matches(config):
            return reference.kind
    signal = (config.get("signal") or {}).get("name")
    return Kind.SUPERVISED if signal in SUPERVISED_SIGNALS else Kind.METHOD


def command(method: Record, task: Record, changes: Sequence[str] = ()) -> str:
    """The command that runs the method of one record, with ``changes``, on the task of another.

    Built from the configurations of both: the command that a record tells is never shown. Empty if the method is an
    object of a Python session.
    """
    words = _words(method, task, changes)
    return written("run", *words) if words else ""


def _words(method: Record, task: Record, changes: Sequence[str] = ()) -> list[str]:
    if IN_SESSION in str([method.provenance.get("plugins"), task.provenance.get("plugins")]):
        return []
    config = {**task.config, **{key: method.config[key] for key in ROW if key in method.config}}
    config |= {stage: {"name": name} for stage, _, name in (word.partition("=") for word in changes)}
    return rerun_words(config, registry().methods)
