"""Measures the checkpoints of `tiny_moe` as they are shipped: losses, copying, routing, heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness_plugins.subjects.tiny.measure import next_token_losses, text
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from harness import HeadSubject, method
from harness.data.corpus import python_documentation
from harness.data.python_source import is_held_out, python_source
from harness.engine.loading import load
from harness.util.digest import digest

DOMAINS = ("english", "code", "repeats")
CONTEXT = 128
ROWS = 64  # held-out sequences per domain
PERIOD = 40  # of the repeats that are measured; never trained


def corpus(held_out: bool) -> dict[str, list[str]]:
    """The documents of the two domains with text: those of the training, or the others."""
    english = [document for document in python_documentation() if is_held_out(document) == held_out]
    return {"english": english, "code": list(python_source(held_out))}


def encoded(documents: dict[str, list[str]], tokenizer: Tokenizer) -> dict[str, Int[Tensor, " tokens"]]:
    """The token ids of each domain; 0 separates documents."""
    return {
        domain: torch.tensor([i for document in tokenizer.encode_batch(part) for i in (0, *document.ids)])
        for domain, part in documents.items()
    }


def measured(weights: Path) -> dict[str, Any]:
    """What the card says about every checkpoint in a folder, and about the heads and experts of the last one."""
    held_out = corpus(held_out=True)
    ids = encoded(held_out, Tokenizer.from_file(str(weights / "tokenizer.json")))
    folders = sorted((weights / "checkpoints").iterdir())
    checkpoints = []
    for folder in folders:
        subject = load(str(folder), tokenizer=str(weights), device="cpu", label=folder.name).heads()
        routing = of_model(subject.model, ids)
        usage = routing.pop("usage")
        step = int(folder.name.removeprefix("step-"))
        checkpoints.append({"step": step, **routing, "accuracy": accuracy(subject)})
    return {
        "held_out_digest": digest(held_out),
        "checkpoints": checkpoints,
        "usage": usage,
        "heads": heads(subject),
    }


def sequences(ids: dict[str, Int[Tensor, " tokens"]], vocabulary: int) -> dict[str, Int[Tensor, "rows positions"]]:
    """Sequences of every domain: windows of text, and different random tokens repeated with a period of ``PERIOD``."""
    rng = torch.Generator().manual_seed(1)
    windows = {domain: text(ROWS, part, CONTEXT, rng) for domain, part in ids.items()}
    once = 1 + torch.rand(ROWS, vocabulary - 1, generator=rng).argsort(1)[:, :PERIOD]
    return {**windows, "repeats": once.repeat(1, CONTEXT // PERIOD + 1)[:, :CONTEXT]}


@torch.no_grad()
def of_model(model: PreTrainedModel, ids: dict[str, Int[Tensor, " tokens"]]) -> dict[str, Any]:
    r"""Loss per domain, copying, and routing.

    ``loss``: nats per token by domain; of repeats, only where the token follows from the first copy. ``copied``: top-1
    accuracy there. ``usage`` [layers, experts, domains]: the share of a domain's tokens whose first expert it is.
    ``entropy`` [layers]: mean entropy of the router's probabilities, in nats (at most ln E). ``information`` [layers]:
    see :func:`information`.
    """
    losses, usage, entropies, copied = {}, [], [], 0.0
    for domain, rows in sequences(ids, model.config.vocab_size).items():
        output = model(input_ids=rows, output_router_logits=True)
        nats = next_token_losses(output.logits, rows)
        if domain == "repeats":
            nats = nats[:, PERIOD:]
            copied = (output.logits[:, PERIOD:-1].argmax(-1) == rows[:, PERIOD + 1 :]).float().mean().item()
        losses[domain] = nats.mean().item()
        logits = torch.stack(list(output.router_logits)).double()  # [layers, tokens, experts]
        log_p = logits.log_softmax(-1)
        entropies.append(-(log_p.exp() * log_p).sum(-1).mean(1).numpy())
        first = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).double()
        usage.append(first.mean(1).numpy())
    shares = np.stack(usage, axis=-1)
    return {
        "loss": rounded(losses),
        "copied": round(copied, 4),
        "entropy": rounded(np.mean(entropies, axis=0)),
        "information": rounded(information(shares)),
        "usage": rounded(shares),
    }


def information(usage: Float[np.ndarray, "layers experts domains"]) -> Float[np.ndarray, " layers"]:
    r"""Mutual information of domain d and first expert e, in nats, by layer; the D domains count alike.

    .. math:: I = \frac1D \sum_{d,e} p(e \mid d) \ln \frac{p(e \mid d)}{p(e)},\qquad 0 \le I \le \ln D
    """
    mean = usage.mean(-1, keepdims=True)
    ratio = np.divide(usage, mean, out=np.ones_like(usage), where=usage > 0)
    found: Float[np.ndarray, " layers"] = (usage * np.log(ratio)).sum(1).mean(-1)
    return found


def accuracy(subject: HeadSubject) -> dict[str, float]:
    """Top-1 accuracy at the query of ``domains``, by domain, and of ``random_repeat``."""
    zero, top = method("intervention", "zero"), [method("metric", "accuracy")]
    batch = method("batch", "domains")(subject.reads)
    hits = subject.evaluate(batch, [()], zero, top).ravel()
    found = {domain: float(hits[batch.groups["domain"] == domain].mean()) for domain in DOMAINS}
    repeat = subject.evaluate(method("batch", "random_repeat")(subject.reads), [()], zero, top)
    return {name: round(value, 4) for name, value in {**found, "random_repeat": float(repeat.mean())}.items()}


def heads(subject: HeadSubject) -> dict[str, dict[str, float]]:
    """The selectivity of every head for every class, at the query of ``domains``."""
    survey = method("labels", "survey")
    labels = survey(subject.record(method("batch", "domains")(subject.reads), {"labels": survey}))
    return {
        unit: {name: round(float(ratios[i]), 1) for name, ratios in labels.selectivity.items()}
        for i, unit in enumerate(labels.units.labels)
    }


def rounded(values: Any) -> Any:
    """Numbers of any nesting with four decimals, as JSON."""
    if isinstance(values, dict):
        return {name: rounded(value) for name, value in values.items()}
    return np.round(values, 4).tolist()
