"""The result of one method on one task: the part of a record that a board uses."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.board.discoveries import Discoveries
from harness.board.references import command
from harness.board.score import Scores, mean, p_of
from harness.board.selectivity import Selective
from harness.closure.verdict import Verdict, decision_order
from harness.records.record import PartitionRecord, Record
from harness.registry.command import command as written
from harness.registry.command import swept

SIZE_CURVE = "size curve"
"""The step of the size curve: it measures methods for boards, and is not part of what a method costs."""
PEAKS = frozenset({"memory", "gpu_memory"})


@dataclass(frozen=True)
class Result:
    """One method on one task; over several candidates, means, and the largest p and q. Over several seeds, all tests
    together, the largest p and q, and means.

    ``scores``: what the row is ranked by. ``tests``, ``passed``: closure tests, and those with verdict pass (not weak
    pass). ``effect``: mean change of the board's metric, ``effect_interval``: 95 %, over examples. ``p``: before any
    correction. ``q``: among the distinct groups of the board; ``discoveries``: how many have q at most alpha.
    ``beyond_controls``: damage beyond the controls, in their standard deviations. ``chosen_by_labels``: the labels were
    used to choose the partition. ``labelled``: how many units ``ari`` and ``nmi`` are over, if not over all.
    ``selectivity``: where candidates were tested inside strata.
    ``known``: how well known circuits were found (:mod:`harness.cells.known_circuits`).
    """

    cell: str
    status: str
    reason: str
    scores: Scores
    verdicts: tuple[str, ...]
    tests: int
    passed: int
    effect: float | None
    effect_interval: tuple[float, float] | None
    p: float | None
    q: float | None
    discoveries: int
    beyond_controls: float | None
    ari: float | None
    nmi: float | None
    chosen_by_labels: bool
    stability: float | None
    seconds: float
    cost: Mapping[str, int | float]
    command: str
    labelled: int | None = None
    selectivity: Selective | None = None
    known: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record, metric: str, discoveries: Discoveries) -> Result:
        """The result in a finished record; ``metric``: that of its effect."""
        q_values = discoveries.q_of(record)
        effects = [closure.effects[metric] for closure in record.closure if metric in closure.effects]
        partition = record.partition
        agreement = partition.agreement if partition else None
        return cls(
            cell=record.cell.id,
            status=record.status.value,
            reason=record.reason or "; ".join(dict.fromkeys(closure.reason for closure in record.closure)),
            scores=Scores.of(record),
            verdicts=tuple(closure.verdict.value for closure in record.closure),
            tests=max(1, len(record.closure)),  # a task without a candidate is one test that is not passed
            passed=sum(closure.verdict is Verdict.PASS for closure in record.closure),
            effect=mean(effect.delta for effect in effects),
            effect_interval=mean_of_intervals([effect.interval for effect in effects if effect.interval]),
            p=max((p for closure in record.closure if (p := p_of(closure)) is not None), default=None),
            q=max(q_values, default=None),
            discoveries=sum(q <= discoveries.alpha for q in q_values),
            beyond_controls=mean(None if effect.z is None else effect.damage * effect.z for effect in effects),
            ari=agreement.ari if agreement else None,
            nmi=agreement.nmi if agreement else None,
            chosen_by_labels=record.chosen_by_labels,
            stability=_stability(partition) if partition else None,
            seconds=sum(seconds for step, seconds in record.seconds.items() if step != SIZE_CURVE),
            cost=dict(record.cost),
            command=command(record, record),
            labelled=_labelled(record),
            selectivity=Selective.of(record),
            known=record.known,
        )

    @classmethod
    def over_seeds(cls, by_seed: Mapping[int, Result]) -> Result:
        """One method on one task, tested with several seeds."""
        results = list(by_seed.values())
        if len(results) == 1:
            return results[0]
        intervals = [result.effect_interval for result in results if result.effect_interval]
        words = [word for word in shlex.split(results[0].command)[2:] if not word.startswith("seed=")]
        return cls(
            cell=" ".join(result.cell for result in results),
            status=", ".join(dict.fromkeys(result.status for result in results)),
            reason=" ".join(dict.fromkeys(result.reason for result in results if result.reason)),
            scores=Scores.over(result.scores for result in results),
            verdicts=tuple(verdict for result in results for verdict in result.verdicts),
            tests=sum(result.tests for result in results),
            passed=sum(result.passed for result in results),
            effect=mean(result.effect for result in results),
            effect_interval=mean_of_intervals(intervals),
            p=max((result.p for result in results if result.p is not None), default=None),
            q=max((result.q for result in results if result.q is not None), default=None),
            discoveries=sum(result.discoveries for result in results),
            beyond_controls=mean(result.beyond_controls for result in results),
            ari=mean(result.ari for result in results),
            nmi=mean(result.nmi for result in results),
            chosen_by_labels=any(result.chosen_by_labels for result in results),
            stability=mean(result.stability for result in results),
            seconds=sum(result.seconds for result in results) / len(results),
            cost=mean_costs([result.cost for result in results]),
            labelled=fewest_labelled(results),
            selectivity=Selective.over(result.selectivity for result in results),
            known=mean_of_figures([result.known for result in results]),
            command=written("sweep", *words, swept("seed", by_seed)) if words else "",
        )


def metric_of(records: Sequence[Record]) -> tuple[str, int]:
    """The metric that decides first, and the sign of damage; no name where nothing was tested."""
    for record in records:
        for closure in record.closure:
            name = decision_order(closure.effects)[0]
            return name, closure.effects[name].damage
    return "", -1


def _labelled(record: Record) -> int | None:
    """How many units have a label, if not all; None also where a record of an earlier version does not say it."""
    agreement = record.partition.agreement if record.partition else None
    return agreement.units if agreement and agreement.units != len(record.units) else None


def fewest_labelled(results: Iterable[Result]) -> int | None:
    """The fewest units that an agreement among these results is over; None: always over all."""
    return min((result.labelled for result in results if result.labelled is not None), default=None)


def mean_costs(costs: Sequence[Mapping[str, int | float]]) -> dict[str, float]:
    """Means over the cells that have each cost; for memory, which does not add up, the maximum."""
    by_name: dict[str, list[int | float]] = {}
    for cost in costs:
        for name, amount in cost.items():
            by_name.setdefault(name, []).append(amount)
    return {name: float(max(each)) if name in PEAKS else sum(each) / len(each) for name, each in by_name.items()}


def mean_of_figures(several: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """By name: the mean over those that have the figure."""
    by_name: dict[str, list[float]] = {}
    for figures in several:
        for name, value in figures.items():
            by_name.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in by_name.items()}


def mean_of_intervals(intervals: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The mean of intervals of candidates or seeds: they share examples, so that averaging does not narrow it."""
    if not intervals:
        return None
    low, high = (sum(ends) / len(intervals) for ends in zip(*intervals, strict=True))
    return low, high


def _stability(partition: PartitionRecord) -> float | None:
    """Stability over resampled examples; without examples to resample, over orders and seeds."""
    stability = partition.stability
    if stability is None:
        return None
    return stability.seeds if stability.resamples is None else stability.resamples
