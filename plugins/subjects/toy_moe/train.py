"""Trains toy mixtures, several seeds side by side: seconds each on a CPU. Prints their geometry.

    python -m harness_plugins.subjects.toy_moe.train 16x2-ordered 1x12-xavier --out FOLDER --seeds 0 1 2

A name is EXPERTSxHIDDEN-INIT; without names, all that come with the harness. The same weights every time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from harness import rng_for, seed_for
from harness.data.features import SparseFeatures

from .geometry import PRESENT, Geometry, importance
from .model import ToyMixture

WEIGHTS = Path(__file__).parent / "weights"
FEATURES, STEPS, ROWS, RATE = 20, 4000, 1024, 1e-3
SHIPPED = (
    "16x2-ordered",  # enough experts for a closure test of groups
    "4x5-xavier", "4x5-ordered", "4x5-shuffled",  # 20 dimensions in all, by initialisation of the router
    "1x5-xavier",  # the dense toy with as many dimensions as an expert of 4x5
    "1x12-xavier", "2x6-xavier", "4x3-xavier", "6x2-xavier",  # 12 dimensions in all, by number of experts
)  # fmt: skip


def start(name: str, seed: int) -> ToyMixture:
    """The untrained toy. Routers: Xavier, or a 1 at each of the expert's own features (in order, or shuffled)."""
    sizes, init = name.split("-")
    experts, hidden = map(int, sizes.split("x"))
    toy = ToyMixture(FEATURES, experts, hidden)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed_for(seed, f"toy mixture {name}"))
        for expert in toy.experts.weight:
            nn.init.xavier_normal_(expert)
        if init == "xavier":
            nn.init.xavier_normal_(toy.gate.weight)
        else:
            order = np.arange(FEATURES)
            if init == "shuffled":
                order = rng_for(seed, f"toy mixture {name} router").permutation(FEATURES)
            for expert, own in enumerate(np.array_split(order, experts)):
                toy.gate.weight[expert, own.tolist()] = 1.0
    return toy


def train(name: str, seeds: Sequence[int], steps: int = STEPS) -> list[ToyMixture]:
    r"""Trained toys: :math:`\sum_i I_i (x_i - y_i)^2`, AdamW, new examples in every step.

    With one expert per example the weight of the chosen expert is 1, so that no gradient reaches the router: it stays
    as it was initialised, and the experts learn the features that are routed to them.
    """
    toys = [start(name, seed) for seed in seeds]
    gates = torch.stack([toy.gate.weight.detach() for toy in toys])
    weight = torch.stack([toy.experts.weight.detach() for toy in toys]).requires_grad_()
    bias = torch.stack([toy.experts.bias.detach() for toy in toys]).requires_grad_()
    optimizer = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=0.01)
    features = SparseFeatures(FEATURES, PRESENT)
    rngs = [rng_for(seed, f"toy mixture {name} examples") for seed in seeds]
    counted = torch.from_numpy(importance(FEATURES)).float()
    for _ in range(steps):
        inputs = torch.from_numpy(np.stack([features.draw(rng, ROWS) for rng in rngs]))
        loss = (counted * (_outputs(gates, weight, bias, inputs) - inputs).square()).mean(dim=1).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        for place, toy in enumerate(toys):
            toy.experts.weight.copy_(weight[place])
            toy.experts.bias.copy_(bias[place])
    return [toy.requires_grad_(False).eval() for toy in toys]


def _outputs(
    gates: Float[Tensor, "toys experts features"],
    weight: Float[Tensor, "toys experts hidden features"],
    bias: Float[Tensor, "toys experts features"],
    inputs: Float[Tensor, "toys rows features"],
) -> Float[Tensor, "toys rows features"]:
    """Those of the expert with the largest logit, of every toy."""
    toy, chosen = torch.arange(len(gates))[:, None], (inputs @ gates.mT).argmax(-1)
    matrix = weight[toy, chosen]
    hidden = torch.einsum("trmn,trn->trm", matrix, inputs)
    return (torch.einsum("trmn,trm->trn", matrix, hidden) + bias[toy, chosen]).relu()


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of the form EXPERTSxHIDDEN-INIT; default: {', '.join(SHIPPED)}")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names or SHIPPED:
        begun = time.process_time()
        for seed, toy in zip(args.seeds, train(name, args.seeds), strict=True):
            save_file(toy.state_dict(), args.out / f"{name}-{seed}.safetensors")
            figures = ", ".join(f"{key} {value:.3f}" for key, value in Geometry.of(toy).summary().items())
            print(f"{name} seed {seed}: {figures}", flush=True)
        print(f"{name}: {time.process_time() - begun:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
