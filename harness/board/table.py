"""From records to ranked rows: what a method's row says, and when it may be ranked at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.board.ranking import Comparison, compare, competition_ranks, frontier, mean_interval, rank_intervals
from harness.board.references import REFERENCES, Kind, Reference, command, kind_of
from harness.board.result import Result, Task, mean, metric_of, task_digest, tasks_of
from harness.closure.statistics import benjamini_hochberg, wilson_interval
from harness.records.record import FINISHED, Record, Status

JUDGES = ("controls", "metric", "labels", "split", "alpha", "futility", "ddof", "seed", "reruns", "active")


@dataclass(frozen=True)
class Missing:
    """A task that a row lacks: why, and what to type to have it (empty where it cannot be had, or no record says)."""

    task: str
    why: str
    command: str


@dataclass(frozen=True)
class Row:
    """One method on one board; its figures are means over its tasks.

    ``rank`` is None where tasks are missing, and for references, which are held against methods and not ranked;
    ``rank_interval``: the ranks of 95 % of the boards whose tasks are drawn again. ``score``: share of closure tests
    passed, each task counting the same; ``interval``: Wilson's, of ``passed`` of ``tests``. ``frontier``: no complete
    row is at least as good and cheaper.
    """

    rank: int | None
    rank_interval: tuple[int, int] | None
    method: str
    kind: Kind
    tests: int
    passed: int
    score: float
    interval: tuple[float, float]
    verdicts: Mapping[str, int]
    effect: float | None
    effect_interval: tuple[float, float] | None
    q: float | None
    truth: float | None
    ari: float | None
    nmi: float | None
    label_chosen: bool
    stability: float | None
    seconds: float | None
    cost: Mapping[str, float]
    frontier: bool
    results: Mapping[str, Result]
    missing: tuple[Missing, ...]
    cells: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether it was judged on every task of its board."""
        return not self.missing and bool(self.results)


@dataclass(frozen=True)
class Board:
    """Methods judged by one protocol on the same tasks, best first.

    ``judges``: the protocol in words; ``metric``: the one that effect, p and q speak of; ``damage``: the sign of its
    change for the worse.
    """

    protocol: str
    judges: Mapping[str, str]
    metric: str
    damage: int
    tasks: tuple[Task, ...]
    rows: tuple[Row, ...]
    comparison: Comparison


def build(records: Iterable[Record]) -> list[Board]:
    """One board per protocol and set of methods that share tasks; groups named by hand are no methods and stay out.

    Where one method was judged on one task twice (by older code, say), the newest record counts.
    """
    newest: dict[tuple[str, ...], Record] = {}
    for record in sorted(records, key=lambda record: (str(record.provenance.get("started")), record.cell.id)):
        if not record.config.get("group"):
            asked = [str(record.config.get(stage)) for stage in ("subject", "batch", "intervention")]
            newest[record.cell.protocol, record.cell.row, *asked] = record
    by_protocol: dict[str, list[Record]] = {}
    for record in sorted(newest.values(), key=lambda record: record.cell.id):
        by_protocol.setdefault(record.cell.protocol, []).append(record)
    return [_board(part) for _, of in sorted(by_protocol.items()) for part in _comparable(of)]


def _comparable(records: Sequence[Record]) -> list[list[Record]]:
    """The records in parts, so that no two methods without a common task, directly or through others, are in one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    judged = [record for record in records if record.status in FINISHED]
    rows = {row: i for i, row in enumerate(dict.fromkeys(record.cell.row for record in records))}
    tasks = {task: len(rows) + i for i, task in enumerate(dict.fromkeys(map(task_digest, judged)))}
    ends = ([rows[record.cell.row] for record in judged], [tasks[task_digest(record)] for record in judged])
    n = len(rows) + len(tasks)
    of = connected_components(coo_array((np.ones(len(judged)), ends), shape=(n, n)), directed=False)[1]
    parts: dict[int, list[Record]] = {}
    for record in records:
        parts.setdefault(int(of[rows[record.cell.row]]), []).append(record)
    # Methods that finished nothing have no task of their own to be judged on: they are listed with the first board.
    done = {part: of for part, of in parts.items() if any(record.status in FINISHED for record in of)}
    rest = [record for part, of in parts.items() if part not in done for record in of]
    ordered = sorted(done.values(), key=lambda part: min(r.cell.task for r in part if r.status in FINISHED))
    return [[*ordered[0], *rest], *ordered[1:]] if ordered else [rest]


def _board(records: Sequence[Record]) -> Board:
    finished = [record for record in records if record.status in FINISHED]
    tasks = tasks_of(finished)
    metric, damage = metric_of(finished)
    p_values = {
        (record.cell.id, i): p
        for record in finished
        for i, closure in enumerate(record.closure)
        if metric in closure.effects and (p := closure.effects[metric].p) is not None
    }
    q_values = dict(zip(p_values, benjamini_hochberg(list(p_values.values())), strict=True))
    by_task = {task_digest(record): record for record in finished}
    on = {task: by_task[key] for key, task in tasks.items()}
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record.cell.row, []).append(record)
    rows = [_row(of, on, metric, q_values) for of in by_row.values()]
    rows.sort(key=_order)
    if judged := [row for row in rows if row.results]:
        known = [reference for reference in REFERENCES if any(reference.matches(r.config) for r in records)]
        rows += [_absent(reference, judged[0], finished, on) for reference in REFERENCES if reference not in known]
    compared = [row for row in rows if row.complete]
    standing = np.array([[_standing(row.results[task.name]) for task in on] for row in compared]).reshape(
        len(compared), len(on)
    )
    return Board(
        protocol=records[0].cell.protocol,
        judges=_judges(records[0]),
        metric=metric,
        damage=damage,
        tasks=tuple(on),
        rows=tuple(_ranked(rows)),
        comparison=compare([row.method for row in compared], standing),
    )


def _row(
    records: Sequence[Record], on: Mapping[Task, Record], metric: str, q_values: Mapping[tuple[str, int], float]
) -> Row:
    by_task = {task_digest(record): record for record in records if record.status in FINISHED}
    results = {t.name: Result.of(by_task[t.digest], metric, q_values) for t in on if t.digest in by_task}
    return _summed(
        records[0].cell.method,
        kind_of(records[0].config),
        results,
        tuple(_missing(task, records, on) for task in on if task.name not in results),
        tuple(sorted(record.cell.id for record in records)),
    )


def _absent(reference: Reference, first: Row, finished: Sequence[Record], on: Mapping[Task, Record]) -> Row:
    """The row of a reference that nobody has run; all else that it takes to propose is as in the first row."""
    alike = next(record for record in finished if record.cell.id in first.cells)
    missing = [Missing(task.name, "not run", command(alike, record, reference.words)) for task, record in on.items()]
    return _summed(reference.name, reference.kind, {}, tuple(missing), ())


def _summed(
    method: str, kind: Kind, results: Mapping[str, Result], missing: tuple[Missing, ...], cells: tuple[str, ...]
) -> Row:
    done = list(results.values())
    tests, passed = sum(result.tests for result in done), sum(result.passed for result in done)
    verdicts = [verdict for result in done for verdict in result.verdicts]
    measured = [result for result in done if result.effect is not None]
    effects = np.array([result.effect for result in measured])
    errors = np.array([(r.interval[1] - r.interval[0]) / 3.92 if r.interval else 0.0 for r in measured])
    spent = [dict(result.cost) for result in done]
    return Row(
        rank=None,
        rank_interval=None,
        method=method,
        kind=kind,
        tests=tests,
        passed=passed,
        score=mean([result.passed / result.tests for result in done]) or 0.0,
        interval=wilson_interval(passed, tests) if tests else (0.0, 1.0),
        verdicts={verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)},
        effect=float(effects.mean()) if measured else None,
        effect_interval=mean_interval(effects, errors) if errors.any() else None,
        q=max((result.q for result in done if result.q is not None), default=None),
        truth=_mean_of(done, "truth"),
        ari=_mean_of(done, "ari"),
        nmi=_mean_of(done, "nmi"),
        label_chosen=any(result.label_chosen for result in done),
        stability=_mean_of(done, "stability"),
        seconds=_mean_of(done, "seconds"),
        cost={what: _of_all(what, [cost[what] for cost in spent if what in cost]) for cost in spent for what in cost},
        frontier=False,
        results=results,
        missing=missing,
        cells=cells,
    )


def _of_all(what: str, spent: Sequence[int]) -> float:
    """The mean over cells that spent any; of memory, which does not add up, the most."""
    return float(max(spent)) if what in ("memory", "gpu_memory") else sum(spent) / len(spent)


def _missing(task: Task, records: Sequence[Record], on: Mapping[Task, Record]) -> Missing:
    """Why a row lacks a task. What did not finish names its subject as it was asked for: its reason may be of another
    task of the same batch and intervention."""
    asked = on[task].config
    for record in records:
        alike = all(record.config.get(stage) == asked.get(stage) for stage in ("subject", "batch", "intervention"))
        if alike and record.status not in FINISHED:
            again = "" if record.status is Status.INVALID else command(record, on[task])
            return Missing(task.name, f"{record.status.value}: {record.reason}", again)
    return Missing(task.name, "not run", command(records[0], on[task]))


def _ranked(ordered: Sequence[Row]) -> Iterable[Row]:
    """Ranks among complete methods; the frontier of score and seconds among all that do not see labels or targets."""
    ranked = [i for i, row in enumerate(ordered) if row.complete and row.kind is Kind.METHOD]
    scores = np.array([[r.passed / r.tests for r in ordered[i].results.values()] for i in ranked])
    ranks = dict(zip(ranked, competition_ranks(scores.mean(axis=-1).round(12)), strict=True)) if ranked else {}
    intervals = dict(zip(ranked, rank_intervals(scores), strict=True)) if ranked else {}
    fair = [i for i, row in enumerate(ordered) if row.complete and row.kind in (Kind.METHOD, Kind.BASELINE)]
    scored = [(ordered[i].score, ordered[i].seconds or 0.0) for i in fair]
    best = dict(zip(fair, frontier(scored), strict=True))
    for i, row in enumerate(ordered):
        yield replace(
            row,
            rank=int(ranks[i]) if i in ranks else None,
            rank_interval=intervals.get(i),
            frontier=best.get(i, False),
        )


def _order(row: Row) -> tuple[bool, float, float, str]:
    return bool(row.missing), -round(row.score, 12), 1.0 if row.q is None else row.q, row.method


def _standing(result: Result) -> float:
    """Where nothing was proposed, or nothing can be said of it, a method stands last."""
    return -np.inf if result.standing is None else result.standing


def _judges(record: Record) -> dict[str, str]:
    """The protocol, as the first record's configuration has it."""
    return {key: _told(record.config[key]) for key in JUDGES if key in record.config}


def _told(node: object) -> str:
    """``layer_matched(n=99, seed=0)`` of a method with its parameters; of several, one after the other."""
    if not isinstance(node, Mapping):
        return str(node)
    if "name" not in node:
        return ", ".join(_told(one) for one in node.values())
    parameters = ", ".join(f"{key}={value}" for key, value in node.items() if key != "name")
    return f"{node['name']}({parameters})" if parameters else str(node["name"])


def _mean_of(results: Sequence[Result], name: str) -> float | None:
    return mean([value for result in results if (value := getattr(result, name)) is not None])
