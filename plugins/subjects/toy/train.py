"""Trains the toy models, and measures whether they are good enough to be decomposed: seconds each on a CPU.

    python -m harness_plugins.subjects.toy.train tms_40_10 residual_2x25 --out FOLDER --seeds 0 1 2

The same weights every time. A toy that has not learned every feature is not written: training is sensitive to the seed.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness import HarnessError, rng_for, seed_for
from harness.decomposition.targets import Superposition, Toy

from .kinds import RECIPES, Kind, Recipe

WEIGHTS = Path(__file__).parent / "weights"
PROBE = 0.75
"""The value of a feature that is shown alone."""
LEAST_OWN, MOST_OTHER = 0.4, 0.25
"""What a good toy computes of every feature, as a share of what is right, and what it gives to another one at most."""


def train(kind: Kind, seed: int) -> Toy:
    """The trained toy."""
    recipe = RECIPES[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, f"toy {kind}"))
        toy = recipe.build()
        if isinstance(toy, Superposition):
            nn.init.xavier_normal_(toy.linear1.weight)
            nn.init.zeros_(toy.linear2.bias)
    rng, features = rng_for(seed, f"toy {kind} examples"), recipe.features
    free: list[Tensor] = list(toy.parameters())
    if isinstance(toy, Superposition):  # the decoder is the transpose of the encoder, and identities stay
        free = [toy.linear1.weight, toy.linear2.bias]
    optimizer = torch.optim.AdamW(free, lr=recipe.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    for _ in range(recipe.steps):
        inputs = torch.from_numpy(features.draw(rng, recipe.rows))
        loss = (_outputs(toy, inputs) - toy.ideal(inputs)).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if recipe.cosine:
            schedule.step()
    if isinstance(toy, Superposition):
        toy.tie()
    return toy.requires_grad_(False).eval()


def _outputs(toy: Toy, inputs: Tensor) -> Tensor:
    """Those of the toy; of one in superposition, with the decoder tied to the encoder."""
    if not isinstance(toy, Superposition):
        outputs: Tensor = toy(inputs)
        return outputs
    return nn.functional.linear(toy.linear1(inputs), toy.linear1.weight.T, toy.linear2.bias).relu()


@dataclass(frozen=True)
class Quality:
    """How well a toy computes its features.

    ``loss``: mean squared error on its examples; ``idle``: that of a toy that computes nothing (outputs are zero, or in
    a residual MLP the inputs). ``own``: what the toy computes of a feature that is active alone, as a share of what is
    right, for the worst feature. ``other``: the largest share that another feature gets then.
    """

    loss: float
    idle: float
    own: float
    other: float

    @classmethod
    def of(cls, toy: Toy, recipe: Recipe) -> Quality:
        """Measure it on 16,384 examples, and on every feature alone."""
        inputs = torch.from_numpy(recipe.features.draw(rng_for(0, "toy quality"), 16384))
        alone = PROBE * torch.eye(toy.width)
        handed_on = 0.0 if isinstance(toy, Superposition) else 1.0  # by the stream, without any computation
        with torch.inference_mode():
            loss = (toy(inputs) - toy.ideal(inputs)).square().mean()
            idle = (handed_on * inputs - toy.ideal(inputs)).square().mean()
            share = (toy(alone) - handed_on * alone) / PROBE
        others = share - torch.diag(share.diagonal())
        return cls(*(round(float(v), 6) for v in (loss, idle, share.diagonal().min(), others.abs().max())))

    def check(self, toy: str) -> None:
        """Refuse a toy that has not learned every feature."""
        if not (self.own >= LEAST_OWN and self.other <= MOST_OTHER):
            raise HarnessError(
                f"toy {toy}: it computes {self.own:.2f} of a feature, and gives up to {self.other:.2f} to another one; "
                f"{LEAST_OWN} or more and {MOST_OTHER} or less are needed. Its mechanisms are not its features.",
                "Use another seed.",
            )


def main() -> None:
    """Train, measure and write. Residual MLPs are stored in float16: their quality is that of what is stored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(get_args(Kind))}; all without any")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    torch.set_num_threads(1)  # two threads wait for each other on a busy machine
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    for kind in args.kinds or get_args(Kind):
        for seed in args.seeds:
            begun = time.process_time()
            toy = train(kind, seed)
            if not isinstance(toy, Superposition):
                toy.half().float()
            quality = Quality.of(toy, RECIPES[kind])
            print(f"{kind} seed {seed}: {asdict(quality)}, {time.process_time() - begun:.0f} CPU s", flush=True)
            try:
                quality.check(f"{kind}, seed {seed}")
            except HarnessError as error:
                print(error)
                continue
            if not isinstance(toy, Superposition):
                toy.half()
            save_file(toy.state_dict(), args.out / f"{kind}-{seed}.safetensors")


if __name__ == "__main__":
    main()
