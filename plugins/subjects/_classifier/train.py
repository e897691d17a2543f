"""Trains the classifier on batch=vectors and writes its weights: seconds on a CPU, the same weights every time.

python -m harness_plugins.subjects._classifier.train --out FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness import Vectors, Width, method

from .model import build

WIDTH = Width(12, 4)
STEPS, ROWS = 600, 256
TEST_SEED = 42  # the default seed of batch=vectors; training uses others


def examples(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Inputs [n, 12] and classes [n] of batch=vectors."""
    batch = method("batch", "vectors", n=n, seed=seed)(WIDTH)
    assert isinstance(batch, Vectors)
    return torch.from_numpy(batch.inputs), torch.from_numpy(batch.target)


def train(seed: int = 0) -> nn.Module:
    """AdamW at 5e-3 (cosine to zero, weight decay .01), 600 steps of 256 new examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = build()
    inputs, target = examples(TEST_SEED + 1 + seed, STEPS * ROWS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for part, right in zip(torch.split(inputs, ROWS), torch.split(target, ROWS), strict=True):
        loss = nn.functional.cross_entropy(model(part), right)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    model.eval()
    return model


def accuracy(model: nn.Module, n: int = 4096) -> float:
    """The share of test examples whose largest output is that of their class."""
    inputs, target = examples(TEST_SEED, n)
    with torch.no_grad():
        return float((model(inputs).argmax(1) == target).float().mean())


def main() -> None:
    """Write ``weights.safetensors``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = train()
    save_file(model.state_dict(), args.out / "weights.safetensors")
    print(f"accuracy on {TEST_SEED=}: {accuracy(model):.4f}")


if __name__ == "__main__":
    main()
