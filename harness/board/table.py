"""Boards built from records: their tasks, one row per method, and which rows are ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.board.ranking import (
    Comparison,
    compare_ranks,
    competition_ranks,
    mean_interval,
    pareto_optimal,
    rank_intervals,
)
from harness.board.references import REFERENCES, Kind, Reference, command, kind_of
from harness.board.result import Result, Task, mean, mean_costs, metric_of, task_digest, tasks_of
from harness.board.seeds import Spread, seed_of, spread_of
from harness.closure.statistics import benjamini_hochberg, wilson_interval
from harness.records.record import FINISHED, Record, Status

PROTOCOL = ("controls", "metric", "labels", "split", "alpha", "futility", "ddof", "seed", "reruns", "active")
"""Keys of the configuration that decide how candidates are tested."""
TASK = ("subject", "batch", "intervention")


@dataclass(frozen=True)
class Missing:
    """A task without a result of this row: the reason, and the command that runs it (empty if none is known)."""

    task: str
    reason: str
    command: str


@dataclass(frozen=True)
class Row:
    """One method on one board; its figures are means over its tasks, and ``spread`` is None with a single seed.

    ``rank``: None for references, and for methods with missing tasks; ``rank_interval``: 95 %, by bootstrap over tasks.
    ``score``: share of closure tests passed, averaged over tasks; ``passed_interval``: Wilson's 95 % interval of
    ``passed`` / ``tests``. ``pareto_optimal``: no other complete unsupervised row is at least as good in score and
    seconds, and better in one.
    """

    rank: int | None
    rank_interval: tuple[int, int] | None
    method: str
    kind: Kind
    tests: int
    passed: int
    score: float
    passed_interval: tuple[float, float]
    verdicts: Mapping[str, int]
    effect: float | None
    effect_interval: tuple[float, float] | None
    q: float | None
    f1: float | None
    ari: float | None
    nmi: float | None
    chosen_by_labels: bool
    stability: float | None
    seconds: float | None
    cost: Mapping[str, float]
    pareto_optimal: bool
    results: Mapping[str, Result]
    missing: tuple[Missing, ...]
    cells: tuple[str, ...]
    spread: Spread | None = None

    @property
    def complete(self) -> bool:
        """Whether it has a result on every task of its board."""
        return not self.missing and bool(self.results)


@dataclass(frozen=True)
class Board:
    """Methods tested under one protocol on the same tasks, best first.

    ``settings``: the protocol, as text by key; ``metric``: the one that effect, p and q refer to; ``damage``: the sign
    of its damage.
    """

    protocol: str
    settings: Mapping[str, str]
    metric: str
    damage: int
    tasks: tuple[Task, ...]
    rows: tuple[Row, ...]
    comparison: Comparison


def build(records: Iterable[Record]) -> list[Board]:
    """One board per protocol and set of methods that share tasks; groups named by hand are left out.

    If there are several records of one method on one task with one seed (by older code, for example), the newest is
    used.
    """
    newest: dict[tuple[str, ...], Record] = {}
    for record in sorted(records, key=lambda record: (str(record.provenance.get("started")), record.cell.id)):
        if not record.config.get("group"):
            task = [str(record.config.get(stage)) for stage in TASK]
            newest[record.cell.protocol, record.cell.row, str(seed_of(record)), *task] = record
    by_protocol: dict[str, list[Record]] = {}
    for record in sorted(newest.values(), key=lambda record: record.cell.id):
        by_protocol.setdefault(record.cell.protocol, []).append(record)
    return [_board(part) for _, judged in sorted(by_protocol.items()) for part in _comparable(judged)]


def _comparable(records: Sequence[Record]) -> list[list[Record]]:
    """The records in connected parts: methods are linked by the tasks they share."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    judged = [record for record in records if record.status in FINISHED]
    rows = {row: i for i, row in enumerate(dict.fromkeys(record.cell.row for record in records))}
    tasks = {task: len(rows) + i for i, task in enumerate(dict.fromkeys(map(task_digest, judged)))}
    ends = ([rows[record.cell.row] for record in judged], [tasks[task_digest(record)] for record in judged])
    n = len(rows) + len(tasks)
    component = connected_components(coo_array((np.ones(len(judged)), ends), shape=(n, n)), directed=False)[1]
    parts: dict[int, list[Record]] = {}
    for record in records:
        parts.setdefault(int(component[rows[record.cell.row]]), []).append(record)
    # Methods without a finished cell share no task with any other: they are listed on the first board.
    finished = [part for part in parts.values() if _any_finished(part)]
    rest = [record for part in parts.values() if not _any_finished(part) for record in part]
    ordered = sorted(finished, key=lambda part: min(r.cell.task for r in part if r.status in FINISHED))
    return [[*ordered[0], *rest], *ordered[1:]] if ordered else [rest]


def _any_finished(records: Sequence[Record]) -> bool:
    return any(record.status in FINISHED for record in records)


def _board(records: Sequence[Record]) -> Board:
    finished = [record for record in records if record.status in FINISHED]
    tasks = tasks_of(finished)
    metric, damage = metric_of(finished)
    q_values = _q_values(finished, metric)
    by_task = {task_digest(record): record for record in sorted(finished, key=seed_of, reverse=True)}  # the first seed
    examples = {task: by_task[key] for key, task in tasks.items()}
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record.cell.row, []).append(record)
    settings = {key: _text(records[0].config[key]) for key in PROTOCOL if key in records[0].config}
    if len(seeds := sorted(set(map(seed_of, records)))) > 1:
        settings["seed"] = ", ".join(map(str, seeds))
    rows = [_row(of_row, examples, metric, q_values) for of_row in by_row.values()]
    rows.sort(key=_order)
    if judged := [row for row in rows if row.results]:
        present = [reference for reference in REFERENCES if any(reference.matches(r.config) for r in records)]
        rows += [_absent(ref, judged[0], finished, examples) for ref in REFERENCES if ref not in present]
    return Board(
        protocol=records[0].cell.protocol,
        settings=settings,
        metric=metric,
        damage=damage,
        tasks=tuple(examples),
        rows=tuple(_ranked(rows)),
        comparison=_comparison([row for row in rows if row.complete], list(examples)),
    )


def _q_values(finished: Sequence[Record], metric: str) -> dict[tuple[str, int], float]:
    """q-values by cell and index of the candidate, over all tests of the board."""
    p_values = {
        (record.cell.id, i): p
        for record in finished
        for i, closure in enumerate(record.closure)
        if metric in closure.effects and (p := closure.effects[metric].p) is not None
    }
    return dict(zip(p_values, benjamini_hochberg(list(p_values.values())), strict=True))


def _comparison(rows: Sequence[Row], tasks: Sequence[Task]) -> Comparison:
    """Compare complete rows by damage beyond controls. A row without a candidate or a defined z comes last."""
    scores = np.full((len(rows), len(tasks)), -np.inf)
    for i, row in enumerate(rows):
        for j, task in enumerate(tasks):
            if (beyond := row.results[task.name].beyond_controls) is not None:
                scores[i, j] = beyond
    return compare_ranks([row.method for row in rows], scores)


def _row(
    records: Sequence[Record], examples: Mapping[Task, Record], metric: str, q_values: Mapping[tuple[str, int], float]
) -> Row:
    """The row of one method; ``examples``: one record of each task."""
    by_task: dict[str, dict[int, Result]] = {}
    for record in sorted(records, key=seed_of):
        if record.status in FINISHED:
            by_task.setdefault(task_digest(record), {})[seed_of(record)] = Result.of(record, metric, q_values)
    by_seed = {task.name: by_task[task.digest] for task in examples if task.digest in by_task}
    results = {name: Result.over_seeds(of_task) for name, of_task in by_seed.items()}
    row = _summary(
        records[0].cell.method,
        kind_of(records[0].config),
        results,
        tuple(_missing(task, records, examples) for task in examples if task.name not in results),
        tuple(sorted(record.cell.id for record in records)),
    )
    return replace(row, spread=spread_of(set(map(seed_of, records)), list(by_seed.values())))


def _absent(reference: Reference, first: Row, finished: Sequence[Record], examples: Mapping[Task, Record]) -> Row:
    """The row of a reference that was not run; its commands take all other stages from the first row."""
    method = next(record for record in finished if record.cell.id in first.cells)
    missing = [Missing(task.name, "not run", command(method, r, reference.words)) for task, r in examples.items()]
    return _summary(reference.name, reference.kind, {}, tuple(missing), ())


def _summary(
    method: str, kind: Kind, results: Mapping[str, Result], missing: tuple[Missing, ...], cells: tuple[str, ...]
) -> Row:
    done = list(results.values())
    tests, passed = sum(result.tests for result in done), sum(result.passed for result in done)
    verdicts = [verdict for result in done for verdict in result.verdicts]
    measured = [result for result in done if result.effect is not None]
    effects = np.array([result.effect for result in measured])
    errors = np.array([_standard_error(result.effect_interval) for result in measured])
    return Row(
        rank=None,
        rank_interval=None,
        method=method,
        kind=kind,
        tests=tests,
        passed=passed,
        score=mean(result.passed / result.tests for result in done) or 0.0,
        passed_interval=wilson_interval(passed, tests) if tests else (0.0, 1.0),
        verdicts={verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)},
        effect=float(effects.mean()) if measured else None,
        effect_interval=mean_interval(effects, errors) if errors.any() else None,
        q=max((result.q for result in done if result.q is not None), default=None),
        f1=mean(result.f1 for result in done),
        ari=mean(result.ari for result in done),
        nmi=mean(result.nmi for result in done),
        chosen_by_labels=any(result.chosen_by_labels for result in done),
        stability=mean(result.stability for result in done),
        seconds=mean(result.seconds for result in done),
        cost=mean_costs([result.cost for result in done]),
        pareto_optimal=False,
        results=results,
        missing=missing,
        cells=cells,
    )


def _standard_error(interval: tuple[float, float] | None) -> float:
    """The standard error of an effect, from its 95 % interval; 0 without an interval."""
    return (interval[1] - interval[0]) / 3.92 if interval else 0.0


def _missing(task: Task, records: Sequence[Record], examples: Mapping[Task, Record]) -> Missing:
    """Why a row lacks a task.

    A cell that did not finish has no batch digest, so it is matched by configuration. If two tasks have the same
    subject, batch and intervention, it may belong to either.
    """
    config = examples[task].config
    for record in records:
        same_task = all(record.config.get(stage) == config.get(stage) for stage in TASK)
        if same_task and record.status not in FINISHED:
            again = "" if record.status is Status.INVALID else command(record, examples[task])
            return Missing(task.name, f"{record.status.value}: {record.reason}", again)
    return Missing(task.name, "not run", command(records[0], examples[task]))


def _ranked(ordered: Sequence[Row]) -> Iterable[Row]:
    """Ranks among complete methods; Pareto optimality of score and seconds among complete unsupervised rows."""
    ranked = [i for i, row in enumerate(ordered) if row.complete and row.kind is Kind.METHOD]
    scores = np.array([[r.passed / r.tests for r in ordered[i].results.values()] for i in ranked])
    ranks = dict(zip(ranked, competition_ranks(scores.mean(axis=-1).round(12)), strict=True)) if ranked else {}
    intervals = dict(zip(ranked, rank_intervals(scores), strict=True)) if ranked else {}
    unsupervised = [i for i, row in enumerate(ordered) if row.complete and row.kind in (Kind.METHOD, Kind.BASELINE)]
    points = [(ordered[i].score, ordered[i].seconds or 0.0) for i in unsupervised]
    optimal = dict(zip(unsupervised, pareto_optimal(points), strict=True))
    for i, row in enumerate(ordered):
        yield replace(
            row,
            rank=int(ranks[i]) if i in ranks else None,
            rank_interval=intervals.get(i),
            pareto_optimal=optimal.get(i, False),
        )


def _order(row: Row) -> tuple[bool, float, float, str]:
    return bool(row.missing), -round(row.score, 12), 1.0 if row.q is None else row.q, row.method


def _text(node: object) -> str:
    """``layer_matched(n=99, seed=0)`` for a method with its parameters; several are joined by commas."""
    if not isinstance(node, Mapping):
        return str(node)
    if "name" not in node:
        return ", ".join(_text(method) for method in node.values())
    parameters = ", ".join(f"{key}={value}" for key, value in node.items() if key != "name")
    return f"{node['name']}({parameters})" if parameters else str(node["name"])
