"""The figure of docs/howto/probe.md, from the training logs of the shipped seeds: ``python docs/figures/probe.py``."""

from __future__ import annotations

import json
from pathlib import Path

from harness_plugins.subjects.tiny_retrieval.subject import WEIGHTS

from harness.board.figures.style import figure

PICTURE = Path(__file__).parents[1] / "probe.png"
GAPS = {"in": ("gaps in distribution", "-"), "out": ("gaps out of distribution", "--")}


def draw(path: Path) -> None:
    """Accuracy over training, a panel for each number of heads in a layer and a colour for each seed."""
    folders = sorted(WEIGHTS.glob("*-heads"), reverse=True)
    drawn = figure(7.6, 3.0)
    for axes, folder in zip(drawn.subplots(1, len(folders), sharey=True), folders, strict=True):
        log = json.loads((folder / "training_log.json").read_text(encoding="utf-8"))
        for seed, rows in enumerate(log["seeds"]):
            for gap, (name, line) in GAPS.items():
                axes.plot(
                    [row["step"] for row in rows],
                    [row[gap] for row in rows],
                    line,
                    color=f"C{seed}",
                    linewidth=1.2,
                    label=name if seed == 0 else None,
                )
        axes.set(title=f"{log['recipe']['heads']} heads in a layer, {len(log['seeds'])} seeds", xlabel="training step")
    drawn.axes[0].set_ylabel("accuracy")
    drawn.axes[0].legend(fontsize=8)
    drawn.savefig(path, dpi=120)


if __name__ == "__main__":
    draw(PICTURE)
