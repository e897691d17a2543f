"""Trains the dictionary that comes with the harness: 512 latents of the residual stream of `tiny` after layer 1.

    python -m harness_plugins.subjects._dictionary.train --out FILE.safetensors

About a minute on two cores. BatchTopK (Bussmann et al. 2024): in training, the largest values of a whole batch are
kept, ``ACTIVE`` per token on average; the file has one threshold instead (JumpReLU). Latents that were not active for a
while are trained to reconstruct the error (Gao et al. 2024).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from harness_plugins.subjects.tiny.measure import text
from harness_plugins.subjects.tiny.train import CONTEXT, STAGES, repeats
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from harness import method
from harness.data.corpus import python_documentation

LAYER, LATENTS, ACTIVE = 1, 512, 12
STEPS, TOKENS, POOL = 1200, 1024, 48  # steps of 1024 tokens, from 48 x 16 sequences
DEAD_AFTER, AUXILIARY = 40, 48  # steps without activity; dead latents that reconstruct the error
RATE = 2e-3


def activations(layer: int, seed: int) -> Float[Tensor, "tokens width"]:
    """The residual stream of `tiny` after a layer: half text, half repeats of random tokens, as in its training."""
    subject = method("subject", "tiny", device="cpu")()
    ids = torch.tensor([i for document in python_documentation() for i in (0, *subject.reads.encode(document))])
    rng = torch.Generator().manual_seed(seed)
    kept = []
    with torch.inference_mode():
        for _ in range(POOL):
            tokens = torch.cat([repeats(8, STAGES[-1], rng)[0], text(8, ids, CONTEXT, rng)])
            kept.append(subject.model(tokens, output_hidden_states=True).hidden_states[layer + 1].flatten(0, 1))
    states = torch.cat(kept).clone()
    return states[torch.randperm(len(states), generator=rng)]


def train(states: Float[Tensor, "tokens width"], seed: int = 0) -> dict[str, Tensor]:
    """The dictionary's tensors, by the names of SAELens."""
    rng = torch.Generator().manual_seed(seed)
    scale = states.var(dim=0).sum()
    decoder = torch.nn.functional.normalize(torch.randn(LATENTS, states.shape[1], generator=rng), dim=1)
    weights = {
        "W_dec": decoder,
        "W_enc": decoder.T.clone(),
        "b_enc": torch.zeros(LATENTS),
        "b_dec": states.mean(dim=0),
    }
    for value in weights.values():
        value.requires_grad_()
    optimizer = torch.optim.Adam(weights.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 3 * (1 - step / STEPS)))
    threshold, unused = 0.0, torch.zeros(LATENTS)
    for step in range(STEPS):
        x = states[torch.randint(len(states), (TOKENS,), generator=rng)]
        values = (x @ weights["W_enc"] + weights["b_enc"]).relu()
        least = values.detach().flatten().topk(ACTIVE * TOKENS).values[-1]
        kept = values * (values >= least)
        error = x - kept @ weights["W_dec"] - weights["b_dec"]
        loss = error.square().sum(dim=1).mean() / scale
        unused = torch.where((kept > 0).any(dim=0), 0, unused + 1)
        if (dead := (unused > DEAD_AFTER).nonzero()[:, 0]).numel():
            pre = x @ weights["W_enc"][:, dead] + weights["b_enc"][dead]
            largest = pre.topk(min(AUXILIARY, len(dead)), dim=1)
            revived = torch.zeros_like(pre).scatter(1, largest.indices, largest.values)
            missing = error.detach() - revived @ weights["W_dec"][dead]
            loss = loss + missing.square().sum(dim=1).mean() / scale / 32
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        threshold = float(least) if step == 0 else 0.99 * threshold + 0.01 * float(least)
        with torch.no_grad():  # unit rows: a latent's value is the size of what it writes
            weights["W_dec"].div_(weights["W_dec"].norm(dim=1, keepdim=True))
    return {**{name: value.detach() for name, value in weights.items()}, "threshold": torch.full((LATENTS,), threshold)}


def main() -> None:
    """Train and write; float16 halves the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tiny.safetensors")
    parser.add_argument("--layer", type=int, default=LAYER)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)  # two threads wait for each other on a busy machine
    begun = time.monotonic()
    states = activations(args.layer, args.seed)
    weights = train(states[len(states) // 10 :], args.seed)
    held_out = states[: len(states) // 10]
    values = held_out @ weights["W_enc"] + weights["b_enc"]
    values = values * (values > weights["threshold"])
    error = held_out - values @ weights["W_dec"] - weights["b_dec"]
    measured = {
        "explained_variance": round(1 - float(error.square().sum() / (held_out - held_out.mean(0)).square().sum()), 4),
        "active_per_token": round(float((values > 0).sum(1).float().mean()), 2),
        "dead_latents": int(((values > 0).sum(0) == 0).sum()),
        "held_out_tokens": len(held_out),
    }
    notes = {"model": "tiny", "layer": args.layer, "seed": args.seed, "apply_b_dec_to_input": False, **measured}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.half().contiguous() for name, value in weights.items()},
        args.out,
        {key: json.dumps(value) for key, value in notes.items()},
    )
    print(json.dumps({**measured, "seconds": round(time.monotonic() - begun), "bytes": args.out.stat().st_size}))


if __name__ == "__main__":
    main()
