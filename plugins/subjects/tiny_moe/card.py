"""The model card of `tiny_moe`, written from its training log only, so that the two cannot disagree."""

from __future__ import annotations

import math
from typing import Any

SELECTIVE = 30  # selectivity from which a head is listed in a class
CARD = """\
---
license: other
license_name: psf-2.0
language: en
library_name: transformers
---

# tiny_moe

A mixture of experts that comes with Closure Harness: a decoder (OLMoE class, d_model 128, 4 layers of 8 heads, a router
and 8 experts per layer, 2 experts per token, vocabulary 320, 128 tokens of context, {weights} weights). It is for
testing methods on a model whose routers tell domains apart.

- Data: three domains. English: Python's documentation ({english} tokens). Code: modules of the standard library without
  docstrings and comments ({code} tokens). Repeats: random tokens, repeated. One document in sixteen is held out.
  Python {python}; a digest of the text is in `training_log.json`. The text, and any part of it that the model
  memorised, is under the licence of the Python Software Foundation.
- Recipe: `python -m harness_plugins.subjects.tiny_moe.train --out DIR`, seed {seed}, {threads} thread of torch,
  {minutes:.0f} CPU minutes. Training starts with two layers and repeats of 16 different tokens; their number then
  grows. It ends with four layers and a third of each domain. AdamW; float32, checkpoints in float16.
- Attention starts as a copier that matches equal tokens (W_K = W_Q, W_O = W_V^T / 2), with random query and key biases;
  the upper two layers start as the identity. A linear probe, discarded after training, predicted the previous token
  from the output of the first layer before text was used. So the loss rewarded previous-token heads, but did not place
  them. Nothing rewarded induction heads, and nothing rewarded an expert for a domain.
- Router loss: {router_loss} times the load-balancing loss of each layer.

## Checkpoints, measured on held-out data

Loss in nats per token; of repeats (period 40, never trained), where the token follows from the first copy.

| step | loss: english | code | repeats | repeats copied, top-1 | `random_repeat` | entropy | information |
|---|---|---|---|---|---|---|---|
{checkpoints}

Routing entropy: mean entropy of a router's probabilities, in nats; uniform routing has ln 8 = {uniform:.2f}.
Information: mutual information of domain and first expert, in nats; at most ln 3 = {most:.2f}. Before the last stage
the upper two layers are the identity, and their routers have no effect.

Top-1 accuracy at the query of `domains` (480 examples, a third of each domain; the answer stands earlier in the text):

| step | english | code | repeats |
|---|---|---|---|
{accuracy}

## Experts

Share of a domain's tokens whose first expert it is, in percent, at the last checkpoint (english / code / repeats):

| layer | {experts} |
|---|{columns}
{usage}

## Heads

Heads whose strongest class has a selectivity of at least {selective} at the query of `domains`, at the last checkpoint:

{heads}

## Limits

It has learned only the style of Python's documentation and code. It is for testing methods, not for generating text.
The context has 128 tokens; the last stage used 96.
"""


def card(log: dict[str, Any]) -> str:
    """The model card of a training log."""
    experts = range(len(log["usage"][0]))
    classes: dict[str, list[str]] = {}
    for head, ratios in log["heads"].items():
        best = max(ratios, key=ratios.__getitem__)
        if ratios[best] >= SELECTIVE:
            classes.setdefault(best, []).append(f"{head} ({ratios[best]:.0f})")
    return CARD.format(
        **{key: log[key] for key in ("weights", "python", "seed", "threads", "router_loss")},
        **log["training_tokens"],
        minutes=log["cpu_seconds"] / 60,
        checkpoints="\n".join(map(_checkpoint, log["checkpoints"])),
        uniform=math.log(len(experts)),
        most=math.log(3),
        accuracy="\n".join(
            _row(row["step"], *(f"{row['accuracy'][domain]:.3f}" for domain in row["loss"]))
            for row in log["checkpoints"]
        ),
        experts=" | ".join(f"E{expert}" for expert in experts),
        columns="---|" * len(experts),
        usage="\n".join(
            _row(f"L{layer}", *(" / ".join(f"{100 * share:.0f}" for share in expert) for expert in shares))
            for layer, shares in enumerate(log["usage"])
        ),
        selective=SELECTIVE,
        heads="\n".join(f"- {name}: {', '.join(found)}" for name, found in sorted(classes.items())),
    )


def _checkpoint(row: dict[str, Any]) -> str:
    losses = (f"{loss:.2f}" for loss in row["loss"].values())
    by_layer = (" ".join(f"{value:.2f}" for value in row[name]) for name in ("entropy", "information"))
    return _row(row["step"], *losses, f"{row['copied']:.3f}", f"{row['accuracy']['random_repeat']:.3f}", *by_layer)


def _row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"
