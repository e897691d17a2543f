"""What ``harness plan`` answers: a row per cell, what all of them take together, and what they would take elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.cells.cell import Cell
from harness.cli.session import lines
from harness.forecast.estimate import Estimate, Span, Step, estimate, itemsize_of, shapes_of_cell, total
from harness.forecast.machine import GPUS, Machine
from harness.records.record import FINISHED, Record
from harness.util.bytesize import write_size

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (0.0, "s"))


def write_seconds(seconds: float) -> str:
    """Seconds with two digits, in the unit that suits them: ``0.4 s``, ``3.1 min``, ``12 h``."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    return f"{float(f'{seconds / (size or 1.0):.2g}'):g} {unit}"


def write_span(span: Span | None) -> str:
    """``3.1 s (2 s .. 4.9 s)``: the middle, and both ends where they differ."""
    if span is None:
        return "unknown"
    least, middle, most = (write_seconds(seconds) for seconds in (span.least, span.middle, span.most))
    return middle if least == most else f"{middle} ({least} .. {most})"


def rows_of(
    cells: Sequence[Cell], found: Sequence[Record | None], estimates: Sequence[Estimate]
) -> list[dict[str, Any]]:
    """Every cell with its status; where it is to do, what it takes here, step by step, and on other machines."""
    rows = []
    for cell, record, told in zip(cells, found, estimates, strict=True):
        row: dict[str, Any] = {
            "cell": cell.id,
            "status": record.status.value if record else "to do",
            "title": cell.title,
        }
        if to_do(record):
            row["seconds"], row["memory"] = told.seconds and vars(told.seconds), told.memory
            row["steps"] = {step.name: step.seconds and vars(step.seconds) for step in told.steps}
            others = elsewhere([cell])
            row["elsewhere"] = [{"gpu": name, "seconds": vars(span), "memory": size} for name, span, size in others]
        rows.append(row)
    return rows


def text_of(
    cells: Sequence[Cell], found: Sequence[Record | None], estimates: Sequence[Estimate], machine: Machine
) -> str:
    """The same for people, and what all of it takes together."""
    table = [
        (cell.id, record.status.value if record else "to do", *_columns(record, told), cell.title)
        for cell, record, told in zip(cells, found, estimates, strict=True)
    ]
    waiting = [(cell, told) for cell, record, told in zip(cells, found, estimates, strict=True) if to_do(record)]
    parts = [lines(table, ""), _together([told for _, told in waiting], machine) if waiting else ""]
    if others := elsewhere([cell for cell, _ in waiting]):
        rows = [(name, write_span(span), f"{write_size(size)} each") for name, span, size in others]
        parts += ["Elsewhere, from nominal rates:", lines(rows)]
    return "\n".join(filter(None, parts))


def to_do(record: Record | None) -> bool:
    """Whether a cell would be run."""
    return record is None or record.status not in FINISHED


def _columns(record: Record | None, told: Estimate) -> tuple[str, str]:
    if not to_do(record):
        return "", ""
    return write_span(told.seconds), "unknown" if told.memory is None else write_size(told.memory)


def _together(estimates: Sequence[Estimate], machine: Machine) -> str:
    steps = [step for told in estimates for step in told.steps]
    together = total(steps)
    if together is None:
        return "Time unknown: a subject or batch does not tell its size, and no cell like it has finished here."
    apart = sum((told.seconds for told in estimates if told.seconds), Span(0.0, 0.0))
    peak = max((told.memory for told in estimates if told.memory is not None), default=None)
    said = [f"To do: {write_span(together)}"]
    if len(estimates) > 1:
        said.append(f"what cells share counted once (each by itself: {write_seconds(apart.middle)})")
    if peak is not None:
        fits = "" if peak < machine.memory else f", which does not fit: {machine.name} has {write_size(machine.memory)}"
        said.append(f"{write_size(peak)} at the peak{fits}")
    seen = "\nSteps that cells finished here have made are told from those." if any(s.seen for s in steps) else ""
    return (
        f"{'; '.join(said)}. Most of it: {_most(steps)}.\n"
        "The least if candidates are given up after the first controls and methods propose the same groups, the most "
        f"if neither.{seen}"
    )


def elsewhere(cells: Sequence[Cell]) -> list[tuple[str, Span, int]]:
    """What cells would take on GPUs, as many of each kind as hold the largest model: their name, time, memory each.

    Nothing where a subject's shapes, or a batch's examples, are not known.
    """
    rows = []
    for gpu in GPUS:
        told = [(machine, estimate(cell, machine)) for cell in cells if (machine := _holding(cell, gpu))]
        together = total([step for _, of in told for step in of.steps])
        if len(told) == len(cells) and told and together is not None:
            largest = max((machine for machine, _ in told), key=lambda machine: machine.count)
            rows.append((largest.name, together, largest.memory))
    return rows


def _holding(cell: Cell, gpu: Machine) -> Machine | None:
    shapes = shapes_of_cell(cell)
    return gpu.holding(shapes.parameters * itemsize_of(cell)) if shapes else None


def _most(steps: Sequence[Step]) -> str:
    """The two steps that take longest, with their share."""
    by_name = {name: total([step for step in steps if step.name == name]) for name in {step.name for step in steps}}
    spent = {name: span.middle for name, span in by_name.items() if span}
    first = sorted(spent, key=lambda name: -spent[name])[:2]
    return ", ".join(f"{name} {spent[name] / sum(spent.values()):.0%}" for name in first)
