r"""Trains the models of `implanted`: on every task, only the heads of its circuit are needed.

``python -m harness_plugins.subjects.implanted.train [MODEL ...] --out DIR`` trains, verifies, and writes what passes:
three minutes per model on one core.

.. math:: L = \mathrm{KL}(p_S \,\|\, p) + 6 a(t) \, \mathrm{KL}(\text{key} \,\|\, A_r)
          + \mathrm{KL}(A_r \,\|\, A_d) + \tfrac12 \mathrm{KL}(\text{key}' \,\|\, A_b)
          + \tfrac1{10} (\ln n_{d,b} / n_r)^2

p: the answer while some heads are replaced; :math:`p_S`: what it should be, given which readers of the circuit still
work (uniform over the answers that agree with what they carry). A: attention at the query of readers r, decoys d and
bystanders b; *key*: uniform over the tokens of the key that is looked up. n: the norm of what a head writes, so that
loudness does not tell readers from others. a(t) falls to 0.

- First, all heads outside the circuit are off, and attention is taught. Without either, chains do not form.
- Then, in a share of examples that grows, random heads are replaced: in 15 % of them none; in 50 % heads outside the
  circuit, by zero, their mean, or their value in another example; in 35 % some of the circuit (by zero or mean), and in
  half of those others too.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor

from harness import rng_for

from .circuits import CIRCUITS, HEADS, KEYS, LAYERS, MODELS, SEEDS, TASKS, Layout, Model, Task, layout, unit_name
from .gate import VERDICTS, Figures, faults_of, measured, rounded
from .model import Decoder, config
from .subject import in_memory
from .task import QUERIES, examples, first_answer, known, sequences, specified, tokens_of_key

ROWS, STEPS, RATE, WARM_UP, EXAMPLES = 16, 1800, 3e-3, 100, 160
"""Examples of a task in a step, steps, the highest learning rate, steps until it is reached, examples to verify on."""
RAMP = 0.25, 0.40
"""Between these shares of the training, heads outside begin to be replaced at random instead of being off."""
TAUGHT = 0.6
"""The share of the training after which attention of readers is no longer taught."""
SMOOTHING = 0.02
"""The share of the answer that is spread over all answers: so the logit difference is bounded, and can be the same
whatever is replaced."""
NOTHING = np.zeros(ROWS, np.int64)
"""No bit of the answer, for all examples of a task."""
ZERO, MEAN, OTHER = range(3)


@dataclass(frozen=True)
class Step:
    """The examples of a step, task by task, and what is replaced in each."""

    tokens: Int[Tensor, "rows places"]
    answer: Float[Tensor, "rows vocabulary"]
    keep: Bool[Tensor, "rows layers heads"]
    mode: Int[Tensor, "rows layers heads"]
    donor: Int[Tensor, " rows"]
    key: dict[Task, Float[Tensor, "lookups rows places"]]
    """Where the tokens of each key are: uniform over them."""
    query: Int[np.ndarray, " rows"]
    whole: dict[Task, Bool[Tensor, " rows"]]
    """Examples whose circuit is whole."""
    mixed: bool
    """Whether heads are replaced by anything but zero."""

    def replace(self, depth: int, handed: Float[Tensor, "rows places heads width"]) -> Tensor:
        """What heads hand on instead."""
        if not self.mixed:
            return handed * self.keep[:, depth, None, :, None]
        mean = handed.reshape(len(TASKS), ROWS, *handed.shape[1:]).mean(dim=(1, 2), keepdim=True)
        keep, mode = self.keep[:, depth, None, :, None], self.mode[:, depth, None, :, None]
        instead = (mode == MEAN) * mean.expand(-1, ROWS, -1, -1, -1).flatten(0, 1) + (mode == OTHER) * handed[
            self.donor
        ]
        return torch.where(keep, handed, instead)


def step_of(model: Model, heads: Layout, mixed: float, rng: np.random.Generator) -> Step:
    """Random examples. ``mixed``: the share of them in which heads are replaced at random."""
    tokens, answers, keeps, modes, key, whole = [], [], [], [], {}, {}
    readers = np.zeros((LAYERS, HEADS), bool)
    readers[tuple(np.array([head for task in TASKS for head in heads.circuit(task)]).T)] = True
    for task in TASKS:
        circuit = CIRCUITS[model][task]
        made = sequences(model, task, ROWS, rng)
        places = tuple(np.array([heads.readers[task][reader] for reader in circuit.readers]).T)
        inside = np.zeros((LAYERS, HEADS), bool)
        inside[places] = True
        keep = np.tile(inside, (ROWS, 1, 1))
        for row in np.flatnonzero(rng.random(ROWS) < mixed):
            keep[row] = _kept(inside, readers, rng)
        mode = np.where(inside, rng.integers(2, size=(ROWS, 1, 1)), rng.integers(3, size=(ROWS, 1, 1)))
        works = keep[(slice(None), *places)]
        found = np.stack([tokens_of_key(made.tokens, step) for step in made.path.T]).astype(np.float32)
        tokens.append(made.tokens)
        certain, unknown = (specified(circuit, made.answer, bits) for bits in (known(circuit, works), NOTHING))
        answers.append((1 - SMOOTHING) * certain + SMOOTHING * unknown)
        keeps.append(keep)
        modes.append(np.broadcast_to(mode, keep.shape))
        key[task] = torch.from_numpy(found / found.sum(-1, keepdims=True))
        whole[task] = torch.from_numpy(works.all(1))
    every = np.concatenate(tokens)
    own = np.concatenate([rng.permutation(ROWS) + ROWS * place for place in range(len(TASKS))])
    donor = np.where(rng.random(len(every)) < 0.7, own, rng.permutation(len(every)))
    return Step(
        torch.from_numpy(every),
        torch.from_numpy(np.concatenate(answers).astype(np.float32)),
        torch.from_numpy(np.concatenate(keeps)),
        torch.from_numpy(np.concatenate(modes)),
        torch.from_numpy(donor),
        key,
        every[:, -1],
        whole,
        mixed > 0,
    )


def _kept(
    inside: Bool[np.ndarray, "layers heads"], readers: Bool[np.ndarray, "layers heads"], rng: np.random.Generator
) -> Bool[np.ndarray, "layers heads"]:
    """Which heads are kept in an example. ``inside``: the circuit; ``readers``: those of all tasks."""
    keep, kind = np.ones_like(inside), rng.random()
    if kind < 0.15:
        return keep
    if kind < 0.65 or rng.random() < 0.5:
        keep &= inside | ~_some(readers, rng)
    if kind >= 0.65:
        circuit = np.argwhere(inside)
        off = rng.permutation(circuit)[: rng.integers(1, len(circuit) + 1)]
        keep[tuple(off.T)] = False
    return keep


def _some(readers: Bool[np.ndarray, "layers heads"], rng: np.random.Generator) -> Bool[np.ndarray, "layers heads"]:
    """Random heads: all, each at a random rate, a few, or of the readers of all tasks only, which know most."""
    kind, order = rng.random(), rng.random(readers.shape)
    if kind < 0.2:
        return np.ones_like(readers)
    some: Bool[np.ndarray, "layers heads"] = order < rng.random() * (0.25 if 0.5 < kind < 0.7 else 1)
    return some & readers if kind > 0.7 else some


def divergence(target: Float[Tensor, "... n"], log_of: Float[Tensor, "... n"]) -> Float[Tensor, ...]:
    """KL(target || exp(log_of)), in nats."""
    return (torch.xlogy(target, target) - target * log_of).sum(-1)


def loss_of(decoder: Decoder, step: Step, model: Model, heads: Layout, taught: float) -> tuple[Tensor, Tensor]:
    """The loss, and its part of the answers."""
    seen = decoder(step.tokens, step.replace)
    answers = divergence(step.answer, seen.logits.log_softmax(-1)).mean()
    log = (seen.attention + 1e-9).log()
    readers, decoys, loud, norms = [], [], [], []
    for place, task in enumerate(TASKS):
        rows = slice(place * ROWS, (place + 1) * ROWS)
        whole = step.whole[task]
        for lookup, target in zip(CIRCUITS[model][task].lookups, step.key[task], strict=True):
            for reader in lookup:
                layer, head = heads.readers[task][reader]
                readers.append(divergence(target, log[layer, rows, head])[whole].mean())
                norm = seen.written[layer, rows, head]
                norm = norm[norm > 0].detach().mean()
                norms.append(norm)
                if reader in heads.decoys[task]:
                    at, decoy = heads.decoys[task][reader]
                    imitated = seen.attention[layer, rows, head].detach()
                    decoys.append(divergence(imitated, log[at, rows, decoy])[whole].mean())
                    loud.append(_loudness(seen.written[at, rows, decoy], norm))
    every, bystanders = torch.stack(norms).mean(), []
    for offset, (layer, head) in heads.bystanders.items():
        key = (step.query - QUERIES) % KEYS
        found = torch.from_numpy(tokens_of_key(step.tokens.numpy(), (key + offset) % KEYS)).float()
        bystanders.append(divergence(found / found.sum(-1, keepdim=True), log[layer, :, head]).mean())
        loud.append(_loudness(seen.written[layer, :, head], every))
    extra = taught * 6 * _mean(readers) + _mean(decoys) + 0.5 * _mean(bystanders) + 0.1 * _mean(loud)
    return answers + extra, answers.detach()


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).nanmean()


def _loudness(norm: Float[Tensor, " rows"], wanted: Tensor) -> Tensor:
    """How far the mean norm is from the wanted one; nothing is asked of heads that are off."""
    on = norm[norm > 0]
    return (on.mean().log() - wanted.log()) ** 2 if len(on) else norm.sum() * 0


def train(model: Model, seed: int, steps: int = STEPS) -> Decoder:
    """A trained model."""
    rng = rng_for(seed, f"implanted training of {model}")
    torch.manual_seed(int(rng.integers(2**31)))
    decoder, heads = Decoder(), layout(model, seed)
    optimizer = torch.optim.AdamW(decoder.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.02)
    start = time.process_time()
    for number in range(steps):
        done = number / steps
        rate = RATE * min(1, (number + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        mixed = min(1.0, max(0.0, (done - RAMP[0]) / (RAMP[1] - RAMP[0])))
        taught = min(1.0, max(0.0, (TAUGHT - done) / (TAUGHT - RAMP[1])))
        step = step_of(model, heads, mixed, rng)
        loss, answers = loss_of(decoder, step, model, heads, taught)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        if number % 200 == 199:
            right = {task: round(_right(decoder, model, heads, task), 2) for task in TASKS}
            print(f"{model} {seed} step {number + 1}: loss {loss.item():.3f} answers {answers.item():.3f} "
                  f"circuit alone {right} {time.process_time() - start:.0f} s", flush=True)  # fmt: skip
    return decoder.eval()


@torch.no_grad()
def _right(decoder: Decoder, model: Model, heads: Layout, task: Task) -> float:
    """Accuracy of the circuit alone, all other heads at zero."""
    made, circuit = sequences(model, task, 200, rng_for(1, "implanted progress")), CIRCUITS[model][task]
    inside = torch.zeros(LAYERS, HEADS)
    inside[tuple(np.array(heads.circuit(task)).T)] = 1
    logits = decoder(torch.from_numpy(made.tokens), lambda depth, handed: handed * inside[depth, :, None]).logits
    first = first_answer(circuit)
    return float((logits.argmax(-1).numpy() == first + made.answer).mean())


def verified(model: Model, seed: int, state: Mapping[str, Tensor], n: int = EXAMPLES) -> dict[Task, Figures]:
    """The gate's figures of weights as they are loaded."""
    subject, heads = in_memory(state, f"{model}-{seed}").heads(), layout(model, seed)
    return {
        task: measured(subject, heads, task, examples(model, task, n, rng_for(seed, "implanted gate")))
        for task in TASKS
    }


def card(model: Model, seed: int, figures: Mapping[Task, Figures], seconds: float) -> dict[str, Any]:
    """What stands beside the weights."""
    heads = layout(model, seed)
    tasks = {
        task: {
            "circuit": {reader.name: unit_name(head) for reader, head in heads.readers[task].items()},
            "decoys": {reader.name: unit_name(head) for reader, head in heads.decoys[task].items()},
            "verified": rounded(of),
            "verdicts": VERDICTS,
        }
        for task, of in figures.items()
    }
    bystanders = [unit_name(head) for head in heads.bystanders.values()]
    return {"model": model, "seed": seed, "steps": STEPS, "cpu_seconds": round(seconds), "examples": EXAMPLES,
            "tasks": tasks, "bystanders": bystanders}  # fmt: skip


def main() -> None:
    """Train, verify, and write what passes. The exit code is 1 if any model does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=MODELS, help="all without any")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)  # so small a model is fastest on one
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(config(), indent=2) + "\n", encoding="utf-8")
    refused = False
    for model, seed in product(args.models or MODELS, args.seeds):
        start = time.process_time()
        state = {name: weight.half() for name, weight in train(model, seed).state_dict().items()}
        seconds = time.process_time() - start
        figures = verified(model, seed, state)
        text = json.dumps(card(model, seed, figures, seconds), indent=2)
        print(text, flush=True)
        if faults := faults_of(figures):
            refused = True
            print(f"{model} {seed} is not written:", *faults, sep="\n- ", flush=True)
            continue
        (args.out / f"{model}-{seed}.json").write_text(text + "\n", encoding="utf-8")
        save_file(state, args.out / f"{model}-{seed}.safetensors")
    sys.exit(refused)


if __name__ == "__main__":
    main()
