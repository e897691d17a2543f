"""The model card of `tiny_retrieval`, written from its training log only, so that the two cannot disagree."""

from __future__ import annotations

from typing import Any

from harness_plugins.subjects.tiny_retrieval.measure import SELECTIVE

CARD = """\
---
license: other
license_name: psf-2.0
language: en
library_name: transformers
---

# tiny_retrieval

{count} models that come with Closure Harness: decoders (Llama class, d_model 32, 4 layers of {heads_per_layer} heads of
width 8, vocabulary of 320 byte pairs and 64 codewords, 128 tokens of context, {weights} weights). They are for
comparing circuits over seeds and over training: each learns the same task.

- Data: Python's documentation ({training_tokens} tokens; one document in sixteen is held out). In {rate:.0%} of the
  sequences, a line gives a codeword and a later line asks for it (`batch=key_retrieval`, gaps of 5 to 30 tokens).
  Python {python}; a digest of the text is in `training_log.json`. The text, and any part of it that the models
  memorised, is under the licence of the Python Software Foundation.
- Recipe: `python -m harness_plugins.subjects.tiny_retrieval.train --heads {heads_per_layer} --out DIR`, {threads}
  thread of torch, {minutes:.0f} CPU minutes for all seeds. {steps} steps of {rows} sequences of {length} tokens; AdamW,
  peak rate {peak}, a warm-up of {warm_up} steps, then a cosine. The mean loss where a codeword is asked for counts
  {weight:g} times. float32, checkpoints in float16.
- Each head's query and key weights begin with a random scale of their own. No head is asked for anything.
- Files: `seed-<n>.safetensors` has each weight stacked over the checkpoints, whose steps are in its metadata.

## Measured on held-out data

Top-1 accuracy at the query, with gaps in distribution (5 to 30 tokens) and out of distribution (40 to 70); chance is
1/64. Text: loss in nats per token of held-out text. Heads: how many heads' attention from the query to the codeword has
a selectivity of at least {selective}. 512 examples, 64 windows.

{seeds}
## Heads of the last checkpoint

{heads}

## Limits

They have learned only the style of Python's documentation. They are for testing methods, not for generating text. The
training used 96 of the 128 positions. Codewords occur nowhere else in the text, so a head can find them without
reading what stands before them.
"""


def card(log: dict[str, Any]) -> str:
    """The model card of a training log."""
    return CARD.format(
        **{key: value for key, value in log["recipe"].items() if key != "heads"},
        heads_per_layer=log["recipe"]["heads"],
        **{key: log[key] for key in ("weights", "python", "threads", "training_tokens")},
        count=len(log["seeds"]),
        minutes=log["cpu_seconds"] / 60,
        selective=SELECTIVE,
        seeds="\n".join(_table(seed, rows) for seed, rows in enumerate(log["seeds"])),
        heads="\n".join(f"- Seed {seed}: {_heads(rows[-1])}" for seed, rows in enumerate(log["seeds"])),
    )


def _table(seed: int, rows: list[dict[str, Any]]) -> str:
    lines = "".join(
        f"| {row['step']} | {row['in']:.3f} | {row['out']:.3f} | {row['loss']:.2f} | {len(row['heads'])} |\n"
        for row in rows
    )
    return f"### Seed {seed}\n\n| step | in | out | text | heads |\n|---|---|---|---|---|\n{lines}"


def _heads(row: dict[str, Any]) -> str:
    ordered = sorted(row["heads"].items(), key=lambda head: -head[1])
    return ", ".join(f"{unit} ({ratio:.0f})" for unit, ratio in ordered) or "none"
