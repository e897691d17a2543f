"""Seconds and bytes of a cell, step by step: from FLOPs and a few constants, or from finished cells."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.cells.cell import Cell
from harness.closure.stopping import expected_controls
from harness.data.sampling import Group
from harness.data.stages import uses_other_runs
from harness.engine.budget import Room
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
"""The parts of a configuration that a step depends on: cells that agree in them make it once."""

NULL_PROPOSALS = 99  # of a cell that tests on the examples it proposed on
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
AT_REST = 540_000_000  # bytes of a process with torch and transformers loaded, and nothing in it
LOADING = (3.0, 1.5e-9)  # seconds of importing torch and of reading a parameter
STATISTICS = 0.1  # seconds of a closure test that no model is needed for: intervals, anatomy
FITTED = (0.02, 6e-9)  # of an affinity: seconds, and per observation and pair of units
FEW = 10  # conditions too few to tell from how long one takes
DIVIDED = (0.08, 5e-7)  # of a partitioner with its chooser and selector: seconds, and per pair of units


@dataclass(frozen=True)
class Span:
    """Seconds: at least (every candidate is given up after the first round of controls) and at most (none is)."""

    least: float
    most: float

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)

    @property
    def middle(self) -> float:
        """No further, by ratio, from one end than from the other."""
        return float((self.least * self.most) ** 0.5)


@dataclass(frozen=True)
class Step:
    """One step of a cell; ``seconds`` None where nothing is known to tell them from.

    ``key``: steps of the same key are made once. ``pool``: those of the same pool may turn out to be the same (methods
    that propose one group, controls that several have in common). ``seen``: told from cells that have finished.
    """

    name: str
    seconds: Span | None
    key: str
    pool: str
    seen: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a cell will take: ``memory`` in bytes at its peak, the model's ``weights`` among them; None where the
    subject's shapes are not known.
    """

    steps: tuple[Step, ...]
    memory: int | None
    weights: int | None

    @property
    def seconds(self) -> Span | None:
        """Of a cell by itself."""
        return total(self.steps)


def total(steps: Sequence[Step]) -> Span | None:
    """Seconds of all steps, those that are the same counted once; None where one is not known."""
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
    """Shapes of a cell's subject, where it says in ``config()`` whose config.json has them."""
    subject = cell.stages["subject"]
    folder = subject.config()
    return None if folder is None else shapes_of(str(folder))


def estimate(cell: Cell, machine: Machine, finished: Sequence[Record] = ()) -> Estimate:
    """What a cell will take on a machine, if it has to make every step itself.

    Steps of ``finished`` cells with the same methods are better evidence than any model, and taken instead.
    """
    shapes = shapes_of_cell(cell)
    known = shapes is not None and cell.stages["batch"].n is not None
    conditions, expected = _expected(cell, shapes, machine) if shapes and known else (None, {})
    names = ["subject", "batch", "recording", "proposal", "null", "closure"]
    left_out = (
        {"recording", "proposal", "null"} if cell.settings.group else set() if _null_proposals(cell) else {"null"}
    )
    steps = []
    for name in (name for name in names if name not in left_out):
        key = _key(name, DEPENDS[name], cell.config)
        pool = _key(name, (*_TESTED, "controls"), cell.config) if name == "closure" else key
        told = _seen(name, key, cell, finished, conditions)
        steps.append(Step(name, told or expected.get(name), key, pool, seen=told is not None))
    if not (shapes and known):
        return Estimate(tuple(steps), None, None)
    return Estimate(tuple(steps), _memory(cell, shapes, machine), shapes.parameters * itemsize_of(cell))


# -- what a model of the cell says -------------------------------------------------------------------------------------


def room_of(cell: Cell, shapes: Shapes, machine: Machine) -> Room:
    """The room of a pass, as the engine gives itself."""
    itemsize = itemsize_of(cell)
    memory = cell.stages["subject"].memory
    allowed = machine.for_passes(shapes.parameters * itemsize) if memory == "auto" else parse_size(memory)
    widest = max(shapes.width, shapes.heads * shapes.head_dim, 0 if shapes.experts else shapes.mlp)
    return Room.of(allowed, machine.positions, itemsize, shapes.width, widest, shapes.vocabulary)


def examples_of(cell: Cell) -> tuple[int, int]:
    """How many examples a cell proposes on, and how many it tests on."""
    n = int(cell.stages["batch"].n)
    return (n, n) if cell.settings.group or cell.settings.split == "none" else (n // 2, n - n // 2)


def length_of(cell: Cell, shapes: Shapes) -> int:
    """Tokens per example; where queries lie before the end, what is computed is less."""
    return int(cell.stages["batch"].length or min(256, shapes.context))


def work_of(cell: Cell, shapes: Shapes, room: Room) -> list[tuple[int, Work]]:
    """Conditions evaluated and work done until a middling candidate is given up, and for all controls.

    Once, where nobody is given up.
    """
    told, length = cell.settings, length_of(cell, shapes)
    _, examples = examples_of(cell)
    intervention = cell.stages["intervention"]
    of_others = forward_pass(shapes, examples, length, room) if uses_other_runs(intervention) else Work()
    done, ends = Work(), []
    known: set[Group] = set()
    n = int(cell.stages["controls"].n or 99)
    for end in dict.fromkeys((expected_controls(n, told.futility), n)):
        wanted = [group for group in conditions_of(cell, shapes, end) if group not in known]
        known |= {*wanted}
        done += closure(shapes, examples, length, wanted, room, intervention.positions == "query") + of_others
        ends.append((len(known), done))
    return ends


def null_work(cell: Cell, shapes: Shapes, room: Room) -> Work:
    """The work on what is proposed on permuted data: a group each time."""
    _, examples = examples_of(cell)
    groups = conditions_of(cell, shapes, _null_proposals(cell))
    at_query = cell.stages["intervention"].positions == "query"
    return closure(shapes, examples, length_of(cell, shapes), groups, room, at_query)


def _expected(cell: Cell, shapes: Shapes, machine: Machine) -> tuple[Span, dict[str, Span]]:
    """Conditions of the closure test, and seconds of every step, from shapes."""
    room, length = room_of(cell, shapes, machine), length_of(cell, shapes)
    proposing, testing = examples_of(cell)
    slower = machine.slower(shapes)

    def fixed(seconds: float) -> Span:
        return Span(seconds * slower, seconds * slower)

    def at_work(first: Work, last: Work) -> Span:
        least, most = (machine.seconds(work, shapes, itemsize_of(cell)) for work in (first, last))
        return Span(least, most)

    pass_of = with_gradient if cell.stages["signal"].source == "first_order" else forward_pass
    half = pass_of(shapes, proposing, length, room)
    again = forward_pass(shapes, testing, length, room)  # where units are active on the examples of the test
    recording = half if cell.settings.split == "none" else half + again
    fit = FITTED[0] + FITTED[1] * proposing * shapes.units**2
    divide = DIVIDED[0] + DIVIDED[1] * shapes.units**2
    reruns = cell.settings.reruns
    null = null_work(cell, shapes, room)
    tests = work_of(cell, shapes, room)
    (fewest, first), (all_of_them, last) = tests[0], tests[-1]
    return Span(float(fewest), float(all_of_them)), {
        "subject": fixed(LOADING[0] + LOADING[1] * shapes.parameters),
        "batch": fixed(2e-5 * (proposing + testing)),
        "recording": at_work(recording, recording),
        "proposal": fixed(fit * (1 + reruns) + divide * (1 + 2 * reruns)),
        "null": fixed((fit + divide) * _null_proposals(cell)) + at_work(null, null),
        "closure": at_work(first, last) + fixed(STATISTICS),
    }


def _memory(cell: Cell, shapes: Shapes, machine: Machine) -> int:
    """Bytes at the peak: weights, the largest pass, what is kept of the recording, a few matrices of affinities."""
    weights = shapes.parameters * itemsize_of(cell)
    room = room_of(cell, shapes, machine)
    length = length_of(cell, shapes)
    in_a_pass = room.rows(length) * (length * room.per_position + room.per_row)
    examples = sum(examples_of(cell)) if cell.stages["batch"].n is not None else 0
    outputs = cell.stages["signal"].source in ("head_output", "contribution")
    kept = 4 * examples * shapes.units * (shapes.head_dim if outputs else 1)
    return AT_REST + weights + in_a_pass + kept + 4 * 8 * shapes.units**2


def itemsize_of(cell: Cell) -> int:
    """Bytes per number of the subject's weights."""
    return ITEMSIZE.get(cell.stages["subject"].dtype, 4)


def _null_proposals(cell: Cell) -> int:
    told = cell.settings
    return (NULL_PROPOSALS if told.split == "none" else 0) if told.null_proposals is None else told.null_proposals


# -- what cells that have finished say ---------------------------------------------------------------------------------


def _key(name: str, parts: Sequence[str], config: Mapping[str, Any]) -> str:
    return digest(name, [config.get(part) for part in parts])


def _seen(name: str, key: str, cell: Cell, finished: Sequence[Record], conditions: Span | None) -> Span | None:
    """Seconds of this step in cells that made it: the most, because a cell that finds it in the cache takes none.

    A closure test's are those per condition, of cells with the same subject, examples and intervention, as many times
    as there are ``conditions``.
    """
    if name != "closure":
        spent = [r.seconds[name] for r in finished if name in r.seconds and key == _key(name, DEPENDS[name], r.config)]
        return Span(max(spent), max(spent)) if spent else None
    alike = _key(name, _TESTED, cell.config)
    each = [
        r.seconds["closure"] / r.cost["computed"]
        for r in finished
        if "closure" in r.seconds and r.cost.get("computed", 0) > FEW and alike == _key(name, _TESTED, r.config)
    ]
    if not each or conditions is None:
        return None
    return Span(statistics.median(each) * conditions.least, statistics.median(each) * conditions.most)
