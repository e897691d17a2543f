"""Seconds and bytes that a cell will take, step by step: from FLOPs and a few constants, or from finished cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from harness.cells.cell import Cell
from harness.cells.settings import tests_on_all
from harness.cells.size_curve import EXAMPLES
from harness.closure.grow import SEARCHED as TRIED
from harness.closure.size_curve import POOL, SEARCHED, SIZES
from harness.closure.stopping import expected_controls
from harness.data.fitting import fits, fitted_by
from harness.data.grouping import PAIRS_UP_TO
from harness.data.sampling import Group
from harness.data.stages import uses_other_runs
from harness.engine.budget import Budget
from harness.engine.flops import Work, closure, forward_pass, hooked_closure, with_gradient
from harness.engine.shapes import Shapes, shapes_of
from harness.forecast.conditions import Design
from harness.forecast.machine import Machine
from harness.forecast.steps import DEPENDS, TESTED, Measured, Span, Step, key_of, total
from harness.util.bytesize import parse_size

ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
AT_REST = 540_000_000  # bytes of a process that has loaded torch and transformers, and no model
LOADING = (3.0, 1.5e-9)  # seconds to import torch, and to read a parameter
STRATA = 4  # strata of a cell, as far as is known before it runs
STATISTICS = 0.1  # seconds of a closure test beside the model: intervals, anatomy
FITTED = (0.02, 6e-9)  # seconds of an affinity, and per observation and pair of units
DIVIDED = (0.08, 5e-7)  # seconds of a partitioner, chooser and selector, and per pair of units


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


def shapes_of_cell(cell: Cell) -> Shapes | None:
    """Shapes of a cell's subject, if its ``config()`` names a config.json; else None."""
    subject = cell.stages["subject"]
    folder = subject.config()
    return None if folder is None else shapes_of(str(folder))


def estimate(cell: Cell, machine: Machine, measured: Measured | None = None) -> Estimate:
    """The cost of a cell on a machine, if it computes every step itself.

    Steps that were ``measured`` in finished cells with the same methods are preferred to estimates from FLOPs.
    """
    shapes = shapes_of_cell(cell) if cell.stages["batch"].n is not None else None
    conditions, expected = _expected(cell, shapes, machine) if shapes else (None, {})
    steps = []
    for name in _step_names(cell):
        key = key_of(name, DEPENDS[name], cell.config)
        pool = key_of(name, (*TESTED, "controls"), cell.config) if name == "closure" else key
        seen = measured.seconds(name, cell.config, conditions) if measured else None
        steps.append(Step(name, seen or expected.get(name), key, pool, seen=seen is not None))
    if shapes is None:
        return Estimate(tuple(steps), None, None)
    return Estimate(tuple(steps), _memory(cell, shapes, machine), shapes.parameters * itemsize_of(cell))


def _step_names(cell: Cell) -> list[str]:
    if cell.settings.group:
        return ["subject", "batch", "closure"]
    null = ["null"] if cell.settings.permuted_runs else []
    null += ["strata null"] if cell.settings.strata_null else []
    curve = ["size curve"] if cell.settings.size_curve and not cell.divided else []
    grow = ["grow"] if cell.settings.grow else []
    return ["subject", "batch", "recording", "proposal", *grow, *null, "closure", *curve]


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
    return (n, n) if tests_on_all(cell.config) else (n // 2, n - n // 2)


def length_of(cell: Cell, shapes: Shapes) -> int:
    """Tokens per example. Where queries come before the end, fewer are computed."""
    return int(cell.stages["batch"].length or min(256, shapes.context))


@dataclass(frozen=True)
class Tests:
    """What decides the work of a cell's closure tests. Cells of a grid that differ elsewhere do the same work."""

    design: Design
    hooked: bool
    shapes: Shapes
    budget: Budget
    examples: int
    length: int
    at_query: bool
    other_runs: bool
    fit_passes: int

    @classmethod
    def of(cls, cell: Cell, shapes: Shapes, budget: Budget) -> Tests:
        """The tests of a cell."""
        intervention = cell.stages["intervention"]
        return cls(
            Design.of(cell, shapes),
            cell.stages["subject"].runs(shapes) is not None,
            shapes,
            budget,
            examples_of(cell)[1],
            length_of(cell, shapes),
            intervention.positions == "query",
            uses_other_runs(intervention),
            fitted_by(intervention).steps + 1 if fits(intervention) else 0,
        )

    def closure(self, conditions: Sequence[Group]) -> Work:
        """The work of these conditions."""
        if self.hooked:
            layer_of = np.repeat([run.depth for run in self.design.runs], [run.units for run in self.design.runs])
            return hooked_closure(self.shapes, self.examples, self.length, conditions, self.budget, layer_of)
        return closure(self.shapes, self.examples, self.length, conditions, self.budget, self.at_query)


def work_of(cell: Cell, shapes: Shapes, budget: Budget) -> Sequence[tuple[int, Work]]:
    """Conditions and work until an average candidate is stopped for futility, and with all controls.

    The list has one entry if no candidate can be stopped early.
    """
    tests = Tests.of(cell, shapes, budget)
    n = tests.design.compared
    return _work(tests, (expected_controls(n, cell.settings.futility), n))


@lru_cache
def _work(tests: Tests, numbers_of_controls: tuple[int, ...]) -> Sequence[tuple[int, Work]]:
    other_runs = forward_pass(tests.shapes, tests.examples, tests.length, tests.budget) if tests.other_runs else Work()
    work, ends = _fit_work(tests), []
    evaluated: set[Group] = set()
    for controls in dict.fromkeys(numbers_of_controls):
        missing = [group for group in tests.design.conditions(controls) if group not in evaluated]
        evaluated.update(missing)
        work += tests.closure(missing) + other_runs
        ends.append((len(evaluated), work))
    return ends


def _fit_work(tests: Tests) -> Work:
    """The work of fitting the constant of every unit: passes with gradients, in which one unit each is ablated."""
    each = with_gradient(tests.shapes, tests.examples * tests.design.units, tests.length, tests.budget)
    return sum((each for _ in range(tests.fit_passes)), Work())


@lru_cache
def _null_work(tests: Tests, runs: int) -> Work:
    """The work of testing one group for each run on permuted data."""
    return tests.closure([(), *tests.design.random_groups(runs)])


@lru_cache
def _curve_work(tests: Tests) -> Work:
    """The work of a size curve that no other cell shares: greedy selection on one half, groups of every size on the
    other.
    """
    units = tests.design.units
    each = min(units, SEARCHED) + POOL + 2
    groups = [group for size in SIZES if size < units for group in tests.design.random_groups(each, size)]
    return replace(tests, examples=min(EXAMPLES, tests.examples)).closure([(), *groups])


@lru_cache
def _grow_work(tests: Tests, steps: int) -> Work:
    """The work of growing every candidate by so many units: each unit alone, then two groups per unit and step."""
    design, (units, size) = tests.design, (tests.design.units, tests.design.size)
    tried = min(units - size, TRIED)
    larger = range(size + 1, min(size + steps, units - 1) + 1)
    groups = [group for n in larger for each in (n, units - n) for group in design.random_groups(tried, each)]
    work = tests.closure([(), *((unit,) for unit in range(units))])
    for _ in range(design.count):
        work += tests.closure(groups)
    return work


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
    if pass_of is with_gradient and uses_other_runs(cell.stages["intervention"]):
        recording += forward_pass(shapes, proposing, length, budget)
    if cell.settings.split != "none":  # on which examples of the test half is each unit active?
        recording += forward_pass(shapes, testing, length, budget)
    tests = Tests.of(cell, shapes, budget)
    units, pairs = tests.design.units, min(tests.design.units, PAIRS_UP_TO) ** 2
    fit = FITTED[0] + FITTED[1] * proposing * units**2
    divide = DIVIDED[0] + DIVIDED[1] * pairs
    reruns, grow = cell.settings.reruns, cell.settings.grow
    null = _null_work(tests, cell.settings.permuted_runs)
    curve = _curve_work(tests) if cell.settings.size_curve else Work()
    on_proposal = replace(tests, examples=proposing)
    one_step, all_steps = (_grow_work(on_proposal, n) if n else Work() for n in (min(1, grow), grow))
    ends = work_of(cell, shapes, budget)
    (fewest, first), (most, last) = ends[0], ends[-1]
    return Span(float(fewest), float(most)), {
        "subject": fixed(LOADING[0] + LOADING[1] * shapes.parameters),
        "batch": fixed(2e-5 * (proposing + testing)),
        "recording": computing(recording, recording),
        "proposal": fixed(fit * (1 + reruns) + divide * (1 + 2 * reruns)),
        "null": fixed((fit + divide) * cell.settings.permuted_runs) + computing(null, null),
        "strata null": fixed((fit + STRATA * divide) * cell.settings.strata_null),
        "grow": computing(one_step, all_steps),
        "closure": computing(first, last) + fixed(STATISTICS),
        "size curve": computing(curve, curve),
    }


def _memory(cell: Cell, shapes: Shapes, machine: Machine) -> int:
    """Bytes at the peak: weights, the largest pass, the readings of a recording, a few affinity matrices."""
    weights = shapes.parameters * itemsize_of(cell)
    budget = budget_of(cell, shapes, machine)
    length = length_of(cell, shapes)
    largest_pass = budget.rows(length) * (length * budget.per_position + budget.per_row)
    examples = sum(examples_of(cell))
    outputs = cell.stages["signal"].source in ("head_output", "contribution")
    units = Design.of(cell, shapes).units
    readings = 4 * examples * units * (shapes.head_dim if outputs else 1)
    return AT_REST + weights + largest_pass + readings + 4 * 8 * min(units, PAIRS_UP_TO) ** 2


def itemsize_of(cell: Cell) -> int:
    """Bytes per number of the subject's weights."""
    return ITEMSIZE.get(cell.stages["subject"].dtype, 4)
