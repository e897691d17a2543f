"""Checkpoints of different steps whose weights are equal: one of them is not what its name says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.records.record import Record


def equal_weights(records: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """Pairs of records of equal weights at different training steps: one for each step but the first.

    Records that do not say their step, or the digest of their weights, are not compared.
    """
    seen: dict[str, Record] = {}
    named: set[tuple[str, int]] = set()
    for record in sorted(records, key=lambda record: record.cell.id):
        weights, step = (record.provenance.get("subject") or {}).get("weights"), record.provenance.get("step")
        if weights is None or step is None:
            continue
        before = seen.setdefault(str(weights), record)
        if before.provenance["step"] != step and (weights, step) not in named:
            named.add((weights, step))
            yield before, record


def sentence(pair: tuple[Record, Record]) -> str:
    """What is wrong with a pair, with its cells."""
    (before, record) = sorted(pair, key=lambda each: int(each.provenance["step"]))
    return (
        f"{before.cell.subject} and {record.cell.subject}: the checkpoints at steps {before.provenance['step']} and "
        f"{record.provenance['step']} have equal weights (cells {before.cell.id}, {record.cell.id}), so one of them is "
        "not what its name says."
    )
