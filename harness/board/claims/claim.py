"""A claim of a paper, and what records say about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.cells.settings import NEUTRAL
from harness.records.record import Record
from harness.util.digest import digest

ALPHA = 0.05
"""The level of every rule that has a p."""


class Answer(StrEnum):
    """What the records of a workspace say about a claim."""

    SUPPORTED = "supported"
    NOT_SUPPORTED = "not supported"
    NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Finding:
    """An answer, its ``evidence`` in a sentence, and the ids of the ``cells`` that it rests on."""

    answer: Answer
    evidence: str
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """One claim.

    ``text``: the claim in a sentence. ``source``: where it is made. ``rule``: when it counts as supported.
    ``experiment``: the experiment whose cells decide. ``judge``: records -> the finding; None where no record can
    decide. ``published``: what the published numbers say by the exact rule (p among the groups that were published), as
    far as they allow. ``command``: what runs the experiment.
    """

    text: str
    source: str
    rule: str
    experiment: str
    judge: Callable[[Sequence[Record]], Finding | None]
    published: str = ""
    command: str = "sweep"


def supported(yes: bool) -> Answer:
    """Supported, or not."""
    return Answer.SUPPORTED if yes else Answer.NOT_SUPPORTED


def cells(records: Sequence[Record]) -> tuple[str, ...]:
    """The ids of the records' cells."""
    return tuple(record.cell.id for record in records)


def task(record: Record) -> str:
    """Its model, and the name of its batch, whatever the batch's parameters."""
    return f"{record.cell.subject}, {record.config['batch'].get('name')}"


def without(record: Record, stage: str) -> str:
    """A digest of the configuration without one stage, and without what changes no result."""
    return digest({key: value for key, value in record.config.items() if key not in (stage, *NEUTRAL)})
