"""The references on every board, and the commands for results that a board lacks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.cells.cell import PROPOSING
from harness.records.record import Record


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


def kind_of(config: Mapping[str, Any]) -> Kind:
    """The role of a row with this configuration."""
    return next((reference.kind for reference in REFERENCES if reference.matches(config)), Kind.METHOD)


def command(method: Record, task: Record, changes: Sequence[str] = ()) -> str:
    """The command that runs the method of one record, with ``changes``, on the task of another.

    Built from the commands in both records; empty if one of them has no readable command.
    """
    of_method, of_task = _words(method), _words(task)
    if not of_method or not of_task:
        return ""
    changed = {_stage(word) for word in changes}
    proposing = [word for word in of_method if _stage(word) in PROPOSING and _stage(word) not in changed]
    return shlex.join(["harness", "run", *(w for w in of_task if _stage(w) not in PROPOSING), *proposing, *changes])


def _words(record: Record) -> list[str]:
    try:
        return shlex.split(str(record.provenance.get("command", "")))[2:]
    except ValueError:  # a quote that is never closed
        return []


def _stage(word: str) -> str:
    return word.partition("=")[0].partition(".")[0]
