"""Maps of all units: a row per site, a square per unit, with its group, its label or its damage."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.board.compare_cells import metric_label
from harness.board.figures.style import CANDIDATE, NewFigure, figure, style, svg
from harness.cells.unit_damage import UnitDamage
from harness.data.units import UnitSpace
from harness.records.record import Record

NONE = (0.5, 0.5, 0.5, 0.12)
NAMED_UP_TO = 200
"""With up to this many units, each square also shows its number."""
SITES_NAMED_UP_TO = 32


def unit_map(record: Record, attributes: Mapping[str, Sequence[Any]]) -> Markup:
    """Every unit at its site, coloured by each of the ``attributes``; the first candidate's units are outlined."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    units, candidate = record.unit_space, candidate_of(record)
    with style():
        drawn = figure(3.6 * len(attributes), _height(units))
        panels = drawn.subplots(1, len(attributes), squeeze=False)[0]
        for axes, (name, values) in zip(panels, attributes.items(), strict=True):
            kinds = sorted({value for value in values if value not in (None, -1)}, key=str)
            colour = {kind: colormaps["tab20"](i % 20) for i, kind in enumerate(kinds)}
            grid = in_grid(units, np.array([colour.get(value, NONE) for value in values]), 0.0)
            numbers = [str(value) if isinstance(value, int) and value >= 0 else "" for value in values]
            axes.imshow(grid, interpolation="nearest", aspect="auto")
            _finish(axes, units, candidate, name, numbers)
            if kinds and isinstance(kinds[0], str):
                handles = [Patch(color=colour[kind], label=kind) for kind in kinds]
                axes.legend(handles=handles, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
        return svg(drawn, f"units by site: {' and '.join(attributes)}; the candidate outlined")


def damage_map(damage: UnitDamage, candidate: Collection[int] = (), new: NewFigure = figure) -> Figure:
    """Every unit at its site, coloured by what its ablation alone changes: red for the worse, blue for the better.

    A panel per metric, whose colours end at its largest change. Grey: not measured. The candidate's units are outlined.
    """
    units, panels = damage.units, len(damage.changes)
    drawn = new(max(5.2, min(12.0, 0.42 * (max(places_in_site(units)) + 1) + 2.0)), _height(units) * panels)
    for axes, (name, change) in zip(drawn.subplots(panels, squeeze=False)[:, 0], damage.changes.items(), strict=True):
        top = float(np.nanmax(np.abs(change), initial=0.0)) or 1.0
        colours = "RdBu_r" if damage.damage[name] > 0 else "RdBu"
        grid = in_grid(units, change, np.nan)
        unmeasured = in_grid(units, np.tile(NONE, (len(units), 1)), 0.0)  # seen where the map above has no number
        axes.imshow(unmeasured, interpolation="nearest", aspect="auto")
        image = axes.imshow(grid, cmap=colours, vmin=-top, vmax=top, interpolation="nearest", aspect="auto")
        drawn.colorbar(image, ax=axes)
        numbers = [f"{value:+.2g}" if abs(value) >= top / 10 else "" for value in change]
        inks = ["white" if abs(value) > 0.6 * top else "black" for value in change]
        _finish(axes, units, candidate, metric_label(name, damage.damage[name]), numbers, inks)
    return drawn


def damage_svg(damage: UnitDamage, candidate: Collection[int]) -> Markup:
    """:func:`damage_map` as an element of a page."""
    with style():
        return svg(damage_map(damage, candidate), "change of each metric when a unit alone is ablated, by site")


def candidate_of(record: Record) -> frozenset[int]:
    """The units of the first candidate."""
    return frozenset(record.unit_space.find(record.candidates[0].units)) if record.candidates else frozenset()


def in_grid(
    units: UnitSpace, values: Float[np.ndarray, units * rest], empty: float
) -> Float[np.ndarray, "sites places *rest"]:
    """The values in a row per site, in the order of its units; short rows end with ``empty``."""
    places = places_in_site(units)
    grid = np.full((len(units.sites), max(places) + 1, *values.shape[1:]), empty)
    grid[units.site_of, places] = values
    return grid


def places_in_site(units: UnitSpace) -> list[int]:
    """The place of every unit among the units of its site."""
    places, counts = [0] * len(units), [0] * len(units.sites)
    for unit in units.canonical.tolist():
        site = int(units.site_of[unit])
        places[unit] = counts[site]
        counts[site] += 1
    return places


def _height(units: UnitSpace) -> float:
    return max(2.6, min(8.0, 0.32 * len(units.sites) + 1.2))


def _finish(
    axes: Axes,
    units: UnitSpace,
    candidate: Collection[int],
    title: str,
    numbers: Sequence[str],
    inks: Sequence[str] | None = None,
) -> None:
    """Outline the candidate, write a number into each square, name the sites."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    for unit, (row, column) in enumerate(zip(units.site_of.tolist(), places_in_site(units), strict=True)):
        if unit in candidate:
            corner = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=CANDIDATE, linewidth=2, clip_on=False))
        if numbers[unit] and len(units) <= NAMED_UP_TO:
            ink = inks[unit] if inks else "black"
            axes.text(column, row, numbers[unit], ha="center", va="center", fontsize=7, color=ink)
    axes.set(title=title, xlabel="unit")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(units.sites) <= SITES_NAMED_UP_TO:
        axes.set_yticks(range(len(units.sites)), units.sites)
