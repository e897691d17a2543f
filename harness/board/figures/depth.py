"""The routing map of every arm beside its effect map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from harness.board.depth import Arm, DepthRouting
from harness.board.figures.style import NewFigure, figure, style
from harness.closure.verdict import spaced

NONE = 0.92
"""Grey of places without a unit."""
LEAST = 0.05
"""The least damage at which the colours of an effect map end."""


def save(found: DepthRouting, path: Path) -> None:
    """:func:`drawn` as a picture on white."""
    with style():
        drawn(found).savefig(path, format="png", dpi=130, facecolor="white", metadata={"Software": None})


def drawn(found: DepthRouting, new: NewFigure = figure) -> Figure:
    """A row for each arm: mass of every unit at its sublayer and source, and damage by removing it; means over models.

    Each effect map ends at the largest damage of its arm.
    """
    rows = [len(_readers(arm)) for arm in found.arms]
    made = new(8.6, sum(0.27 * count + 0.75 for count in rows) + 0.3)
    panels = made.subplots(len(rows), 2, squeeze=False, height_ratios=rows)
    for (left, right), arm in zip(panels, found.arms, strict=True):
        for axes, values, colours, name in (
            (left, [model.mass for model in arm.models], "Blues", "mass"),
            (right, [model.effect for model in arm.models], "Reds", f"damage ({spaced(found.metric)})"),
        ):
            grid = _grid(arm, np.mean(values, axis=0))
            top = 1.0 if axes is left else max(float(np.nanmax(grid)), LEAST)
            axes.imshow(np.full((*grid.shape, 3), NONE), aspect="auto")
            image = axes.imshow(grid, cmap=colours, vmin=0, vmax=top, aspect="auto", interpolation="nearest")
            made.colorbar(image, ax=axes, pad=0.02)
            for (row, column), value in np.ndenumerate(grid):
                if not np.isnan(value):
                    ink = "white" if value > 0.6 * top else "black"
                    axes.text(
                        column, row, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=7, color=ink
                    )
            axes.set_title(f"{arm.name}: {name}", fontsize=9, loc="left")
            axes.set_xticks(range(grid.shape[1]), _sources(arm), fontsize=8)
            axes.set_yticks(range(grid.shape[0]), _readers(arm), fontsize=8)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
    return made


def _grid(arm: Arm, values: Float[np.ndarray, " units"]) -> Float[np.ndarray, "readers sources"]:
    of, readers, sources = arm.models[0].of, _readers(arm), _sources(arm)
    grid = np.full((len(readers), len(sources)), np.nan)
    for unit, value in enumerate(values):
        grid[readers.index(of.readers[unit]), sources.index(of.sources[unit])] = value
    return grid


def _readers(arm: Arm) -> list[str]:
    return list(dict.fromkeys(arm.models[0].of.readers))


def _sources(arm: Arm) -> list[str]:
    """The embedding, blocks from early to late, and the newest source."""
    widest = max(_readers(arm), key=arm.models[0].of.readers.count)
    of = arm.models[0].of
    return [source for source, reader in zip(of.sources, of.readers, strict=True) if reader == widest]
