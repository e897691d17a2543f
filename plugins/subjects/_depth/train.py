r"""Trains the models of ``subject=depth_routes``: every arm of the depth-routing experiment, in several seeds.

``python -m harness_plugins.subjects._depth.train --out DIR`` trains, measures and writes them with a card.

Arms with the same seed start from the same weights and read the same sequences (``batch=markov_repeats``): they differ
in routing only.

- ``trained``: blocks that reset, routers and all other weights from scratch.
- ``plain``: no routing; as many steps. It is also what training with routers that stay means gives: the mean of all
  sources is the residual stream divided by their number, and the norm of a sublayer takes out that factor.
- ``tuned_routing``: the plain model, wrapped, and only its routers trained. ``tuned_all``: that model, and then all its
  weights.

The loss is that of every next token, :math:`L = -\operatorname{mean}_t \ln p(x_{t+1} \mid x_{\le t})`.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from harness_plugins.subjects._depth.arms import BLOCK, TUNING_BIAS, new_model
from harness_plugins.subjects._depth.card import card
from harness_plugins.subjects._depth.measure import measured
from harness_plugins.subjects.tiny.measure import next_token_losses
from safetensors.torch import save_file
from transformers import PreTrainedModel

from harness import rng_for
from harness.data.markov import sequences, transitions
from harness.engine.depth_routing import routed, routers, with_bias

LENGTH = 32
SEEDS = 6


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW, warm-up, then a cosine to a tenth. Half of the ``rows`` of a step repeat."""

    steps: int
    peak: float
    rows: int = 32
    warm_up: int = 50


SCRATCH, ROUTING, ALL = Recipe(600, 4e-3), Recipe(200, 1e-2), Recipe(200, 2e-3)


def train(model: PreTrainedModel, seed: int, recipe: Recipe, stage: str) -> list[float]:
    """Train those weights that require gradients, in place. Returns the loss of every step."""
    rng, chain = rng_for(seed, f"depth routing: {stage}"), transitions(0)
    repeat = np.arange(recipe.rows) < recipe.rows // 2
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": 0.1},
            {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
    )
    model.train()
    losses = []
    for step in range(recipe.steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak * min(1, (step + 1) / recipe.warm_up) * (0.1 + 0.9 * cosine)
        tokens = torch.from_numpy(sequences(chain, repeat, LENGTH, rng))
        loss = next_token_losses(model(tokens, use_cache=False).logits, tokens).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def train_seed(
    seed: int, out: Path, scratch: Recipe = SCRATCH, routing: Recipe = ROUTING, everything: Recipe = ALL
) -> None:
    """Train and write the models of one seed."""
    model = routed(new_model(seed), "reset", BLOCK["reset"])
    _report(seed, "trained", train(model, seed, scratch, "from scratch"))
    save(out / f"trained-{seed}.safetensors", model)
    model = new_model(seed)
    _report(seed, "plain", train(model, seed, scratch, "from scratch"))
    save(out / f"plain-{seed}.safetensors", model)
    model = with_bias(routed(model, "cumulative", BLOCK["cumulative"]), TUNING_BIAS).requires_grad_(False)
    for router in routers(model):
        router.requires_grad_(True)
    _report(seed, "tuned_routing", train(model, seed, routing, "tuning of the routing"))
    save(out / f"tuned_routing-{seed}.safetensors", model, only="_router.")
    _report(seed, "tuned_all", train(model.requires_grad_(True), seed, everything, "tuning of all"))
    save(out / f"tuned_all-{seed}.safetensors", model)


def save(file: Path, model: PreTrainedModel, only: str = "") -> None:
    """Write the weights in float16. ``only``: those with this in their names."""
    state = {name: weight.half().contiguous() for name, weight in model.state_dict().items() if only in name}
    state.pop("lm_head.weight", None)  # it is the embedding
    save_file(state, file, metadata={"format": "pt"})


def _report(seed: int, arm: str, losses: list[float]) -> None:
    print(f"seed {seed} {arm}: loss {losses[0]:.3f} -> {np.mean(losses[-20:]):.3f}", flush=True)


def main() -> None:
    """Train, measure and write. ``training_log.json`` holds everything that was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 0")
    parser.add_argument("--threads", type=int, default=1, help="of torch; another number gives other weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    new_model(0).config.save_pretrained(args.out)
    begun = time.process_time()
    for seed in range(args.seeds):
        train_seed(seed, args.out)
    log = {
        "recipes": {"from scratch": asdict(SCRATCH), "routing": asdict(ROUTING), "all": asdict(ALL)},
        "threads": args.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu_seconds": round(time.process_time() - begun),
        **measured(args.out, range(args.seeds)),
    }
    (args.out / "training_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    (args.out / "README.md").write_text(card(log), encoding="utf-8")
    print(card(log))


if __name__ == "__main__":
    main()
