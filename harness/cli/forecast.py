"""The output of ``harness plan``: a row per cell, the total, and forecasts for GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.cells.cell import Cell
from harness.cli.session import lines
from harness.forecast.estimate import Estimate, estimate, itemsize_of, shapes_of_cell
from harness.forecast.machine import GPUS, Machine
from harness.forecast.steps import Span, Step, total
from harness.records.record import FINISHED, Record
from harness.util.bytesize import write_size

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (0.0, "s"))


def write_seconds(seconds: float) -> str:
    """Seconds with two digits, in a suitable unit: ``0.4 s``, ``3.1 min``, ``12 h``."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    return f"{float(f'{seconds / (size or 1.0):.2g}'):g} {unit}"


def write_span(span: Span | None) -> str:
    """``3.1 s (2 s .. 4.9 s)``: the middle, with both ends where they differ."""
    if span is None:
        return "unknown"
    least, middle, most = (write_seconds(seconds) for seconds in (span.least, span.middle, span.most))
    return middle if least == most else f"{middle} ({least} .. {most})"


def rows_of(
    cells: Sequence[Cell], records: Sequence[Record | None], estimates: Sequence[Estimate | None]
) -> list[dict[str, Any]]:
    """Every cell with its status; for cells to do, time and memory on this machine, by step, and on GPUs."""
    rows = []
    for cell, record, forecast in zip(cells, records, estimates, strict=True):
        row: dict[str, Any] = {
            "cell": cell.id,
            "status": record.status.value if record else "to do",
            "title": cell.title,
        }
        if forecast:
            row["seconds"], row["memory"] = forecast.seconds and vars(forecast.seconds), forecast.memory
            row["steps"] = {step.name: step.seconds and vars(step.seconds) for step in forecast.steps}
            rows_of_gpus = on_gpus([cell])
            row["on_gpus"] = [{"gpu": name, "seconds": vars(span), "memory": size} for name, span, size in rows_of_gpus]
        rows.append(row)
    return rows


def text_of(
    cells: Sequence[Cell], records: Sequence[Record | None], estimates: Sequence[Estimate | None], machine: Machine
) -> str:
    """The same as text, with the total."""
    table = [
        (cell.id, record.status.value if record else "to do", *_columns(forecast), cell.title)
        for cell, record, forecast in zip(cells, records, estimates, strict=True)
    ]
    waiting = [(cell, forecast) for cell, forecast in zip(cells, estimates, strict=True) if forecast]
    parts = [lines(table, ""), _total([forecast for _, forecast in waiting], machine) if waiting else ""]
    if gpus := on_gpus([cell for cell, _ in waiting]):
        rows = [(name, write_span(span), f"{write_size(size)} each") for name, span, size in gpus]
        parts += ["On GPUs, from their nominal rates:", lines(rows)]
    return "\n".join(filter(None, parts))


def to_do(record: Record | None) -> bool:
    """Whether a cell has no finished record yet."""
    return record is None or record.status not in FINISHED


def _columns(forecast: Estimate | None) -> tuple[str, str]:
    if forecast is None:
        return "", ""
    return write_span(forecast.seconds), "unknown" if forecast.memory is None else write_size(forecast.memory)


def _total(estimates: Sequence[Estimate], machine: Machine) -> str:
    steps = [step for forecast in estimates for step in forecast.steps]
    whole = total(steps)
    if whole is None:
        return "Time unknown: a subject or batch does not give its size, and no similar cell has finished here."
    separate = sum((forecast.seconds for forecast in estimates if forecast.seconds), Span(0.0, 0.0))
    peak = max((forecast.memory for forecast in estimates if forecast.memory is not None), default=None)
    parts = [f"To do: {write_span(whole)}"]
    if len(estimates) > 1:
        parts.append(f"shared results are counted once (separately: {write_seconds(separate.middle)})")
    if peak is not None:
        fits = "" if peak < machine.memory else f", which does not fit: {machine.name} has {write_size(machine.memory)}"
        parts.append(f"peak memory {write_size(peak)}{fits}")
    note = (
        "\nSteps that finished cells have run here are forecast from their times." if any(s.seen for s in steps) else ""
    )
    return (
        f"{'; '.join(parts)}. Most of it: {_most(steps)}.\n"
        "The lower end assumes that all candidates are stopped early and that all methods propose the same groups; the "
        f"upper end assumes neither.{note}"
    )


def on_gpus(cells: Sequence[Cell]) -> list[tuple[str, Span, int]]:
    """The cost of cells on each kind of GPU, with as many GPUs as hold the largest model: name, time, memory of each.

    Empty where the shapes of a subject, or the number of examples of a batch, are unknown.
    """
    rows = []
    for gpu in GPUS:
        forecasts = [(machine, estimate(cell, machine)) for cell in cells if (machine := _holding(cell, gpu))]
        whole = total([step for _, forecast in forecasts for step in forecast.steps])
        if len(forecasts) == len(cells) and forecasts and whole is not None:
            largest = max((machine for machine, _ in forecasts), key=lambda machine: machine.count)
            rows.append((largest.name, whole, largest.memory))
    return rows


def _holding(cell: Cell, gpu: Machine) -> Machine | None:
    shapes = shapes_of_cell(cell)
    return gpu.holding(shapes.parameters * itemsize_of(cell)) if shapes else None


def _most(steps: Sequence[Step]) -> str:
    """The two longest steps, with their shares of the time."""
    by_name = {name: total([step for step in steps if step.name == name]) for name in {step.name for step in steps}}
    spent = {name: span.middle for name, span in by_name.items() if span}
    first = sorted(spent, key=lambda name: -spent[name])[:2]
    return ", ".join(f"{name} {spent[name] / sum(spent.values()):.0%}" for name in first)
