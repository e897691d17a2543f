"""What every board holds methods against, and what to type for a result that a board lacks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.cells.cell import PROPOSING
from harness.records.record import Record


class Kind(StrEnum):
    """What a row is there for; only methods are ranked."""

    METHOD = "method"
    BASELINE = "baseline"  # what every method has to beat
    CEILING = "ceiling"  # sees the labels: what no method can be asked to beat
    SUPERVISED = "supervised"  # sees the targets and gradients: held against methods, does not compete


@dataclass(frozen=True)
class Reference:
    """A row that is always there: methods chosen so, whatever else proposes, are of this kind."""

    kind: Kind
    name: str
    words: tuple[str, ...]

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Whether a cell's configuration chooses what makes this reference."""
        chosen = dict(word.split("=") for word in self.words)
        return all((config.get(stage) or {}).get("name") == name for stage, name in chosen.items())


REFERENCES = (
    Reference(Kind.BASELINE, "random groups", ("partitioner=random",)),
    Reference(Kind.BASELINE, "whole layers", ("partitioner=layers",)),
    Reference(Kind.CEILING, "the labels themselves", ("partitioner=oracle",)),
    Reference(Kind.SUPERVISED, "first-order attribution", ("signal=attribution", "partitioner=top_k")),
)


def kind_of(config: Mapping[str, Any]) -> Kind:
    """What a row of this configuration is there for."""
    return next((reference.kind for reference in REFERENCES if reference.matches(config)), Kind.METHOD)


def command(method: Record, task: Record, changes: Sequence[str] = ()) -> str:
    """What to type to have one record's method, with ``changes``, judged on another record's task.

    Made of the commands in both records; empty where one has none that can be read.
    """
    own, judged = _words(method), _words(task)
    if not own or not judged:
        return ""
    changed = {_stage(word) for word in changes}
    proposing = [word for word in own if _stage(word) in PROPOSING and _stage(word) not in changed]
    return shlex.join(["harness", "run", *(w for w in judged if _stage(w) not in PROPOSING), *proposing, *changes])


def _words(record: Record) -> list[str]:
    try:
        return shlex.split(str(record.provenance.get("command", "")))[2:]
    except ValueError:  # a quote that is never closed
        return []


def _stage(word: str) -> str:
    return word.partition("=")[0].partition(".")[0]
