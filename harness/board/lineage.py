"""Where a board comes from: the command, the packages and code behind its records, and their digests."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.records.record import Record


@dataclass(frozen=True)
class Lineage:
    """``command`` makes the board, ``sweeps`` made its records; ``lock``: versions of packages, python and commits
    among those records; ``records``: the digest of each, by cell."""

    command: str
    sweeps: tuple[str, ...]
    lock: Mapping[str, tuple[str, ...]]
    records: Mapping[str, str]

    @classmethod
    def of(cls, records: Sequence[Record], command: str) -> Lineage:
        """The lineage of a board that ``command`` makes from these records."""
        ordered = sorted(records, key=lambda record: record.cell.id)
        lock: dict[str, set[str]] = {}
        for record in ordered:
            provenance = record.provenance
            versions = {
                **provenance.get("packages", {}),
                "python": provenance.get("python"),
                "commit": provenance.get("commit"),
            }
            for name, version in versions.items():
                if version:
                    lock.setdefault(str(name), set()).add(str(version))
        return cls(
            command,
            tuple(sorted({_sweep(record.provenance.get("typed")) for record in ordered} - {""})),
            {name: tuple(sorted(versions)) for name, versions in sorted(lock.items())},
            {record.cell.id: record.digest for record in ordered},
        )


def _sweep(words: Iterable[str] | None) -> str:
    """The sweep or run that was typed, without the folders and servers of the machine it was typed on; empty for
    anything else that a record tells."""
    typed = list(map(str, words or ()))
    if typed[:2] not in (["harness", "run"], ["harness", "sweep"]):
        return ""
    return shlex.join(word for word in typed if not word.startswith(("workspace=", "tracking=")))
