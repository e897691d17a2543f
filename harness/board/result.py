"""One method on one task: what a single record says on a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.board.references import command
from harness.closure.statistics import Effect
from harness.closure.verdict import PRIMARY, Verdict, decision_order
from harness.records.record import PartitionRecord, Record
from harness.util.digest import digest


@dataclass(frozen=True)
class Task:
    """A column of a board: subject, batch (target) and intervention in words, and a digest of all that they are."""

    name: str
    digest: str


@dataclass(frozen=True)
class Result:
    """One method on one task. Of several candidates: means, the largest p and q, the best overlap with the truth.

    ``effect``: mean change of the board's metric, ``interval`` its 95 % over examples; ``standing``: standard
    deviations beyond the matched controls, towards damage; ``truth``: largest F1 of a candidate with a planted circuit;
    ``label_chosen``: the labels had a say in the partition.
    """

    cell: str
    status: str
    reason: str
    verdicts: tuple[str, ...]
    tests: int
    passed: int
    effect: float | None
    interval: tuple[float, float] | None
    p: float | None
    q: float | None
    standing: float | None
    truth: float | None
    ari: float | None
    nmi: float | None
    label_chosen: bool
    stability: float | None
    seconds: float
    cost: Mapping[str, int]
    command: str

    @classmethod
    def of(cls, record: Record, metric: str, q_values: Mapping[tuple[str, int], float]) -> Result:
        """What a finished record says of ``metric``; ``q_values`` by cell and place of the candidate."""
        effects = [closure.effects[metric] for closure in record.closure if metric in closure.effects]
        partition = record.partition
        agreement = partition.agreement if partition else None
        return cls(
            cell=record.cell.id,
            status=record.status.value,
            reason=record.reason or " ".join(dict.fromkeys(closure.reason for closure in record.closure)),
            verdicts=tuple(closure.verdict.value for closure in record.closure),
            tests=max(1, len(record.closure)),  # a task without a proposal is a test not passed
            passed=sum(closure.verdict is Verdict.PASS for closure in record.closure),
            effect=mean([effect.delta for effect in effects]),
            interval=_interval(effects),
            p=max((effect.p for effect in effects if effect.p is not None), default=None),
            q=max((q for (cell, _), q in q_values.items() if cell == record.cell.id), default=None),
            standing=mean([effect.damage * effect.z for effect in effects if effect.z is not None]),
            truth=_overlap_with_truth(record),
            ari=agreement.ari if agreement else None,
            nmi=agreement.nmi if agreement else None,
            label_chosen=record.chosen_by_labels,
            stability=_stability(partition) if partition else None,
            seconds=sum(record.seconds.values()),
            cost=dict(record.cost),
            command=command(record, record),
        )


def task_digest(record: Record) -> str:
    """What makes two records be of one task: subject, intervention and the examples themselves."""
    told = [record.config.get(stage) for stage in ("subject", "batch", "intervention")]
    return digest(record.cell.task, told, record.provenance.get("batch", {}).get("digest"))[:12]


def tasks_of(records: Sequence[Record]) -> dict[str, Task]:
    """The tasks of records by digest, in the order of their names; of the same name, told apart by their digests."""
    names = {task_digest(record): record.cell.task for record in records}
    several = [name for name in set(names.values()) if list(names.values()).count(name) > 1]
    tasks = [Task(f"{name} #{key[:6]}" if name in several else name, key) for key, name in names.items()]
    return {task.digest: task for task in sorted(tasks, key=lambda task: task.name)}


def metric_of(records: Sequence[Record]) -> tuple[str, int]:
    """The metric asked first, and the sign of a change for the worse."""
    for record in records:
        for closure in record.closure:
            name = decision_order(closure.effects)[0]
            return name, closure.effects[name].damage
    return PRIMARY, -1


def mean(values: Sequence[float]) -> float | None:
    """The mean of what there is; None of nothing."""
    return sum(values) / len(values) if values else None


def _interval(effects: Sequence[Effect]) -> tuple[float, float] | None:
    """The mean of the candidates' intervals: they are of the same examples, so nothing averages out."""
    intervals = [effect.interval for effect in effects if effect.interval]
    if not intervals:
        return None
    low, high = (sum(ends) / len(intervals) for ends in zip(*intervals, strict=True))
    return low, high


def _overlap_with_truth(record: Record) -> float | None:
    """F1 = 2 |A and B| / (|A| + |B|), best over candidates and planted circuits; None where nothing was planted."""
    planted = record.provenance.get("subject", {}).get("circuits")
    if not planted:
        return None
    pairs = [(set(c.units), set(circuit)) for c in record.candidates for circuit in planted.values()]
    return max((2 * len(a & b) / (len(a) + len(b)) for a, b in pairs), default=0.0)


def _stability(partition: PartitionRecord) -> float | None:
    """On resampled examples; where there are none to resample, over orders and seeds."""
    found = partition.stability
    if found is None:
        return None
    return found.seeds if found.resamples is None else found.resamples
