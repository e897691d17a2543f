"""The model card of the depth-routing models, written from their training log only: the two cannot disagree."""

from __future__ import annotations

from typing import Any

CARD = """\
---
license: mit
library_name: safetensors
---

# tiny_depth

Decoders in which every sublayer chooses which earlier outputs it reads (block attention residuals): 4 layers of the
Llama class, d_model 48, {weights} weights, {seeds} seeds of every arm. They are the models of `subject=depth_routes`.

- Data: `batch=markov_repeats`, sequences of 32 tokens of a random Markov chain over {symbols} tokens; half of the
  sequences repeat their first half. No data from outside.
- Recipe: `python -m harness_plugins.subjects._depth.train --out DIR`, less than {minutes:.0f} minutes of one core.
  AdamW, float32, stored in float16. Arms with the same seed start from the same weights and read the same sequences.
- `config.json` is that of the plain model; the routers are in the weights, `attention_router`, `mlp_router` and
  `output_router` of every layer.

| arm | routing | trained |
|---|---|---|
| trained | blocks of one layer, which reset | everything, from scratch ({scratch} steps) |
| uniform | the same, and all weights equal | everything but the routers, from scratch ({scratch} steps) |
| fixed | the weights of `trained`, under w = 0 and b | nothing more |
| wrapped | a plain model, wrapped: w = 0 and b, blocks of two layers, cumulative | without routing ({scratch} steps) |
| tuned_routing | the same, from b = 3 | then the routers only ({routing} steps) |
| tuned_all | the same, after `tuned_routing` | then everything ({all} steps) |

`uniform` and `wrapped` are one trained model, read in two ways. The mean of all sources is the residual stream divided
by their number, and the norm of a sublayer takes out that factor: training with equal weights is training the plain
model.

## Measured on new sequences, nats per token, by seed

The chain has {entropy:.3f} nats per token; repeats could be predicted without loss. `wrapped` and `fixed` have b = 10.

| arm | repeats | chains |
|---|---|---|
{rows}

## Limits

The task needs two things only, the last token and the token after its earlier copy. What routing learns here says
little about language models.
"""


def card(log: dict[str, Any]) -> str:
    """The model card of a training log."""
    rows = [
        f"| {arm} | {' '.join(format(seed['repeat'], '.3f') for seed in seeds)} "
        f"| {' '.join(format(seed['chain'], '.3f') for seed in seeds)} |"
        for arm, seeds in log["arms"].items()
    ]
    recipes = log["recipes"]
    return CARD.format(
        weights=log["weights"], symbols=log["symbols"], entropy=log["entropy"], minutes=log["cpu_seconds"] / 60,
        seeds=len(log["arms"]["trained"]), rows="\n".join(rows),
        scratch=recipes["from scratch"]["steps"], routing=recipes["routing"]["steps"], all=recipes["all"]["steps"],
    )  # fmt: skip
