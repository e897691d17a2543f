"""A grid of 81 cells with and without what they share: conditions, seconds, memory, and the cost per cell as it grows.

``python benchmarks/grid.py`` prints the tables; ``python benchmarks/grid.py smoke`` does so on few and short examples.
Every run is a process of its own, as a user starts it; a grid's workspace is new, so that its first run is cold.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path

from command import Run, harness

from harness.seeds import rng_for
from harness.sizes import write_size

GRID = ["experiment=grid", "tracking=none"]
SMOKE = ["batch.n=48", "batch.length=48", "controls.n=19"]
ONE_SIGNAL, ZERO = "signal=max_attention", "intervention=zero"
SIZES = {
    9: [ONE_SIGNAL, ZERO],
    27: [ZERO],
    81: [],
    243: ["binarizer=median,mean,quantile"],
}
SAMPLE = 6  # cells run one by one; the time of all 81 is extrapolated from them


def cost(run: Run) -> tuple[int, int]:
    """Conditions that the cells of a sweep asked for, and those that were computed."""
    costs = [cell["cost"] for cell in run.answer["cells"]]
    return sum(of.get("conditions", 0) for of in costs), sum(of.get("computed", 0) for of in costs)


def one_by_one(workspace: Path, words: list[str]) -> list[Run]:
    """A random sample of the grid's cells, each in a process of its own that shares nothing."""
    plan = harness("plan", *GRID, f"workspace={workspace}", *words).answer
    chosen = rng_for(0, "cells run one by one").permutation(len(plan))[:SAMPLE]
    cells = [Path(workspace, "records", plan[i]["cell"], "record.json") for i in sorted(chosen)]
    commands = [json.loads(path.read_text())["config"] for path in cells]
    stages = ("signal", "affinity", "partitioner", "intervention")
    picked = [[f"{stage}={config[stage]['name']}" for stage in stages] for config in commands]
    return [
        harness("run", *GRID, *words, *pick, "cache=false", "give_up=null", f"workspace={workspace / 'alone' / str(i)}")
        for i, pick in enumerate(picked)
    ]


def run(smoke: bool = False) -> str:
    """The tables, as Markdown."""
    words = SMOKE if smoke else []
    rows, lines = [], []
    for n, narrowed in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            told = [*GRID, f"workspace={folder}", *words, *narrowed]
            cold, warm = harness("sweep", *told), harness("sweep", *told, "--force")
            asked, computed = cost(cold)
            tested = sum(bool(cell["closure"]) for cell in cold.answer["cells"])
            kept = sum(file.stat().st_size for file in Path(folder, "cache").rglob("*") if file.is_file())
            rows.append((n, tested, asked, computed, cold.seconds, warm.seconds, cold.memory, kept))
            if n == 81:
                alone = one_by_one(Path(folder), words)
                lines = _against(alone, n, computed, cold, warm)
    exponent = math.log(rows[-1][4] / rows[0][4]) / math.log(rows[-1][0] / rows[0][0])
    table = [
        "| cells | tested | conditions asked | computed | cold, s | s/cell | warm, s | s/cell | peak memory | cache |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    table += [
        f"| {n} | {tested} | {asked} | {computed} ({computed / asked:.0%}) | {cold:.1f} | {cold / n:.2f} "
        f"| {warm:.1f} | {warm / n:.2f} | {write_size(memory)} | {write_size(kept)} |"
        for n, tested, asked, computed, cold, warm, memory, kept in rows
    ]
    return "\n".join(
        [*lines, "", *table, "", f"Cold seconds grow with the number of cells to the power {exponent:.2f}."]
    )


def _against(alone: list[Run], n: int, computed: int, cold: Run, warm: Run) -> list[str]:
    """The grid beside its cells run one by one, each with all its controls: ``n`` times the mean of the sample."""
    asked = round(n * sum(run.answer["cost"].get("conditions", 0) for run in alone) / len(alone))
    seconds = n * sum(run.seconds for run in alone) / len(alone)
    work = n * sum(sum(run.answer["seconds"].values()) for run in alone) / len(alone)
    return [
        f"{n} cells; one by one, nothing shared and no control left out, is extrapolated from {len(alone)} of them, "
        "drawn at random.",
        "",
        "| | conditions | seconds | ratio |",
        "|---|--:|--:|--:|",
        f"| one by one, a process each | {asked} | {seconds:.0f} | 1 |",
        f"| one by one, without starting up | {asked} | {work:.0f} | {seconds / work:.1f} |",
        f"| sweep, cold | {computed} ({computed / asked:.0%}) | {cold.seconds:.1f} | {seconds / cold.seconds:.1f} |",
        f"| sweep, warm | 0 | {warm.seconds:.1f} | {seconds / warm.seconds:.1f} |",
    ]


if __name__ == "__main__":
    print(run(smoke="smoke" in sys.argv[1:]))
