"""Compares two methods example by example, on all tasks that both were tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from harness.board.compare_cells import CellComparison, compare_cells, deltas_of, line, metric_label
from harness.board.task import batch_digest, seed_of, task_digest, tasks_of
from harness.closure.paired import Difference, paired_difference
from harness.closure.verdict import Verdict
from harness.records.record import FINISHED, Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError

Both = tuple[Record, Record]
"""The two methods' records of one task."""


@dataclass(frozen=True)
class MethodComparison:
    """Two methods, A and B, on the same tasks under one protocol; differences are damage of A minus damage of B.

    Tasks are told apart by their content. ``tasks``: those that both were tested on; ``only``: those that one of them
    was tested on, under this protocol and seed; ``passed``: on how many of the common ones each method's first
    candidate passed; ``pairs``: the comparison on every task for which both proposed a group; ``together``: the mean
    difference over these tasks, per metric, each task with the same weight. An example with several interventions is
    one observation: its differences are averaged first. ``left_out``: common tasks under other protocols or seeds; they
    share examples with these and would count twice. ``older``: records that a newer one of the same method, task,
    protocol and seed replaces.
    """

    methods: tuple[str, str]
    protocol: str
    tasks: int
    only: tuple[int, int]
    left_out: int
    older: int
    passed: tuple[int, int]
    pairs: tuple[CellComparison, ...]
    together: dict[str, Difference]


def compare_methods(first: Sequence[Record], second: Sequence[Record], workspace: Workspace) -> MethodComparison:
    """One method's candidates against the other's, per task and over all tasks.

    If there are several protocols or seeds, the one with most tasks on which both proposed a group is used, then the
    latest.

    Errors: no task for which both proposed a group; no metric that all of these tasks have; missing deltas.
    """
    places = [_newest(records) for records in (first, second)]
    by_protocol = _common_tasks(*places)
    common = max(by_protocol.values(), key=lambda tasks: (len(_tested(tasks)), _latest(tasks)), default=[])
    tested = _tested(common)
    total = sum(map(len, by_protocol.values()))
    names = [records[0].cell.method for records in (first, second)]
    if not tested:
        raise HarnessError(
            f"'{names[0]}' and '{names[1]}' have no task on which both proposed a group (of {total} tasks that both "
            "were tested on; tasks are equal if the content of model and examples is).",
            "Run both on the same subject, batch and intervention, under the same protocol: harness leaderboard",
        )
    metrics, tasks = _shared_metrics(tested), tasks_of([a for a, _ in tested])
    protocol, seed = tested[0][0].cell.protocol, seed_of(tested[0][0])
    here = [{place for place in of_method if place[:2] == (protocol, seed)} for of_method in places]
    finished = sum(record.status in FINISHED for record in (*first, *second))
    return MethodComparison(
        methods=(names[0], names[1]),
        protocol=protocol,
        tasks=len(common),
        only=(len(here[0] - here[1]), len(here[1] - here[0])),
        left_out=total - len(common),
        older=finished - sum(map(len, places)),
        passed=(sum(_passed(a) for a, _ in common), sum(_passed(b) for _, b in common)),
        pairs=tuple(replace(compare_cells(a, b, workspace), task=tasks[task_digest(a)].name) for a, b in tested),
        together=_together(metrics, tested, workspace),
    )


def methods_text(comparison: MethodComparison) -> str:
    """Tasks passed, the difference on each task by the metric that decides first, and the mean differences."""
    lines = [
        f"{letter}  {method}   passed {passed} of {comparison.tasks} tasks"
        for letter, method, passed in zip("AB", comparison.methods, comparison.passed, strict=True)
    ]
    if comparison.left_out:
        lines.append(
            f"protocol {comparison.protocol}; tasks under other protocols or seeds are left out: "
            f"{comparison.left_out} (compare their cells: harness compare CELL CELL)"
        )
    for letter, only in zip("AB", comparison.only, strict=True):
        if only:
            lines.append(f"left out: {_count(only, 'task')} that only {letter} was tested on")
    if comparison.older:
        lines.append(f"left out: {_count(comparison.older, 'record')} with a newer one of the same method and task")
    primary, damage = next(iter(comparison.together)), comparison.pairs[0].damage
    width = max(len(pair.task) for pair in comparison.pairs)
    title = f"  damage to {primary.replace('_', ' ')}, A - B, paired by example"
    lines.append(f"{title:<{width + 4}}{'difference':>12}   {'95 % interval':<20}{'p':>7}")
    lines += ["    " + line(pair.task, pair.differences[primary], width) for pair in comparison.pairs]
    lines.append(f"  mean over {len(comparison.pairs)} tasks on which both proposed a group")
    for name, difference in comparison.together.items():
        lines.append("    " + line(metric_label(name, damage[name]), difference, width))
    return "\n".join(lines)


Place = tuple[str, int, str]
"""Protocol, seed (which decides the examples) and content of the task."""


def _newest(records: Sequence[Record]) -> dict[Place, Record]:
    """The finished records of a method by place, the newest of each."""
    ordered = sorted(records, key=lambda record: (str(record.provenance.get("started")), record.cell.id))
    return {(r.cell.protocol, seed_of(r), task_digest(r)): r for r in ordered if r.status in FINISHED}


def _common_tasks(first: Mapping[Place, Record], second: Mapping[Place, Record]) -> dict[tuple[str, int], list[Both]]:
    """By protocol and seed: every task that both methods were tested on, in the order of their names."""
    common: dict[tuple[str, int], list[Both]] = {}
    for key in sorted(first.keys() & second.keys(), key=lambda key: (key[:2], first[key].cell.task, key[2])):
        common.setdefault(key[:2], []).append((first[key], second[key]))
    return common


def _tested(tasks: Sequence[Both]) -> list[Both]:
    return [(a, b) for a, b in tasks if a.closure and b.closure]


def _latest(tasks: Sequence[Both]) -> str:
    return max(str(record.provenance.get("started")) for both in tasks for record in both)


def _passed(record: Record) -> bool:
    return bool(record.closure) and record.closure[0].verdict is Verdict.PASS


def _shared_metrics(tested: Sequence[Both]) -> list[str]:
    every = [record.closure[0].effects for both in tested for record in both]
    metrics = [name for name in every[0] if all(name in effects for effects in every)]
    if not metrics:
        a, b = (record.cell for record in tested[0])
        raise HarnessError(
            f"'{a.method}' and '{b.method}' share no metric on the tasks on which both proposed a group "
            f"({len(tested)}). All are of protocol {a.protocol}, so their records were changed.",
            "Run these cells again with --force.",
        )
    return metrics


def _together(metrics: Sequence[str], tested: Sequence[Both], workspace: Workspace) -> dict[str, Difference]:
    """Per metric, the mean over tasks of the mean over examples, tested by flipping the signs of examples."""
    effects, seed = tested[0][0].closure[0].effects, seed_of(tested[0][0])
    sign = np.array([[effects[name].damage] for name in metrics])
    examples: dict[str, list[Float[np.ndarray, "metrics examples"]]] = {}
    for both in tested:
        changes = [deltas_of(record, workspace) for record in both]
        a, b = (np.stack([change[name][0] for name in metrics]) for change in changes)
        examples.setdefault(batch_digest(both[0]) or task_digest(both[0]), []).append(sign * (a - b))
    total = sum(tasks[0].shape[1] for tasks in examples.values())
    weighted = [np.sum(tasks, axis=0) * (total / len(tested) / tasks[0].shape[1]) for tasks in examples.values()]
    together = np.concatenate(weighted, axis=1)
    return {name: paired_difference(row, np.zeros(total), seed) for name, row in zip(metrics, together, strict=True)}


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
