"""Measures the embedded model on held-out data, and surveys its heads with the harness itself."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from harness import HeadSubject, method

PERIODS = (16, 40, 56)  # periods of repeated random tokens that are never trained
CLASSES = ("induction", "previous-token", "first-token")


def text(rows: int, ids: Tensor, length: int, rng: torch.Generator) -> Tensor:
    """Random windows of the text, [rows, length]."""
    return ids[torch.randint(len(ids) - length, (rows, 1), generator=rng) + torch.arange(length)]


def next_token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Negative log-likelihood of tokens[:, 1:], [rows, length - 1]."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")


def measure(model: LlamaForCausalLM, held_out: Tensor, n: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Numbers for the log, and the selectivities of every head.

    The numbers: top-1 accuracy at the query of `synthetic_induction` (``n`` examples) and of copying repeated random
    tokens; loss on held-out text, in nats per token; the highest selectivity of any head for each of ``CLASSES``.
    """
    training = model.training
    model.eval()
    subject = HeadSubject(model, "tiny")
    batch = method("batch", "synthetic_induction", n=n)(subject)
    hits = subject.evaluate(batch, [()], method("intervention", "zero"), [method("metric", "accuracy")])
    survey = method("labels", "survey")
    labels = survey(subject.record(batch, {"labels": survey}))
    measured = {"induction_accuracy": float(hits.mean())}
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for period in PERIODS:
            once = torch.randint(1, model.config.vocab_size, (32, period), generator=rng).to(model.device)
            copied = model(input_ids=torch.cat([once, once], 1)).logits[:, period:-1].argmax(-1) == once[:, 1:]
            measured[f"copied_at_period_{period}"] = copied.float().mean().item()
        windows = text(n, held_out, model.config.max_position_embeddings, rng).to(model.device)
        losses = [next_token_losses(model(input_ids=part).logits, part) for part in torch.split(windows, 50)]
    measured["text_loss"] = torch.cat(losses).mean().item()
    measured |= {f"best_{name}": float(np.max(labels.selectivity[name])) for name in CLASSES}
    model.train(training)
    heads = {
        unit: {name: round(float(ratios[i]), 1) for name, ratios in labels.selectivity.items()}
        for i, unit in enumerate(labels.units.labels)
    }
    return measured, heads
