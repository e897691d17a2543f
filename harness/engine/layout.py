"""Where a model's heads are, and whether what our attention function sees of them can be trusted."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.engine.attention import Probe, active, evaluating, switched, uninterceptable

_TRIAL_TOKENS = 8


@dataclass(frozen=True)
class Site:
    """One attention module: its layer, how many heads it has, and the residual block around it."""

    layer: int
    heads: int
    block: nn.Module


def sites_of(model: PreTrainedModel) -> dict[nn.Module, Site]:
    """Every attention module of the model, found by running a few tokens through it.

    Errors: a model that does not call our attention function, calls it twice in a layer, looks ahead, or computes (in
    float32) anything else with it than with its own attention.
    """
    heads: dict[nn.Module, int] = {}
    looks_ahead: list[nn.Module] = []

    def count(module: nn.Module, output: Tensor) -> None:
        heads[module] = output.shape[1]

    def watch(module: nn.Module, rows: Tensor) -> None:
        if rows[..., 1:].any():
            looks_ahead.append(module)

    tokens = torch.arange(_TRIAL_TOKENS, device=device_of(model)).remainder(model.config.get_text_config().vocab_size)
    probe = Probe(torch.zeros(1, dtype=torch.long, device=tokens.device), rows=watch, outputs=count)
    with torch.inference_mode():
        with switched(model), active(probe):
            ours = model(tokens[None], use_cache=False).logits
        if not heads:
            raise uninterceptable(model, "no layer calls the registered attention function")
        if looks_ahead:
            raise uninterceptable(model, "a token sees those after it, so it is not a causal model")
        _check_same(model, tokens[None], ours)

    layers = [int(getattr(module, "layer_idx", position)) for position, module in enumerate(heads)]
    if len(set(layers)) != len(layers) or len(probe.calls) != len(layers):
        raise uninterceptable(model, "a layer calls attention more than once")
    blocks = _blocks_around(model, heads)
    return {module: Site(layer, n, blocks[module]) for layer, (module, n) in zip(layers, heads.items(), strict=True)}


def device_of(model: PreTrainedModel) -> torch.device:
    """Where tokens go in: a model may be spread over several devices."""
    return next(model.get_input_embeddings().parameters()).device


def _check_same(model: PreTrainedModel, tokens: Int[Tensor, "1 positions"], ours: Tensor) -> None:
    """Biases, sinks and the like reach attention as extra arguments; ours would drop them without a word."""
    if ours.dtype != torch.float32:
        return  # half precision moves logits by more than a dropped term might
    with evaluating(model):
        own = model(tokens, use_cache=False).logits
    if float((ours - own).abs().max()) > 1e-3 * float(own.abs().max()):
        raise uninterceptable(model, "its own attention does more than softmax(q k) v, and the probe does not")


def _blocks_around(model: PreTrainedModel, attention: dict[nn.Module, int]) -> dict[nn.Module, nn.Module]:
    """The residual block around each attention module: the nearest numbered ancestor (``model.layers.3``)."""
    modules = dict(model.named_modules())
    blocks = {}
    for name, module in modules.items():
        if module in attention:
            numbered = re.match(r"(.*\.\d+)\.", name)
            if numbered is None:
                raise uninterceptable(model, f"attention module '{name}' does not lie in a numbered block")
            blocks[module] = modules[numbered[1]]
    return blocks
