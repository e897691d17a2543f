"""Measures the depth-routing models as they are shipped: their loss on repeats and on chains."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness_plugins.subjects._depth.arms import FILES, model_of
from harness_plugins.subjects.tiny.measure import next_token_losses

from harness import rng_for
from harness.data.markov import SYMBOLS, sequences, transitions

ROWS, LENGTH = 512, 32
BIAS = 10.0


def entropy() -> float:
    """Nats per token of the chain, in its stationary distribution."""
    chain = transitions(0)
    often = np.linalg.matrix_power(chain, 200)[0]
    return float(-(often @ (chain * np.log(chain)).sum(1)))


def of_model(arm: str, seed: int, weights: Path) -> dict[str, float]:
    """Nats per token on sequences that were never trained: ``repeat`` in second halves, ``chain`` elsewhere."""
    model = model_of(arm, seed, BIAS, weights)
    repeat = np.arange(ROWS) < ROWS // 2
    tokens = torch.from_numpy(sequences(transitions(0), repeat, LENGTH, rng_for(0, "depth routing: held out")))
    with torch.no_grad():
        losses = next_token_losses(model(tokens, use_cache=False).logits, tokens)
    second = losses[: ROWS // 2, LENGTH // 2 :].mean()
    return {"repeat": round(second.item(), 4), "chain": round(losses[ROWS // 2 :].mean().item(), 4)}


def measured(weights: Path, seeds: Iterable[int]) -> dict[str, Any]:
    """What the card says about every arm and seed in a folder."""
    model = model_of("trained", 0, BIAS, weights)
    return {
        "weights": sum(weight.numel() for weight in model.parameters()),
        "symbols": SYMBOLS,
        "entropy": round(entropy(), 4),
        "arms": {arm: [of_model(arm, seed, weights) for seed in seeds] for arm in FILES},
    }
