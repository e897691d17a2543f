"""The damage of single units as text, as data, and as a file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from harness.board.compare_cells import metric_label
from harness.cells.unit_damage import UnitDamage
from harness.records.workspace import atomically, write_atomically

FORMS = (".png", ".svg", ".csv", ".json")
"""The endings of the files that :func:`write` writes."""
STRONGEST = 12
"""How many units the text lists."""


def as_text(damage: UnitDamage, width: int) -> str:
    """The units that do the most damage to the first metric, with all metrics; then the first metric of every unit.

    The second part has a row per site. It is left out where a row is longer than ``width``.
    """
    heads = [metric_label(name, sign) for name, sign in damage.damage.items()]
    rows = [("", *heads)]
    if damage.baseline:
        rows.append(("without ablation", *(f"{damage.baseline[name]:.2f}" for name in damage.changes)))
    strongest, units = damage.strongest, damage.units
    rows += [
        (units.labels[unit], *(f"{change[unit]:+.2f}" for change in damage.changes.values()))
        for unit in strongest[:STRONGEST]
    ]
    lines = [
        damage.task,
        f"Change of each metric when one unit alone is ablated, on {damage.examples}.",
        *_aligned(rows),
    ]
    if len(strongest) > STRONGEST:
        lines.append(f"  and {len(strongest) - STRONGEST} units with less damage to {heads[0]}")
    grid = _grid(damage)
    if max(map(len, grid)) <= width:
        lines += [f"{heads[0]} by site, units in order:", *grid]
    return "\n".join(lines)


def as_data(damage: UnitDamage) -> dict[str, Any]:
    """Every unit with its changes, None where it was not measured."""
    units = damage.units.units
    return {
        "task": damage.task,
        "examples": damage.examples,
        "baseline": dict(damage.baseline),
        "damage": dict(damage.damage),
        "units": [
            {
                "unit": unit.label,
                "site": unit.site,
                **{name: _plain(change[i]) for name, change in damage.changes.items()},
            }
            for i, unit in enumerate(units)
        ],
    }


def write(damage: UnitDamage, path: Path) -> None:
    """Write the map: a picture (``.png``, ``.svg``), a table (``.csv``) or all data (``.json``).

    Errors: a file that cannot be written.
    """
    if path.suffix == ".json":
        write_atomically(path, json.dumps(as_data(damage), indent=1))
    elif path.suffix == ".csv":
        write_atomically(path, _table(damage))
    else:
        from harness.board.figures.units import damage_map

        with atomically(path) as beside:
            damage_map(damage).savefig(beside, dpi=120, format=path.suffix[1:])


def _table(damage: UnitDamage) -> str:
    out = io.StringIO()
    rows = as_data(damage)["units"]
    table = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return out.getvalue()


def _grid(damage: UnitDamage) -> list[str]:
    """The first metric's change by site and place."""
    from harness.board.figures.units import in_grid

    change = next(iter(damage.changes.values()))
    grid = in_grid(damage.units, change, np.nan)
    head = ("", *map(str, range(grid.shape[1])))
    numbers = [["" if np.isnan(value) else f"{value:+.2f}" for value in row] for row in grid]
    return _aligned([head, *((site, *row) for site, row in zip(damage.units.sites, numbers, strict=True))])


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]).rstrip()
        for name, *numbers in rows
    ]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
