"""The model card of `tiny`, written from its training log only, so that the two cannot disagree."""

from __future__ import annotations

from typing import Any

from harness_plugins.subjects.tiny.measure import PERIODS

CARD = """\
---
license: other
license_name: psf-2.0
language: en
library_name: transformers
---

# tiny

The default subject of Closure Harness: a decoder (Llama class, d_model 128, 4 layers of 8 heads, {context} tokens of
context, vocabulary {vocabulary}, {weights} weights). It is small enough to ship and trained until circuits form.

- Data: Python's own documentation (topics and docstrings of the standard library, {python}; digest in
  `training_log.json`), with one document in twenty held out; and synthetic repeats of random tokens. The text, and any
  part of it that the model memorised, is under the licence of the Python Software Foundation.
- Recipe: `python -m harness_plugins.subjects.tiny.train --out DIR`, seed {seed}, {minutes:.0f} minutes on {device}.
  Training starts with two layers and repeats of 16 different tokens; their number then grows. It ends with four layers,
  half text and half repeats. AdamW; float32, checkpoints in float16.
- Attention starts as a copier (W_O = W_V^T / 2), with random query and key biases; the upper two layers start as the
  identity. Linear probes, discarded after training, predicted the previous token from the first layer (before text was
  used) and the first token from the third layer (with text). So the loss rewarded those heads, but did not place them.
  Nothing rewarded induction heads.

## Measured on held-out data

| | |
|---|---|
| loss on held-out text, nats per token | {text_loss:.2f} (unigram entropy {unigram_entropy:.2f}) |
| `synthetic_induction` (A B ... A), top-1 at the query | {induction_accuracy:.3f} |
| repeated random tokens, periods 16, 40, 56 (never trained), top-1 | {copies} |

Heads whose strongest class has a selectivity of at least 30 at the query of `synthetic_induction` (n = 500):

{heads}

## Checkpoints

| step | A B ... A, top-1 | repeats of period 40, top-1 | text loss |
|---|---|---|---|
{checkpoints}
| final | {induction_accuracy:.3f} | {copied_at_period_40:.3f} | {text_loss:.2f} |

## Limits

It has learned only the style of Python's documentation. It is for testing methods, not for generating text. Many bytes
never occur in the text, so their tokens were trained on repeats only. The context has {context} tokens.
"""


def card(log: dict[str, Any]) -> str:
    """The model card of a training log."""
    final, rows = log["final"], {row["step"]: row for row in log["history"]}
    classes: dict[str, list[str]] = {}
    for head, ratios in log["heads"].items():
        best = max(ratios, key=ratios.__getitem__)
        if ratios[best] >= 30:
            classes.setdefault(best, []).append(f"{head} ({ratios[best]:.0f})")
    return CARD.format(
        **final,
        **{key: log[key] for key in ("python", "weights")},
        **{key: log["args"][key] for key in ("seed", "device", "vocabulary")},
        context=log["context"],
        minutes=log["wall_seconds"] / 60,
        copies=", ".join(f"{final[f'copied_at_period_{period}']:.3f}" for period in PERIODS),
        heads="\n".join(f"- {name}: {', '.join(heads)}" for name, heads in sorted(classes.items())),
        checkpoints="\n".join(
            f"| {step} | {rows[step]['induction_accuracy']:.3f} | {rows[step]['copied_at_period_40']:.3f} "
            f"| {rows[step]['text_loss']:.2f} |"
            for step in log["checkpoints"]
        ),
    )
