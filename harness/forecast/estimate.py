"""Seconds and bytes that a cell will take, step by step: from FLOPs and a few constants, or from finished cells."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.cells.cell import Cell
from harness.closure.stopping import expected_controls
from harness.data.sampling import Group
from harness.data.stages import uses_other_runs
from harness.engine.budget import Budget
from harness.engine.flops import Work, closure, forward_pass, with_gradient
from harness.engine.shapes import Shapes, shapes_of
from harness.forecast.conditions import conditions_of
from harness.forecast.machine import Machine
from harness.records.record import Record
from harness.util.bytesize import parse_size
from harness.util.digest import digest

_RECORDED = ("subject", "batch", "split", "seed", "signal", "labels")
_PROPOSED = (*_RECORDED, "group", "transform", "binarizer", "affinity", "partitioner", "chooser", "selector", "reruns")
_TESTED = ("subject", "batch", "split", "seed", "intervention", "metric")
DEPENDS: Mapping[str, tuple[str, ...]] = {
    "subject": ("subject",),
    "batch": ("subject", "batch"),
    "recording": _RECORDED,
    "proposal": _PROPOSED,
    "null": (*_PROPOSED, "intervention", "metric", "null_proposals"),
    "closure": (*_PROPOSED, *_TESTED, "controls", "contrast", "futility", "alpha"),
}
"""The parts of a configuration that a step depends on: cells with the same parts compute the step once."""

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
AT_REST = 540_000_000  # bytes of a process that has loaded torch and transformers, and no model
LOADING = (3.0, 1.5e-9)  # seconds to import torch, and to read a parameter
STATISTICS = 0.1  # seconds of a closure test beside the model: intervals, anatomy
FITTED = (0.02, 6e-9)  # seconds of an affinity, and per observation and pair of units
FEW = 10  # conditions: with this number or fewer, seconds per condition are not estimated
DIVIDED = (0.08, 5e-7)  # seconds of a partitioner, chooser and selector, and per pair of units


@dataclass(frozen=True)
class Span:
    """Seconds: at least (every candidate is stopped early, for futility) and at most (none is)."""

    least: float
    most: float

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)

    @property
    def middle(self) -> float:
        """The geometric mean of both ends."""
        return float((self.least * self.most) ** 0.5)


@dataclass(frozen=True)
class Step:
    """One step of a cell; ``seconds`` is None where they are unknown.

    ``key``: steps with the same key are computed once. ``pool``: steps of the same pool may turn out to be the same
    (methods that propose the same group, shared controls). ``seen``: estimated from finished cells.
    """

    name: str
    seconds: Span | None
    key: str
    pool: str
    seen: bool = False


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a cell. ``memory``: bytes at its peak, including the model's ``weights``; both are None
    where the subject's shapes are unknown.
    """

    steps: tuple[Step, ...]
    memory: int | None
    weights: int | None

    @property
    def seconds(self) -> Span | None:
        """Seconds of the cell alone."""
        return total(self.steps)


def total(steps: Sequence[Step]) -> Span | None:
    """Seconds of all steps, each distinct step counted once; None where one is unknown."""
    spans: list[Span] = []
    keys: set[str] = set()
    pools: set[str] = set()
    for step in steps:
        if step.key in keys:
            continue
        if step.seconds is None:
            return None
        spans.append(Span(0.0 if step.pool in pools else step.seconds.least, step.seconds.most))
        keys.add(step.key)
        pools.add(step.pool)
    return sum(spans, Span(0.0, 0.0))


def shapes_of_cell(cell: Cell) -> Shapes | None:
    """Shapes of a cell's subject, if its ``config()`` names a config.json; else None."""
    subject = cell.stages["subject"]
    folder = subject.config()
    return None if folder is None else shapes_of(str(folder))


def estimate(cell: Cell, machine: Machine, finished: Sequence[Record] = ()) -> Estimate:
    """The cost of a cell on a machine, if it computes every step itself.

    Steps of ``finished`` cells with the same methods are preferred to estimates from FLOPs.
    """
    shapes = shapes_of_cell(cell) if cell.stages["batch"].n is not None else None
    conditions, expected = _expected(cell, shapes, machine) if shapes else (None, {})
    steps = []
    for name in _step_names(cell):
        key = _key(name, DEPENDS[name], cell.config)
        pool = _key(name, (*_TESTED, "controls"), cell.config) if name == "closure" else key
        measured = _measured(name, key, cell, finished, conditions)
        steps.append(Step(name, measured or expected.get(name), key, pool, seen=measured is not None))
    if shapes is None:
        return Estimate(tuple(steps), None, None)
    return Estimate(tuple(steps), _memory(cell, shapes, machine), shapes.parameters * itemsize_of(cell))


def _step_names(cell: Cell) -> list[str]:
    if cell.settings.group:
        return ["subject", "batch", "closure"]
    return ["subject", "batch", "recording", "proposal", *(["null"] if cell.settings.permuted_runs else []), "closure"]


# -- from shapes -------------------------------------------------------------------------------------------------------


def budget_of(cell: Cell, shapes: Shapes, machine: Machine) -> Budget:
    """The largest pass, by the same rule as in the engine."""
    itemsize = itemsize_of(cell)
    memory = cell.stages["subject"].memory
    allowed = machine.for_passes(shapes.parameters * itemsize) if memory == "auto" else parse_size(memory)
    widest = max(shapes.width, shapes.heads * shapes.head_dim, 0 if shapes.experts else shapes.mlp)
    return Budget.of(allowed, machine.positions, itemsize, shapes.width, widest, shapes.vocabulary)


def examples_of(cell: Cell) -> tuple[int, int]:
    """How many examples a cell proposes on, and how many it tests on."""
    n = int(cell.stages["batch"].n)
    return (n, n) if cell.settings.group or cell.settings.split == "none" else (n // 2, n - n // 2)


def length_of(cell: Cell, shapes: Shapes) -> int:
    """Tokens per example. Where queries come before the end, fewer are computed."""
    return int(cell.stages["batch"].length or min(256, shapes.context))


def work_of(cell: Cell, shapes: Shapes, budget: Budget) -> list[tuple[int, Work]]:
    """Conditions and work until an average candidate is stopped for futility, and with all controls.

    The list has one entry if no candidate can be stopped early.
    """
    length = length_of(cell, shapes)
    _, examples = examples_of(cell)
    intervention = cell.stages["intervention"]
    at_query = intervention.positions == "query"
    other_runs = forward_pass(shapes, examples, length, budget) if uses_other_runs(intervention) else Work()
    work, ends = Work(), []
    evaluated: set[Group] = set()
    n = int(cell.stages["controls"].n or 99)
    for controls in dict.fromkeys((expected_controls(n, cell.settings.futility), n)):
        missing = [group for group in conditions_of(cell, shapes, controls) if group not in evaluated]
        evaluated.update(missing)
        work += closure(shapes, examples, length, missing, budget, at_query) + other_runs
        ends.append((len(evaluated), work))
    return ends


def null_work(cell: Cell, shapes: Shapes, budget: Budget) -> Work:
    """The work of testing one group for each run on permuted data."""
    _, examples = examples_of(cell)
    groups = conditions_of(cell, shapes, cell.settings.permuted_runs)
    at_query = cell.stages["intervention"].positions == "query"
    return closure(shapes, examples, length_of(cell, shapes), groups, budget, at_query)


def _expected(cell: Cell, shapes: Shapes, machine: Machine) -> tuple[Span, dict[str, Span]]:
    """Conditions of the closure test, and seconds of every step."""
    budget, length = budget_of(cell, shapes, machine), length_of(cell, shapes)
    proposing, testing = examples_of(cell)
    slower = machine.slower(shapes)

    def fixed(seconds: float) -> Span:
        return Span(seconds * slower, seconds * slower)

    def computing(least: Work, most: Work) -> Span:
        return Span(*(machine.seconds(work, shapes, itemsize_of(cell)) for work in (least, most)))

    pass_of = with_gradient if cell.stages["signal"].source == "first_order" else forward_pass
    recording = pass_of(shapes, proposing, length, budget)
    if cell.settings.split != "none":  # on which examples of the test half is each unit active?
        recording += forward_pass(shapes, testing, length, budget)
    fit = FITTED[0] + FITTED[1] * proposing * shapes.units**2
    divide = DIVIDED[0] + DIVIDED[1] * shapes.units**2
    reruns = cell.settings.reruns
    null = null_work(cell, shapes, budget)
    tests = work_of(cell, shapes, budget)
    (fewest, first), (most, last) = tests[0], tests[-1]
    return Span(float(fewest), float(most)), {
        "subject": fixed(LOADING[0] + LOADING[1] * shapes.parameters),
        "batch": fixed(2e-5 * (proposing + testing)),
        "recording": computing(recording, recording),
        "proposal": fixed(fit * (1 + reruns) + divide * (1 + 2 * reruns)),
        "null": fixed((fit + divide) * cell.settings.permuted_runs) + computing(null, null),
        "closure": computing(first, last) + fixed(STATISTICS),
    }


def _memory(cell: Cell, shapes: Shapes, machine: Machine) -> int:
    """Bytes at the peak: weights, the largest pass, the readings of a recording, a few affinity matrices."""
    weights = shapes.parameters * itemsize_of(cell)
    budget = budget_of(cell, shapes, machine)
    length = length_of(cell, shapes)
    largest_pass = budget.rows(length) * (length * budget.per_position + budget.per_row)
    examples = sum(examples_of(cell))
    outputs = cell.stages["signal"].source in ("head_output", "contribution")
    readings = 4 * examples * shapes.units * (shapes.head_dim if outputs else 1)
    return AT_REST + weights + largest_pass + readings + 4 * 8 * shapes.units**2


def itemsize_of(cell: Cell) -> int:
    """Bytes per number of the subject's weights."""
    return ITEMSIZE.get(cell.stages["subject"].dtype, 4)


# -- from finished cells -----------------------------------------------------------------------------------------------


def _key(name: str, parts: Sequence[str], config: Mapping[str, Any]) -> str:
    return digest(name, [config.get(part) for part in parts])


def _measured(name: str, key: str, cell: Cell, finished: Sequence[Record], conditions: Span | None) -> Span | None:
    """Seconds of this step in finished cells: the maximum, because a cell that finds the step in the cache takes none.

    For a closure test, the seconds per condition (of cells with the same subject, examples and intervention) times the
    number of ``conditions``.
    """
    if name != "closure":
        same = [r.seconds[name] for r in finished if name in r.seconds and key == _key(name, DEPENDS[name], r.config)]
        return Span(max(same), max(same)) if same else None
    tested = _key(name, _TESTED, cell.config)
    each = [
        r.seconds["closure"] / r.cost["computed"]
        for r in finished
        if "closure" in r.seconds and r.cost.get("computed", 0) > FEW and tested == _key(name, _TESTED, r.config)
    ]
    if not each or conditions is None:
        return None
    return Span(statistics.median(each) * conditions.least, statistics.median(each) * conditions.most)
