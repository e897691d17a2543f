"""What the embedded model can do, on what it was not trained on; its heads are surveyed by the harness itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from harness import HeadSubject
from harness.registry.config import registry

PERIODS = (16, 40, 56)  # of random tokens said twice; never trained
NAMED = ("induction", "previous-token", "first-token")


def text(rows: int, ids: Tensor, length: int, rng: torch.Generator) -> Tensor:
    """Random windows of the text, [rows, length]."""
    return ids[torch.randint(len(ids) - length, (rows, 1), generator=rng) + torch.arange(length)]


def next_token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Negative log-likelihood of tokens[:, 1:], [rows, length - 1]."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")


def measure(model: LlamaForCausalLM, held_out: Tensor, n: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Numbers for the log, and every head's selectivities.

    Top-1 accuracy at the query of `synthetic_induction` (``n`` examples), and of copying random tokens said twice; loss
    on held-out text, in nats per token; the best selectivity any head has for the classes in ``NAMED``.
    """
    training = model.training
    model.eval()
    subject = HeadSubject(model, "tiny")
    batch = _method("batch", "synthetic_induction", n=n)(subject)
    hits = subject.evaluate(batch, [()], _method("intervention", "zero"), [_method("metric", "accuracy")])
    survey = _method("labels", "survey")
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
    measured |= {f"best_{name}": float(np.max(labels.selectivity[name])) for name in NAMED}
    model.train(training)
    heads = {
        unit: {name: round(float(ratios[i]), 1) for name, ratios in labels.selectivity.items()}
        for i, unit in enumerate(labels.units.labels)
    }
    return measured, heads


def _method(stage: str, name: str, **parameters: Any) -> Any:
    return registry().get(stage, name).build(parameters)
