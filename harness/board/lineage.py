"""Where a board comes from: the command, the packages and code behind its records, and their digests."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.records.record import Record


@dataclass(frozen=True)
class Lineage:
    """``command`` makes the board, ``sweeps`` made its records; ``lock``: versions of packages, python and commits
    among those records; ``records``: the digest of each, by cell; ``added``: cells of records that others sent."""

    command: str
    sweeps: tuple[str, ...]
    lock: Mapping[str, tuple[str, ...]]
    records: Mapping[str, str]
    added: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Sequence[Record], command: str, added: Collection[str] = ()) -> Lineage:
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
            tuple(record.cell.id for record in ordered if record.cell.id in added),
        )


def _sweep(words: Iterable[str] | None) -> str:
    """The sweep or run that was typed, without the folders and servers of the machine it was typed on; empty for
    anything else that a record tells."""
    typed = list(map(str, words or ()))
    if typed[:2] not in (["harness", "run"], ["harness", "sweep"]):
        return ""
    return shlex.join(word for word in typed if not word.startswith(("workspace=", "tracking=")))
