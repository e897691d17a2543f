"""The table of docs/scale.md: ``python docs/figures/scale.py`` prints it. No GPU and no model is needed."""

from __future__ import annotations

from harness.cells.cell import Cell
from harness.cli.forecast import write_seconds
from harness.forecast.estimate import budget_of, estimate, shapes_of_cell, work_of
from harness.forecast.machine import GPUS, REFERENCE, Machine
from harness.registry.config import registry, resolve
from harness.util.bytesize import write_size

MODELS = {
    "SmolLM2 135M": "HuggingFaceTB/SmolLM2-135M",
    "Llama 3.2 1B": "meta-llama/Llama-3.2-1B",
    "OLMoE 1B-7B": "allenai/OLMoE-1B-7B-0924",
    "Llama 2 7B": "meta-llama/Llama-2-7b-hf",
    "Llama 3.1 70B": "meta-llama/Llama-3.1-70B",
}


CORE = Machine("one core", 16 * 10**9, REFERENCE)


def cell(path: str, *more: str) -> Cell:
    """The default cell on a model, in half precision."""
    methods = registry()
    words = ["subject=hf", f"subject.path={path}", "subject.dtype=bfloat16", *more]
    return Cell.of(resolve(words, methods), methods)


def rows() -> list[tuple[str, ...]]:
    """Model, 10^15 FLOPs of its closure test, weights; time with all controls on a core, at the query only, on GPUs."""
    lines = []
    for name, path in MODELS.items():
        everywhere, at_query = cell(path), cell(path, "intervention.positions=query")
        shapes = shapes_of_cell(everywhere)
        assert shapes is not None
        _, work = work_of(everywhere, shapes, budget_of(everywhere, shapes, CORE))[-1]
        weights = shapes.parameters * 2
        held = [gpu.holding(weights) for gpu in GPUS]
        spent = [f"{_most(everywhere, gpu)}{f' on {gpu.count}' if gpu.count > 1 else ''}" for gpu in held]
        alone = _most(everywhere, CORE), _most(at_query, CORE)
        lines.append((name, _rounded(work.flops / 1e15), write_size(weights), *alone, *spent))
    return lines


def _rounded(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{round(value, -1):.0f}"


def _most(planned: Cell, machine: Machine) -> str:
    seconds = estimate(planned, machine).seconds
    assert seconds is not None
    return write_seconds(seconds.most)


def table() -> str:
    """The table, as Markdown."""
    head = ("model", "PFLOP", "weights", "one core", "at the query only", *(gpu.name for gpu in GPUS))
    lines = [head, ("---", *["--:"] * (len(head) - 1)), *rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
