"""From records to ranked rows: what a method's row says, and when it may be ranked at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.closure.statistics import benjamini_hochberg, wilson_interval
from harness.closure.trial import ClosureReport
from harness.closure.verdict import PRIMARY, Verdict
from harness.record import FINISHED, PartitionRecord, Record

EXPLANATION = """\
A row is a method: signal, transform, binarizer, affinity, partitioner, chooser, selector, as far as the later ones
ask for the earlier. It is judged on the tasks (subject · batch (target) · intervention) above. **Rank**: by the share
of closure tests passed; equal shares share a rank, and are listed by q. A task in which the method proposed nothing
counts as a test not passed. A row that lacks a task is listed, not ranked. **closures passed**: verdict `pass`, with
Wilson's 95 % interval. **effect**: mean change of the target logit under ablation (damage is negative), with a 95 %
interval over examples. **q**: largest Benjamini-Hochberg q of the row's tests on the target logit, corrected over all
tests of this table. **agreement**: mean adjusted Rand index of the chosen partition with the labels (\\*: these
labels had a say in it, so it flatters). **stability**: mean adjusted Rand index with the partitions found again on
resampled examples. **s/cell**: mean wall time."""


@dataclass(frozen=True)
class Row:
    """One method on one board. ``rank`` is None where tasks are missing; ``missing`` names them."""

    rank: int | None
    method: str
    tests: int
    passed: int
    interval: tuple[float, float]
    verdicts: dict[str, int]
    effect: float | None
    effect_interval: tuple[float, float] | None
    q: float | None
    agreement: float | None
    label_chosen: bool
    stability: float | None
    seconds: float
    missing: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of closure tests passed."""
        return self.passed / self.tests if self.tests else 0.0


@dataclass(frozen=True)
class Board:
    """Methods judged by one protocol on the same tasks, best first."""

    protocol: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]


def build(records: Iterable[Record]) -> list[Board]:
    """One board per protocol; groups named by hand are no methods and stay out.

    Where one method was judged on one task twice (by older code, say), the newest record counts.
    """
    newest: dict[tuple[str, ...], Record] = {}
    for record in sorted(records, key=lambda record: str(record.provenance.get("started"))):
        if not record.config.get("group"):
            asked = [str(record.config.get(stage)) for stage in ("subject", "batch", "intervention")]
            newest[record.cell.protocol, record.cell.row, *asked] = record
    by_protocol: dict[str, list[Record]] = {}
    for record in newest.values():
        by_protocol.setdefault(record.cell.protocol, []).append(record)
    return [_board(protocol, of) for protocol, of in sorted(by_protocol.items())]


def _board(protocol: str, records: Sequence[Record]) -> Board:
    finished = [record for record in records if record.status in FINISHED]
    tasks = tuple(sorted({record.cell.task for record in finished}))
    p_values = {
        (record.cell.id, i): p
        for record in finished
        for i, closure in enumerate(record.closure)
        if (p := _p(closure)) is not None
    }
    q_values = dict(zip(p_values, benjamini_hochberg(list(p_values.values())), strict=True))
    rows = [
        _row([record for record in records if record.cell.row == row], tasks, q_values)
        for row in sorted({record.cell.row for record in records})
    ]
    rows.sort(key=lambda row: (bool(row.missing), -row.share, row.q if row.q is not None else 1.0, row.method))
    return Board(protocol, tasks, tuple(_ranked(rows)))


def _row(records: Sequence[Record], tasks: Sequence[str], q_values: dict[tuple[str, int], float]) -> Row:
    finished = [record for record in records if record.status in FINISHED]
    closures = [closure for record in finished for closure in record.closure]
    tests = len(closures) + sum(not record.closure for record in finished)
    passed = sum(closure.verdict is Verdict.PASS for closure in closures)
    effects = [closure.effects[PRIMARY] for closure in closures if PRIMARY in closure.effects]
    deltas = [effect.delta for effect in effects]
    errors = [(e.interval[1] - e.interval[0]) / 3.92 for e in effects if e.interval]
    mean = sum(deltas) / len(deltas) if deltas else None
    margin = 1.96 * math.sqrt(sum(error**2 for error in errors)) / len(errors) if errors else None
    partitions = [record.partition for record in finished if record.partition]
    agreements = [partition.agreement.ari for partition in partitions if partition.agreement]
    stabilities = [s for partition in partitions if (s := _stability(partition)) is not None]
    own = {record.cell.id for record in finished}
    qs = [q for (cell, _), q in q_values.items() if cell in own]
    return Row(
        rank=None,
        method=records[0].cell.method,
        tests=tests,
        passed=passed,
        interval=wilson_interval(passed, tests) if tests else (0.0, 1.0),
        verdicts={v.value: n for v in Verdict if (n := sum(closure.verdict is v for closure in closures))},
        effect=mean,
        effect_interval=(mean - margin, mean + margin) if mean is not None and margin is not None else None,
        q=max(qs, default=None),
        agreement=sum(agreements) / len(agreements) if agreements else None,
        label_chosen=any(record.chosen_by_labels for record in finished),
        stability=sum(stabilities) / len(stabilities) if stabilities else None,
        seconds=sum(sum(record.seconds.values()) for record in finished) / len(finished) if finished else 0.0,
        missing=tuple(task for task in tasks if task not in {record.cell.task for record in finished}),
        cells=tuple(sorted(record.cell.id for record in records)),
    )


def _ranked(ordered: Sequence[Row]) -> Iterable[Row]:
    rank = 0
    for place, row in enumerate(ordered, start=1):
        if row.missing or not row.tests:
            yield row
            continue
        if place == 1 or row.share != ordered[place - 2].share:
            rank = place
        yield replace(row, rank=rank)


def _stability(partition: PartitionRecord) -> float | None:
    """On resampled examples; where there are none to resample, over orders and seeds."""
    found = partition.stability
    if found is None:
        return None
    return found.seeds if found.resamples is None else found.resamples


def _p(closure: ClosureReport) -> float | None:
    effect = closure.effects.get(PRIMARY)
    return effect.p if effect else None
