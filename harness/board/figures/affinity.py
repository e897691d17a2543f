"""The picture of a cell: its affinity matrix, units ordered by group, the candidate outlined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.board.figures.style import NewFigure, figure
from harness.data.grouping import Affinity, Partition

CELLS = 600
"""Maximum number of rows and columns of the picture, which has no pixels for more."""


def draw_affinity(affinity: Affinity, partition: Partition, candidate: tuple[int, ...], path: Path) -> None:
    """Write :func:`affinity_figure` as a PNG."""
    affinity_figure(affinity, partition, candidate).savefig(path, dpi=120)


def affinity_figure(
    affinity: Affinity, partition: Partition, candidate: tuple[int, ...], new: NewFigure = figure
) -> Figure:
    """Affinity [units, units], groups in order of size (the candidate's first), the candidate outlined.

    Colours saturate at the 99th percentile of the off-diagonal entries, so that one outlying pair does not wash out all
    others. With more than ``CELLS`` units, neighbours in that order share a row and a column that show their mean.
    """
    groups = sorted(partition.groups(), key=lambda group: (tuple(group) != candidate, -len(group), group))
    order = np.array([unit for group in groups for unit in group])
    across = -(-len(order) // CELLS)  # units per cell
    matrix = _shrunk(affinity, order, across)
    off_diagonal = np.abs(matrix[~np.eye(len(matrix), dtype=bool)])
    top = float(np.percentile(off_diagonal, 99)) if off_diagonal.size else 0.0
    low = -(top or 1.0) if (matrix < 0).any() else 0.0

    mean = f", mean of {across} x {across}" if across > 1 else ""
    drawn = new(7.2, 6.4)
    axes = drawn.add_subplot()
    image = axes.imshow(matrix, cmap="RdBu_r" if low else "magma_r", vmin=low, vmax=top or 1.0, interpolation="nearest")
    drawn.colorbar(image, ax=axes, label=f"affinity{mean} (colour saturates at the 99th percentile)", shrink=0.85)
    if across == 1:  # else the lines would cover the groups
        for edge in np.cumsum([len(group) for group in groups])[:-1]:
            axes.axhline(edge - 0.5, color="0.35", linewidth=0.6)
            axes.axvline(edge - 0.5, color="0.35", linewidth=0.6)
    if groups[:1] == [candidate]:
        n = len(candidate) / across
        axes.add_patch(Rectangle((-0.5, -0.5), n, n, fill=False, edgecolor="tab:green", linewidth=2.5, clip_on=False))
    labels = affinity.units.labels
    if len(labels) <= 64:
        axes.set_xticks(range(len(order)), [labels[unit] for unit in order], rotation=90, fontsize=6)
        axes.set_yticks(range(len(order)), [labels[unit] for unit in order], fontsize=6)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    marked = f", candidate of {len(candidate)} outlined" if groups[:1] == [candidate] else ""
    axes.set_title(f"{len(labels)} units in {len(groups)} groups{marked}", fontsize=10)
    return drawn


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
