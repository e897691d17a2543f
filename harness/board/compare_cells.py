"""Compares two cells example by example: which candidate does more damage, in total and beyond its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from harness.board.card import ARROW
from harness.board.task import seed_of, task_digest
from harness.closure.effects import KEPT
from harness.closure.paired import Difference, excess, paired_difference
from harness.closure.report import ClosureReport
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError

ALPHA = 0.05
DELTAS = "deltas.safetensors"


@dataclass(frozen=True)
class CellComparison:
    """The first candidates of two cells, A and B, on the same examples; differences are damage of A minus damage of B.

    ``differences``: of the whole damage, per metric. ``beyond_controls``: of the damage beyond the mean of the groups
    of each candidate's profile that share no unit with it; empty where a candidate has no such group. ``damage``: the
    sign of damage, per metric.
    """

    cells: tuple[str, str]
    methods: tuple[str, str]
    units: tuple[tuple[str, ...], tuple[str, ...]]
    task: str
    differences: dict[str, Difference]
    beyond_controls: dict[str, Difference]
    damage: dict[str, int]


def compare_cells(first: Record, second: Record, workspace: Workspace) -> CellComparison:
    """One candidate's damage minus the other's, per example.

    Errors: cells without a tested candidate, of different tasks or protocols, or with ``scope=active``; missing deltas.
    """
    for record in (first, second):
        if not record.closure:
            raise HarnessError(
                f"cell {record.cell.id} has no tested candidate: {record.status.value}. {record.reason}".rstrip(),
                "Name two cells with a tested candidate: harness leaderboard",
            )
        if record.closure[0].scope == "active":
            raise HarnessError(
                f"cell {record.cell.id} judges each group on its own active examples, which differ between groups.",
                "Compare cells with scope=all: they are paired by example.",
            )
    tests = [(task_digest(r), r.cell.protocol, r.closure[0].n_examples, seed_of(r)) for r in (first, second)]
    if tests[0] != tests[1]:
        each = [
            f"{r.cell.task} (content {task}, protocol {protocol}, {n} examples, seed {seed})"
            for r, (task, protocol, n, seed) in zip((first, second), tests, strict=True)
        ]
        raise HarnessError(
            f"cells {first.cell.id} and {second.cell.id} were not tested on the same examples in the same way: "
            f"{' and '.join(each)}.",
            "Name cells with the same subject, batch, intervention, protocol and seed. "
            "A group named by hand is tested on all examples.",
        )
    if first.closure[0].effects.keys() != second.closure[0].effects.keys():
        raise HarnessError(
            f"cells {first.cell.id} and {second.cell.id} have other metrics under one protocol: a record was changed.",
            "Run these cells again with --force.",
        )
    total, beyond = [], []
    for record in (first, second):
        deltas, disjoint = deltas_of(record, workspace), _disjoint(record)
        total.append({name: changes[0] for name, changes in deltas.items()})
        others = {name: changes[1:][disjoint] for name, changes in deltas.items()}
        if all(map(len, others.values())):
            beyond.append({name: excess(changes[0], others[name]) for name, changes in deltas.items()})
    effects = first.closure[0].effects
    return CellComparison(
        cells=(first.cell.id, second.cell.id),
        methods=(first.cell.method, second.cell.method),
        units=(first.closure[0].units, second.closure[0].units),
        task=first.cell.task,
        differences=_differences(first, total),
        beyond_controls=_differences(first, beyond) if len(beyond) == 2 else {},
        damage={name: effect.damage for name, effect in effects.items()},
    )


def cells_text(comparison: CellComparison) -> str:
    """The two candidates, then the differences of their damage per metric."""
    lines = [
        f"{letter}  {method}   {' '.join(units)}"
        for letter, method, units in zip("AB", comparison.methods, comparison.units, strict=True)
    ]
    lines.append(f"on {comparison.task}, paired by example")
    tables = {"damage, A - B": comparison.differences, "damage beyond controls, A - B": comparison.beyond_controls}
    for title, differences in tables.items():
        if not differences:
            lines.append(f"  {title}: not compared; all groups of a candidate's profile share units with it")
            continue
        lines.append(f"  {title:<30}{'difference':>12}   {'95 % interval':<20}{'p':>7}")
        for name, difference in differences.items():
            lines.append("    " + line(metric_label(name, comparison.damage[name]), difference, 28))
    return "\n".join(lines)


def metric_label(metric: str, damage: int) -> str:
    """A metric, with an arrow in the direction of damage."""
    return f"{metric.replace('_', ' ')} {ARROW[damage]}"


def line(label: str, difference: Difference, width: int) -> str:
    """One difference: mean, interval, p, and the conclusion."""
    bounds = difference.interval
    interval = f"{bounds[0]:+.2f} .. {bounds[1]:+.2f}" if bounds else "one example"
    return f"{label:<{width}}{difference.mean:>+12.2f}   {interval:<20}{difference.p:>7.4f}   {_conclusion(difference)}"


def _conclusion(difference: Difference) -> str:
    """A difference is significant if p is at most 0.05 and its interval does not contain zero."""
    bounds = difference.interval
    if bounds is None or difference.p > ALPHA or bounds[0] <= 0 <= bounds[1]:
        return "no significant difference"
    return "A does more damage" if difference.mean > 0 else "B does more damage"


Changes = dict[str, Float[np.ndarray, " examples"]]


def _differences(record: Record, changes: Sequence[Changes]) -> dict[str, Difference]:
    seed = seed_of(record)
    return {
        name: paired_difference(effect.damage * changes[0][name], effect.damage * changes[1][name], seed)
        for name, effect in record.closure[0].effects.items()
    }


def _disjoint(record: Record) -> Bool[np.ndarray, " groups"] | slice:
    """Which of the groups with a change per example share no unit with the candidate."""
    closure = record.closure[0]
    if not closure.groups:  # a record of an older schema: its controls never did
        return slice(None)
    members = {record.units.index(unit) for unit in closure.units}
    return np.array([members.isdisjoint(group) for group in closure.groups[:KEPT]], dtype=bool)


def deltas_of(record: Record, workspace: Workspace, i: int = 0) -> dict[str, Float[np.ndarray, "groups examples"]]:
    """Per metric, the change on every example: by candidate ``i``, then by each of its controls.

    Errors: no file, a damaged one, or one that does not agree with the record.
    """
    closure = record.closure[i]
    deltas = workspace.arrays(record.cell.id, DELTAS).get(f"candidate.{i}")
    what = "has no" if deltas is None else "does not agree with its"
    if deltas is None or not _agrees(deltas, closure):
        raise HarnessError(
            f"cell {record.cell.id} {what} {DELTAS}, the changes per example.", "Run the cell again with --force."
        )
    return dict(zip(closure.effects, deltas.astype("float64"), strict=True))


def _agrees(deltas: np.ndarray, closure: ClosureReport) -> bool:
    tested = closure.n_examples if closure.n_tested is None else closure.n_tested
    if deltas.ndim != 3 or deltas.shape[::2] != (len(closure.effects), tested) or not np.isfinite(deltas).all():
        return False
    kept = int(deltas.shape[1]) - 1
    return kept == min(len(closure.groups), KEPT) if closure.groups else 0 <= kept <= closure.n_controls
