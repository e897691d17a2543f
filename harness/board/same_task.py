"""What records of one task have in common: a submitted record is compared with those that the board has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.board.score import known_circuits
from harness.board.task import batch_digest, seed_of
from harness.closure.report import ClosureReport
from harness.records.record import Record

MACHINES = 0.05
"""Largest difference of the same figure between machines, in its own unit or as a share of it."""


def differences(record: Record, of_board: Sequence[Record]) -> Iterator[str]:
    """Every part of a record that its task decides, and that differs in the board's records of this task.

    Names, units and known circuits are those of the task. Classes, the number of examples, baselines and the size curve
    of the best units follow from the examples too, so they are compared with records of the same seed.
    """
    board = of_board[0]
    for name in ("subject", "batch", "target", "intervention"):
        if (given := getattr(record.cell, name)) != (known := getattr(board.cell, name)):
            yield f"its {name} is called '{given}', on the board '{known}'"
    if (record.units, record.sites) != (board.units, board.sites):
        yield f"its {len(record.units)} units are not the {len(board.units)} units of the board's subject"
    if sorted(map(sorted, known_circuits(record))) != sorted(map(sorted, known_circuits(board))):
        yield "its known circuits are not those of the board's subject"
    if batch_digest(record) and _examples(record) != _examples(board):
        yield f"it has {_examples(record)} examples, the board's task {_examples(board)}"
    same_seed = [other for other in of_board if seed_of(other) == seed_of(record)]
    if same_seed:
        yield from _with_seed(record, same_seed)


def _with_seed(record: Record, same_seed: Sequence[Record]) -> Iterator[str]:
    classes = next((other.classes for other in same_seed if other.classes), ())
    if record.classes and classes and record.classes != classes:
        yield "its units have other classes than on the board"
    reports = [closure for other in same_seed for closure in other.closure]
    for i, closure in enumerate(record.closure, 1):
        for known in reports[:1]:
            yield from (f"candidate {i}: {problem}" for problem in _of_report(closure, known))
    curve, known_curve = record.size_curve, next((r.size_curve for r in same_seed if r.size_curve), None)
    if curve and known_curve:
        if (curve.sizes, curve.greedy_units) != (known_curve.sizes, known_curve.greedy_units):
            yield "its size curve has other sizes, or other best units, than on the board"
        elif not all(map(_alike, (*curve.greedy, *curve.pool), (*known_curve.greedy, *known_curve.pool))):
            yield "its size curve has another damage by the best or by random units than on the board"


def _of_report(closure: ClosureReport, known: ClosureReport) -> Iterator[str]:
    if (closure.test, closure.scope, closure.joint) != (known.test, known.scope, known.joint):
        yield f"it was judged by test={closure.test}, scope={closure.scope}, joint={closure.joint}"
    tested, of_board = (each.n_examples if each.n_tested is None else each.n_tested for each in (closure, known))
    if tested != of_board:
        yield f"it was tested on {tested} examples, those of the board on {of_board}"
    if None not in (closure.n_proposed, known.n_proposed) and closure.n_proposed != known.n_proposed:
        yield f"it was proposed on {closure.n_proposed} examples, those of the board on {known.n_proposed}"
    if closure.scope == "all" and closure.n_examples != known.n_examples:
        yield f"it was judged on {closure.n_examples} examples, those of the board on {known.n_examples}"
    elif not 0 <= closure.n_examples <= tested:
        yield f"it was judged on {closure.n_examples} examples of {tested}"
    if closure.task_done is not known.task_done:
        yield f"the model does the task: {closure.task_done}; on the board: {known.task_done}"
    if list(closure.effects) != list(known.effects):
        yield f"its metrics are {', '.join(closure.effects)}; the board has {', '.join(known.effects)}"
        return
    for name, effect in closure.effects.items():
        other = known.effects[name]
        if (effect.damage, effect.decides) != (other.damage, other.decides):
            yield f"{name}: its direction, or whether it decides, is not that of the board"
        if closure.scope == "all":
            if not _alike(effect.baseline, other.baseline):
                yield f"{name}: the baseline is {effect.baseline}, on the board {other.baseline}"
            if effect.saturated is not other.saturated:
                yield f"{name}: saturated is {effect.saturated}, on the board {other.saturated}"


def _examples(record: Record) -> int | None:
    n: int | None = record.provenance.get("batch", {}).get("n")
    return n


def _alike(a: float, b: float) -> bool:
    return bool(np.isclose(a, b, rtol=MACHINES, atol=MACHINES))
