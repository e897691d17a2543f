"""A grid of 81 cells with and without shared results: conditions, seconds, memory, and the cost per cell by grid size.

``python benchmarks/grid.py`` prints the tables; ``python benchmarks/grid.py smoke`` does so on few and short examples.
Every run is a process of its own, as a user starts it; a grid's workspace is new, so that its first run is cold.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from closure import TURNS, Task, measured, scripts
from command import Run, harness

from harness.registry.config import registry
from harness.util.bytesize import write_size
from harness.util.seeds import rng_for

GRID = ["experiment=grid", "tracking=none"]
SMOKE = ["batch.n=48", "batch.length=48", "controls.n=19"]
ONE_SIGNAL, ZERO = "signal=max_attention", "intervention=zero"
SIZES = {
    9: [ONE_SIGNAL, ZERO],
    27: [ZERO],
    81: [],
    243: ["binarizer=median,mean,quantile"],
}
HEADS, CONDITIONS = 8, 10  # size and number of the groups that are timed by hooks
TESTED, SKIPPED = 4, 2  # number of cells run one by one, with a candidate and without


def cost(run: Run) -> tuple[int, int]:
    """Conditions that the cells of a sweep needed, and those that were computed."""
    costs = [cell["cost"] for cell in run.answer["cells"]]
    return sum(cost.get("conditions", 0) for cost in costs), sum(cost.get("computed", 0) for cost in costs)


def one_by_one(cold: Run, workspace: Path, words: list[str]) -> list[tuple[int, list[Run]]]:
    """Single cells, each in a process of its own, with all controls and nothing shared.

    They are a random sample of the cells that had a candidate, and of those that had none; each sample comes with the
    number of cells that it represents.
    """
    stages = ("signal", "affinity", "partitioner", "intervention")
    samples = []
    for tested, sample in ((True, TESTED), (False, SKIPPED)):
        cells = [cell for cell in cold.answer["cells"] if bool(cell["closure"]) is tested]
        runs = []
        for i in rng_for(0, "cells run one by one").permutation(len(cells))[:sample].tolist():
            picked = [f"{stage}={cells[i]['config'][stage]['name']}" for stage in stages]
            alone = f"workspace={workspace / 'alone' / cells[i]['cell']['id']}"
            runs.append(harness("run", *GRID, *words, *picked, alone, "cache=false", "futility=null"))
        samples.append((len(cells), runs))
    return samples


def by_hooks(smoke: bool) -> float:
    """Seconds per condition of the grid's closure tests in a script, in a process of its own."""
    command = [sys.executable, __file__, "hooks", *(["smoke"] if smoke else [])]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def hooks(smoke: bool) -> float:
    """Seconds per condition, one hooked forward pass with full logits each."""
    methods = registry()
    subject = methods.get("subject", "tiny").build({})()
    size = {"n": 24, "length": 48} if smoke else {"n": 64}
    batch = methods.get("batch", "synthetic_induction").build(size)(subject.reads)
    rng = rng_for(0, "conditions of scripts")
    groups = [tuple(sorted(rng.permutation(len(subject.units))[:HEADS].tolist())) for _ in range(CONDITIONS)]
    task = Task("grid", subject, batch, groups, CONDITIONS)
    return min(measured(lambda: scripts("eager")(task, CONDITIONS)) for _ in range(TURNS)) / CONDITIONS


def run(smoke: bool = False) -> str:
    """The tables, as Markdown."""
    words = SMOKE if smoke else []
    rows, lines = [], []
    for n, narrowed in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [*GRID, f"workspace={folder}", *words, *narrowed]
            cold, warm = harness("sweep", *command), harness("sweep", *command, "--force")
            needed, computed = cost(cold)
            tested = sum(bool(cell["closure"]) for cell in cold.answer["cells"])
            cache_size = sum(file.stat().st_size for file in Path(folder, "cache").rglob("*") if file.is_file())
            rows.append((n, tested, needed, computed, cold.seconds, warm.seconds, cold.memory, cache_size))
            if n == 81:
                lines = _against(one_by_one(cold, Path(folder), words), by_hooks(smoke), computed, cold, warm)
    exponent = math.log(rows[-1][4] / rows[0][4]) / math.log(rows[-1][0] / rows[0][0])
    table = [
        "| cells | tested | conditions needed | computed | cold, s | s/cell | warm, s | s/cell | peak memory | cache |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    table += [
        f"| {n} | {tested} | {needed} | {computed} ({computed / needed:.0%}) | {cold:.1f} | {cold / n:.2f} "
        f"| {warm:.1f} | {warm / n:.2f} | {write_size(memory)} | {write_size(cache_size)} |"
        for n, tested, needed, computed, cold, warm, memory, cache_size in rows
    ]
    return "\n".join(
        [*lines, "", *table, "", f"Cold seconds grow with the number of cells to the power {exponent:.2f}."]
    )


def _against(alone: list[tuple[int, list[Run]]], hooked: float, computed: int, cold: Run, warm: Run) -> list[str]:
    """The grid compared with its cells one by one: the mean of each sample times the number of cells it represents."""

    def of_all(number: Callable[[Run], float]) -> float:
        return sum(n * sum(map(number, runs)) / len(runs) for n, runs in alone if runs)

    def conditions(run: Run) -> int:
        return int(run.answer["cost"].get("conditions", 0))

    needed = round(of_all(conditions))
    one_by_one = of_all(lambda run: run.seconds)
    by_scripts = of_all(lambda run: run.seconds - run.answer["seconds"].get("closure", 0) + hooked * conditions(run))
    sampled = " and ".join(f"{len(runs)} of {n}" for n, runs in alone)
    rows = [
        ("one by one, a hooked forward pass per condition", str(needed), by_scripts),
        ("one by one, by the harness", str(needed), one_by_one),
        ("sweep, cold", f"{computed} ({computed / needed:.0%})", cold.seconds),
        ("sweep, warm", "0", warm.seconds),
    ]
    return [
        "Cells one by one (each in a process of its own, with all controls, nothing shared) are extrapolated from "
        f"{sampled}, drawn at random (with a candidate, and without). A script with hooks takes {hooked:.3f} s per "
        "condition, measured in a process of its own; for everything else, the seconds are those of the harness.",
        "",
        "| 81 cells | conditions | seconds | faster than scripts | than the harness one by one |",
        "|---|--:|--:|--:|--:|",
        *(
            f"| {way} | {n} | {spent:.0f} | {by_scripts / spent:.1f} | {one_by_one / spent:.1f} |"
            for way, n, spent in rows
        ),
    ]


if __name__ == "__main__":
    words = sys.argv[1:]
    print((hooks if "hooks" in words else run)(smoke="smoke" in words))
