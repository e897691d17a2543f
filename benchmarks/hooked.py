"""Units of any module: HookedSubject, compared with hooks written by hand, one forward pass per condition.

``python benchmarks/hooked.py`` prints the table (a few minutes). Both sides evaluate the same groups on the same
examples with one thread, take turns in one process, and give the same numbers; the median of processor time counts, so
that other work on the machine has little effect. The decoder has random weights and a small vocabulary, so that the
logits that the hooks compute at every position cost next to nothing. Where groups lie in the first layer, conditions
share nothing, and the harness can only be as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from harness.data.batch import Width
from harness.data.sampling import Group
from harness.data.tokens import Tokens
from harness.data.vectors import Vectors
from harness.engine.hooked import HookedSubject
from harness.engine.sites import Columns, Features, Site, Whole
from harness.engine.subject import vocabulary_of
from harness.registry.config import registry
from harness.util.seeds import rng_for

TURNS = 3
LAYERS, NEURONS, KV_GROUPS = 12, 512, 4


@dataclass(frozen=True)
class Task:
    """A subject, examples, and the groups to be ablated."""

    name: str
    subject: HookedSubject
    batch: Tokens | Vectors
    groups: Sequence[Group]


def decoder() -> LlamaForCausalLM:
    """Twelve layers, 256 wide, random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=256, num_hidden_layers=LAYERS, num_attention_heads=8, head_dim=32,
        num_key_value_heads=KV_GROUPS, intermediate_size=NEURONS, max_position_embeddings=128, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def sites_of(model: LlamaForCausalLM, family: str) -> list[Site]:
    """MLP neurons, MLP layers or KV groups of every layer."""
    sites: list[Site] = []
    for i, layer in enumerate(model.model.layers):
        if family == "neurons":
            sites.append(Columns(f"L{i}", i, [f"L{i}N{j}" for j in range(NEURONS)], layer.mlp.down_proj))
        elif family == "MLP layers":
            sites.append(Whole(f"L{i}", i, [f"L{i}M"], layer.mlp))
        else:
            labels = [f"L{i}K{j}" for j in range(KV_GROUPS)]
            sites.append(Columns(f"L{i}", i, labels, layer.self_attn.o_proj))
    return sites


def groups_of(subject: HookedSubject, n: int, size: int, depths: Sequence[int]) -> list[Group]:
    """Random groups of units at these depths."""
    pool = np.flatnonzero(np.isin(subject.units.depth_of, depths))
    rng = rng_for(0, f"{subject.label} {list(depths)}")
    return [tuple(sorted(rng.choice(pool, size, replace=False).tolist())) for _ in range(n)]


def tasks() -> list[Task]:
    """Three families of a decoder, and classifiers of vectors of two sizes."""
    model, rng = decoder(), np.random.default_rng(0)
    batch = Tokens("random", rng.integers(0, 1024, (8, 32)), rng.integers(24, 32, 8), rng.integers(0, 1024, 8),
                   {}, "next_token")  # fmt: skip
    found = []
    for family, size in (("neurons", 6), ("MLP layers", 2), ("KV groups", 3)):
        subject = HookedSubject(model, sites_of(model, family), vocabulary_of(model), f"decoder, {family}")
        for where, depths in (("all layers", range(LAYERS)), ("last third", range(8, LAYERS)), ("first layer", [0])):
            few = min(size, int(np.isin(subject.units.depth_of, depths).sum()))
            groups = groups_of(subject, 1 if family == "MLP layers" and few == 1 else 16, few, depths)
            found.append(Task(f"{subject.label}, {len(groups)} groups of {few} in {where}", subject, batch, groups))
    for widths, examples in (((784, 512, 512, 256, 10), 256), ((20, 16, 16, 4), 64)):
        subject, n = classifier(widths), 1000 if widths[0] < 100 else 200
        vectors = Vectors("random", rng.normal(size=(examples, widths[0])).astype(np.float32),
                          rng.integers(0, widths[-1], examples), "class")  # fmt: skip
        layers = len(widths) - 2
        for where, depths in (("all layers", range(layers)), ("last layer", [layers - 1]), ("first layer", [0])):
            groups = groups_of(subject, n, 3, depths)
            found.append(Task(f"{subject.label}, {n} groups of 3 in {where}", subject, vectors, groups))
    return found


def classifier(widths: Sequence[int]) -> HookedSubject:
    """A perceptron; its units are the neurons of its hidden layers."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).eval()
    sites = [
        Features(f"L{i}", i, [f"L{i}N{j}" for j in range(width)], model[2 * i + 1])
        for i, width in enumerate(widths[1:-1])
    ]
    return HookedSubject(model, sites, Width(widths[0], widths[-1]), f"perceptron {'-'.join(map(str, widths))}")


def ours(task: Task) -> np.ndarray:
    """The harness: target logits of the baseline and under every condition."""
    zero = registry().get("intervention", "zero").build({})
    metric = registry().get("metric", "target_logit").build({})
    return task.subject.evaluate(task.batch, [(), *task.groups], zero, [metric])[0]


def by_hand(task: Task) -> np.ndarray:
    """One forward pass for the baseline and per condition, with hooks that set the ablated units to zero."""
    model, batch = task.subject.model, task.batch
    content = torch.from_numpy(batch.tokens if isinstance(batch, Tokens) else batch.inputs)
    query, target = torch.from_numpy(batch.query), torch.from_numpy(np.asarray(batch.target))
    sites = {site.name: site for site in task.subject.sites}
    rows, found = torch.arange(len(batch)), []
    with torch.inference_mode():
        for group in [(), *task.groups]:
            places: dict[str, list[int]] = {}
            for unit in group:
                site = task.subject.units.units[unit].site
                places.setdefault(site, []).append(sites[site].labels.index(task.subject.units.labels[unit]))
            with ExitStack() as stack:
                for name, units in places.items():
                    stack.callback(_hook(sites[name], units).remove)
                outputs = model(content)
            logits = outputs.logits[rows, query] if isinstance(batch, Tokens) else outputs
            found.append(logits.gather(1, target[:, None])[:, 0].numpy())
    return np.stack(found)


def _hook(site: Site, units: list[int]) -> Any:
    width = {"Columns": len(site.labels)}.get(type(site).__name__, 1)

    def zero_input(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        blocks = args[0].clone().unflatten(-1, (width, -1))
        blocks[..., units, :] = 0
        return (blocks.flatten(-2),)

    def zero_output(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if isinstance(site, Whole):
            return torch.zeros_like(output)
        output = output.clone()
        output[..., units] = 0
        return output

    if isinstance(site, Columns):
        return site.module.register_forward_pre_hook(zero_input)
    return site.module.register_forward_hook(zero_output)


def measured(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def row(task: Task) -> str:
    """One row of the table."""
    difference = np.abs(ours(task) - by_hand(task)).max()
    turns = np.array([[measured(lambda: ours(task)), measured(lambda: by_hand(task))] for _ in range(TURNS)])
    mine, theirs = np.median(turns, axis=0)
    ratios = turns[:, 1] / turns[:, 0]
    return (
        f"| {task.name} | {mine:.3f} | {theirs:.3f} | {np.median(ratios):.2f} | {ratios.min():.2f} .. "
        f"{ratios.max():.2f} | {difference:.0e} |"
    )


def run() -> str:
    """The table, in Markdown."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    lines = [
        f"Zero ablation with one thread; a decoder of {LAYERS} layers x 256 on 8 sequences of 32 tokens, and "
        "perceptrons on 256 and 64 vectors. Seconds of processor time, median of "
        f"{TURNS} turns. Both sides evaluate the baseline as well. Groups in the first "
        "layer share nothing with each other.",
        "",
        f"| task | ours | one hooked forward each | times ours | of {TURNS} turns | largest difference |",
        "|---|--:|--:|--:|--:|--:|",
        *(row(task) for task in tasks()),
    ]
    torch.set_num_threads(before)
    return "\n".join(lines)


if __name__ == "__main__":
    print(run())
