"""The picture of a cell: its affinity matrix, units ordered by group, the candidate outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.board.figures.style import NewFigure, figure
from harness.data.grouping import Affinity, Partition

NAMED_UP_TO = 32
"""Up to this many units are named; of more, the groups are. It is also how many names fit on an axis."""
CELLS = 600
"""Maximum number of rows and columns of the picture, which has no pixels for more."""


def draw_affinity(affinity: Affinity, partition: Partition, candidate: tuple[int, ...], path: Path) -> None:
    """Write :func:`affinity_figure` as a PNG."""
    affinity_figure(affinity, partition, candidate).savefig(path, dpi=120)


def affinity_figure(
    affinity: Affinity,
    partition: Partition,
    candidate: tuple[int, ...],
    what: str = "affinity",
    limit: float | None = None,
    new: NewFigure = figure,
) -> Figure:
    """Affinity [units, units], groups in order of size (the candidate's first), the candidate outlined.

    Colours saturate at the 99th percentile of the off-diagonal entries, so that one outlying pair does not wash out all
    others; or at ``limit``. With more than ``CELLS`` units, neighbours in that order share a row and a column that show
    their mean.
    """
    groups = sorted(partition.groups(), key=lambda group: (tuple(group) != candidate, -len(group), group))
    order = np.array([unit for group in groups for unit in group])
    across = -(-len(order) // CELLS)  # units per cell
    matrix = _shrunk(affinity, order, across)
    off_diagonal = np.abs(matrix[~np.eye(len(matrix), dtype=bool)])
    top = limit or (float(np.percentile(off_diagonal, 99)) if off_diagonal.size else 0.0)
    low = -(top or 1.0) if (matrix < 0).any() else 0.0

    mean = f", mean of {across} x {across}" if across > 1 else ""
    drawn = new(7.2, 6.4)
    axes = drawn.add_subplot()
    image = axes.imshow(matrix, cmap="RdBu_r" if low else "magma_r", vmin=low, vmax=top or 1.0, interpolation="nearest")
    saturation = "" if limit else " (colour saturates at the 99th percentile)"
    drawn.colorbar(image, ax=axes, label=f"{what}{mean}{saturation}", shrink=0.85)
    if across == 1:  # else the lines would cover the groups
        for edge in np.cumsum([len(group) for group in groups])[:-1]:
            axes.axhline(edge - 0.5, color="0.35", linewidth=0.6)
            axes.axvline(edge - 0.5, color="0.35", linewidth=0.6)
    if groups[:1] == [candidate]:
        n = len(candidate) / across
        axes.add_patch(Rectangle((-0.5, -0.5), n, n, fill=False, edgecolor="tab:green", linewidth=2.5, clip_on=False))
    labels = affinity.units.labels
    if len(order) <= NAMED_UP_TO:
        places, names = [*map(float, range(len(order)))], [labels[unit] for unit in order]
    else:
        places, names = _named_groups(partition, groups, across)
    axes.set_xticks(places, names, rotation=90, fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    marked = f", candidate of {len(candidate)} outlined" if groups[:1] == [candidate] else ""
    axes.set_title(f"{len(labels)} units in {len(groups)} groups{marked}", fontsize=10)
    return drawn


def _named_groups(
    partition: Partition, groups: Sequence[tuple[int, ...]], across: int
) -> tuple[list[float], list[str]]:
    """The middle of every group that is wide enough for a name, and its number."""
    sizes = [len(group) / across for group in groups]
    room = sum(sizes) / NAMED_UP_TO
    middles = np.cumsum(sizes) - np.array(sizes) / 2 - 0.5
    named = [i for i, size in enumerate(sizes) if size >= room]
    return [middles[i] for i in named], [f"group {partition.labels[groups[i][0]]}" for i in named]


def _shrunk(affinity: Affinity, order: Int[np.ndarray, " shown"], across: int) -> Float[np.ndarray, "cells cells"]:
    """Units in this order, each cell the mean of ``across`` by ``across`` entries (fewer at the far edges)."""
    cell = np.full(len(affinity.units), -1)
    cell[order] = np.arange(len(order)) // across
    pairs = scipy.sparse.coo_array(affinity.matrix)
    row, column = cell[pairs.row], cell[pairs.col]
    shown = (row >= 0) & (column >= 0)
    width = np.bincount(cell[order])
    sums = scipy.sparse.coo_array((pairs.data[shown], (row[shown], column[shown])), shape=(len(width), len(width)))
    means: Float[np.ndarray, "cells cells"] = sums.toarray() / np.outer(width, width)
    return means
