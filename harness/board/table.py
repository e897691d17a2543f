"""Boards built from records: their tasks, one row per method, and which rows are ranked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from harness.board.board import Board, Missing, Row
from harness.board.discoveries import Discoveries
from harness.board.metrics import correlations, losses_per_logit
from harness.board.rank_intervals import rank_intervals
from harness.board.ranking import compare_ranks, competition_ranks, mean_interval, pareto_optimal
from harness.board.references import REFERENCES, Kind, Reference, command, kind_of
from harness.board.result import Result, fewest_labelled, mean_costs, metric_of
from harness.board.score import Scores, mean
from harness.board.seeds import spread_of
from harness.board.selectivity import Selective
from harness.board.task import Task, asked_digest, distinct, seed_of, task_digest, tasks_of
from harness.closure.statistics import wilson_interval
from harness.records.record import FINISHED, Record, Status

PROTOCOL = (
    *("controls", "metric", "labels", "split", "alpha", "futility", "ddof", "seed", "reruns", "active"),
    *("test", "statistic", "joint", "check_task"),
)
"""Keys of the configuration that decide how candidates are tested."""


def build(records: Iterable[Record], added: Collection[str] = ()) -> list[Board]:
    """One board per protocol and set of methods that share tasks; groups named by hand are left out.

    If there are several records of one method on one task with one seed (by older code, for example), the newest is
    used. ``added``: cells of records that others sent.
    """
    newest: dict[tuple[str, ...], Record] = {}
    older: list[Record] = []
    for record in sorted(records, key=lambda record: (str(record.provenance.get("started")), record.cell.id)):
        if not record.config.get("group"):
            task = task_digest(record) if record.status in FINISHED else f"asked for: {asked_digest(record)}"
            place = (record.cell.protocol, record.cell.row, str(seed_of(record)), task)
            older += [newest[place]] if place in newest else []
            newest[place] = record
    by_protocol: dict[str, list[Record]] = {}
    for record in sorted(newest.values(), key=lambda record: record.cell.id):
        by_protocol.setdefault(record.cell.protocol, []).append(record)
    return [_board(part, older, added) for _, judged in sorted(by_protocol.items()) for part in _comparable(judged)]


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


def _board(records: Sequence[Record], older: Sequence[Record], added: Collection[str]) -> Board:
    finished = [record for record in records if record.status in FINISHED]
    tasks = tasks_of(finished)
    metric, damage = metric_of(finished)
    discoveries = Discoveries.of(finished)
    by_task = {task_digest(record): record for record in sorted(finished, key=seed_of, reverse=True)}  # the first seed
    examples = {task: by_task[key] for key, task in tasks.items()}
    by_row: dict[str, list[Record]] = {}
    for record in records:
        by_row.setdefault(record.cell.row, []).append(record)
    settings = {key: _text(records[0].config[key]) for key in PROTOCOL if key in records[0].config}
    if len(seeds := sorted(set(map(seed_of, records)))) > 1:
        settings["seed"] = ", ".join(map(str, seeds))
    names = distinct({row: [record.cell.method for record in of_row] for row, of_row in by_row.items()})
    rows = [_row(names[row], each, examples, metric, discoveries, added) for row, each in by_row.items()]
    if judged := [row for row in rows if row.results]:
        present = [reference for reference in REFERENCES if any(reference.matches(r.config) for r in records)]
        rows += [_absent(ref, judged[0], finished, examples) for ref in REFERENCES if ref not in present]
    complete = [row for row in rows if row.complete]
    protocol = records[0].cell.protocol
    return Board(
        protocol=protocol,
        settings=settings,
        metric=metric,
        damage=damage,
        tasks=tuple(examples),
        rows=tuple(sorted(_ranked(rows), key=_order)),
        comparison=compare_ranks([row.method for row in complete], _matrix(complete)),
        level=discoveries.alpha,
        groups=len(discoveries.q),
        discoveries=discoveries.found,
        correlations=correlations(finished),
        losses_per_logit=losses_per_logit(finished),
        left_out=tuple(sorted(r.cell.id for r in older if r.cell.row in by_row and r.cell.protocol == protocol)),
    )


def _matrix(rows: Sequence[Row]) -> Float[np.ndarray, "rows tasks"]:
    """The score of complete rows on every task."""
    tasks = max((len(row.score_by_task) for row in rows), default=0)
    return np.array([list(row.score_by_task.values()) for row in rows]).reshape(len(rows), tasks).round(12)


def _row(
    name: str,
    records: Sequence[Record],
    examples: Mapping[Task, Record],
    metric: str,
    discoveries: Discoveries,
    added: Collection[str],
) -> Row:
    """The row of one method; ``examples``: one record of each task."""
    by_task: dict[str, dict[int, Result]] = {}
    for record in sorted(records, key=seed_of):
        if record.status in FINISHED:
            by_task.setdefault(task_digest(record), {})[seed_of(record)] = Result.of(record, metric, discoveries)
    by_seed = {task.name: by_task[task.digest] for task in examples if task.digest in by_task}
    results = {name: Result.over_seeds(of_task) for name, of_task in by_seed.items()}
    by_base: dict[str, list[Scores]] = {}
    for task in examples:
        if task.name in results:
            by_base.setdefault(task.base, []).append(results[task.name].scores)
    row = _summary(
        name,
        kind_of(records[0].config),
        results,
        {base: Scores.over(each) for base, each in by_base.items()},
        tuple(_missing(task, records, examples) for task in examples if task.name not in results),
        tuple(sorted(record.cell.id for record in records)),
    )
    return replace(
        row,
        spread=spread_of(set(map(seed_of, records)), list(by_seed.values())),
        added=tuple(cell for cell in row.cells if cell in added),
    )


def _absent(reference: Reference, first: Row, finished: Sequence[Record], examples: Mapping[Task, Record]) -> Row:
    """The row of a reference that was not run; its commands take all other stages from the first row."""
    method = next(record for record in finished if record.cell.id in first.cells)
    missing = [Missing(task.name, "not run", command(method, r, reference.words)) for task, r in examples.items()]
    return _summary(reference.name, reference.kind, {}, {}, tuple(missing), ())


def _summary(
    method: str,
    kind: Kind,
    results: Mapping[str, Result],
    by_task: Mapping[str, Scores],
    missing: tuple[Missing, ...],
    cells: tuple[str, ...],
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
        scores=Scores.over(by_task.values()),
        known_circuits_interval=_over_tasks(scores.known_circuits for scores in by_task.values()),
        beyond_random_interval=_over_tasks(scores.beyond_random for scores in by_task.values()),
        by_task=by_task,
        score_by_task={task: scores.ranked_by for task, scores in by_task.items()},
        passed_interval=wilson_interval(passed, tests) if tests else (0.0, 1.0),
        verdicts={verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)},
        effect=float(effects.mean()) if measured else None,
        effect_interval=mean_interval(effects, errors) if errors.any() else None,
        q=max((result.q for result in done if result.q is not None), default=None),
        discoveries=sum(result.discoveries for result in done),
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
        labelled=fewest_labelled(done),
        selectivity=Selective.over(result.selectivity for result in done),
    )


def _over_tasks(values: Iterable[float | None]) -> tuple[float, float] | None:
    """95 % interval of a mean over tasks; None with fewer than two."""
    measured = np.array([value for value in values if value is not None])
    return mean_interval(measured, np.zeros(len(measured))) if len(measured) > 1 else None


def _standard_error(interval: tuple[float, float] | None) -> float:
    """The standard error of an effect, from its 95 % interval; 0 without an interval."""
    return (interval[1] - interval[0]) / 3.92 if interval else 0.0


def _missing(task: Task, records: Sequence[Record], examples: Mapping[Task, Record]) -> Missing:
    """Why a row lacks a task.

    A cell that did not finish has no batch digest, so it is matched by configuration. If two tasks have the same
    subject, batch and intervention, it may belong to either.
    """
    for record in records:
        if record.status not in FINISHED and asked_digest(record) == asked_digest(examples[task]):
            again = "" if record.status is Status.INVALID else command(record, examples[task])
            return Missing(task.name, f"{record.status.value}: {record.reason}", again)
    return Missing(task.name, "not run", command(records[0], examples[task]))


def _ranked(rows: Sequence[Row]) -> Iterable[Row]:
    """Ranks among the rows that are ranked; Pareto optimality of score and seconds among complete unsupervised rows."""
    ranked = [i for i, row in enumerate(rows) if row.rankable]
    scores = _matrix([rows[i] for i in ranked])
    ranks = dict(zip(ranked, competition_ranks(scores.mean(axis=-1).round(12)), strict=True)) if ranked else {}
    intervals = dict(zip(ranked, rank_intervals(scores, seed=0), strict=True)) if ranked else {}
    unsupervised = [i for i, row in enumerate(rows) if row.complete and row.kind in (Kind.METHOD, Kind.BASELINE)]
    points = [(rows[i].score, rows[i].seconds or 0.0) for i in unsupervised]
    optimal = dict(zip(unsupervised, pareto_optimal(points), strict=True))
    for i, row in enumerate(rows):
        yield replace(
            row,
            rank=int(ranks[i]) if i in ranks else None,
            rank_interval=intervals.get(i),
            pareto_optimal=optimal.get(i, False),
        )


def _order(row: Row) -> tuple[bool, bool, bool, float, float, str]:
    """Ranked methods, other complete methods, complete references, incomplete rows; each by score, then by q."""
    reference, q = row.kind is not Kind.METHOD, 1.0 if row.q is None else row.q
    return not row.complete, reference, row.rank is None, -round(row.score, 12), q, row.method


def _text(node: object) -> str:
    """``layer_matched(n=99, seed=0)`` for a method with its parameters; several are joined by commas."""
    if not isinstance(node, Mapping):
        return str(node)
    if "name" not in node:
        return ", ".join(_text(method) for method in node.values())
    parameters = ", ".join(f"{key}={value}" for key, value in node.items() if key != "name")
    return f"{node['name']}({parameters})" if parameters else str(node["name"])
