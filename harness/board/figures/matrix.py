"""The heat map of a cross-model matrix: what every group does to every model."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from harness.board.compare_cells import metric_label
from harness.board.figures.style import NewFigure, figure
from harness.board.matrix import Matrix


def heat_map(matrix: Matrix, new: NewFigure = figure) -> Figure:
    """A panel per metric: models [rows] by groups [columns], coloured by damage; own groups are outlined.

    Numbers: the metric after ablation, and the units shared with the model's own group. The column before the first is
    the metric without ablation.
    """
    metrics, names, models = list(matrix.entries[0].changes), matrix.names, matrix.models
    drawn = new(2.6 + 1.05 * (len(names) + 1), (1.3 + 0.5 * len(models)) * len(metrics) + 0.8)
    panels = drawn.subplots(len(metrics), squeeze=False)[:, 0]
    for place, (axes, metric) in enumerate(zip(panels, metrics, strict=True)):
        rows = [[matrix.entry(model, name) for name in names] for model in range(len(models))]
        harm = np.array([[0.0, *(entry.changes[metric].harm for entry in row)] for row in rows])
        top = float(np.abs(harm).max()) or 1.0
        image = axes.imshow(harm, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest", aspect="auto")
        drawn.colorbar(image, ax=axes, label="damage")
        for y, row in enumerate(rows):
            axes.text(0, y, f"{row[0].changes[metric].baseline:.2f}", ha="center", va="center", fontsize=8)
            for x, entry in enumerate(row, 1):
                change = entry.changes[metric]
                ink = "white" if abs(change.harm) > 0.6 * top else "black"
                shared = "" if entry.owner is None else f"\n({len(entry.units) if entry.own else entry.shared})"
                axes.text(x, y, f"{change.ablated:.2f}{shared}", ha="center", va="center", fontsize=8, color=ink)
                if entry.own:
                    axes.add_patch(
                        Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=2, clip_on=False)
                    )
        axes.set_yticks(range(len(models)), [model.name for model in models], fontsize=8)
        last = place == len(metrics) - 1
        heads = ["no ablation", *(name.replace(" of ", " of\n") for name in names)] if last else []
        axes.set_xticks(range(len(names) + 1) if last else [], heads, fontsize=8, rotation=30 if last else 0)
        axes.set_title(f"{metric_label(metric, rows[0][0].changes[metric].damage)} after ablation", fontsize=9)
    return drawn
