"""Measures the checkpoints of `tiny_retrieval` as they are shipped: retrieval over short and long gaps, text, heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from harness_plugins.subjects.tiny.measure import next_token_losses, text
from harness_plugins.subjects.tiny_retrieval.subject import loaded, steps_in
from jaxtyping import Int
from tokenizers import Tokenizer
from torch import Tensor

from harness import method
from harness.data.corpus import python_documentation
from harness.data.python_source import is_held_out
from harness.util.digest import digest

ROWS, LENGTH = 64, 96  # held-out windows
EXAMPLES = 512
SELECTIVE = 10  # selectivity from which a head attends to the codeword


def documents(held_out: bool) -> list[str]:
    """The documents of the training, or the others: the same as those of ``batch=key_retrieval``."""
    return [document for document in python_documentation() if is_held_out(document) == held_out]


def encoded(part: list[str], tokenizer: Tokenizer) -> Int[Tensor, " tokens"]:
    """The token ids; 0 separates documents."""
    return torch.tensor([i for document in tokenizer.encode_batch(part) for i in (0, *document.ids)])


def measured(weights: Path) -> dict[str, Any]:
    """What the card says about every seed and checkpoint in a folder."""
    held_out = documents(held_out=True)
    ids = encoded(held_out, Tokenizer.from_file(str(weights / "tokenizer.json")))
    seeds = [
        [{"step": step, **of_checkpoint(file, step, ids)} for step in steps_in(file)]
        for file in sorted(weights.glob("seed-*.safetensors"))
    ]
    return {"held_out_digest": digest(held_out), "seeds": seeds}


def of_checkpoint(file: Path, step: int, ids: Int[Tensor, " tokens"]) -> dict[str, Any]:
    """Accuracy and loss of one checkpoint, and its heads.

    ``in``, ``out``: top-1 accuracy at the query of ``key_retrieval``, with gaps in and out of distribution. ``loss``:
    nats per token of held-out text. ``heads``: those whose attention from the query to the codeword has a selectivity
    of at least ``SELECTIVE``, with it (gaps in distribution).
    """
    subject = loaded(file, step, file.stem).heads()
    batches = {gap: method("batch", "key_retrieval", gap=gap, n=EXAMPLES)(subject.reads) for gap in ("in", "out")}
    zero, top = method("intervention", "zero"), [method("metric", "accuracy")]
    accuracy = {gap: float(subject.evaluate(batch, [()], zero, top).mean()) for gap, batch in batches.items()}
    survey = method("labels", "survey")
    labels = survey(subject.record(batches["in"], {"labels": survey}))
    windows = text(ROWS, ids, LENGTH, torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = next_token_losses(subject.model(input_ids=windows).logits, windows).mean().item()
    heads = dict(zip(labels.units.labels, labels.selectivity["key"], strict=True))
    return {
        **{gap: round(value, 4) for gap, value in accuracy.items()},
        "loss": round(loss, 4),
        "heads": {unit: round(float(ratio), 1) for unit, ratio in heads.items() if ratio >= SELECTIVE},
    }
