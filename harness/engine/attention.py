"""One attention function, registered with transformers, that every model using AttentionInterface can be switched to.

It computes what the model's own attention computes, and lets the active :class:`Probe` look at the attention row of the
query position and replace the output of single heads, just before the output projection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import eager_mask

from harness.errors import HarnessError

# No "flash", "sdpa", "flex" or "/" in it: transformers gives those words a meaning.
NAME = "closure_harness_probe"


@dataclass
class Probe:
    """What is to happen inside attention during one forward pass.

    ``query`` [rows] is the position looked at. ``rows`` gets each layer's attention row, ``outputs`` each layer's head
    outputs at the query; ``ablate`` sees the head outputs at all positions, and what it returns takes their place.
    """

    query: Int[Tensor, " rows"]
    rows: Callable[[nn.Module, Float[Tensor, "rows heads keys"]], None] | None = None
    outputs: Callable[[nn.Module, Float[Tensor, "rows heads head_dim"]], None] | None = None
    ablate: Callable[[nn.Module, Tensor], Tensor] | None = None
    calls: list[nn.Module] = field(default_factory=list)


_active: ContextVar[Probe | None] = ContextVar("active_probe", default=None)


@contextmanager
def active(probe: Probe) -> Iterator[None]:
    """The probe is shown every attention call of this thread while the block runs."""
    token = _active.set(probe)
    try:
        yield
    finally:
        _active.reset(token)


@contextmanager
def switched(model: PreTrainedModel) -> Iterator[None]:
    """The model computes attention with our function while the block runs; then it is as it was found.

    Errors: a model that does not take the switch (GPT-Neo ignores it with no more than a log line).
    """
    found = [(config, config._attn_implementation) for config in _configs(model)]
    try:
        model.set_attn_implementation(NAME)
        if model.config._attn_implementation != NAME:
            raise uninterceptable(model, "it does not use transformers' AttentionInterface")
        with evaluating(model):
            yield
    finally:
        for config, implementation in found:  # parents first: setting one sets those below it
            config._attn_implementation = implementation


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout while the block runs; then every module is in the mode it was found in."""
    found = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in found:
            module.training = training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No gradient reaches a parameter while the block runs; then those learn again that did before."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _configs(model: PreTrainedModel) -> Iterator[PreTrainedConfig]:
    """The model's configuration and those inside it (a model of text and images has one for each), parents first."""
    waiting = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    seen: set[int] = set()
    while waiting:
        config = waiting.pop(0)
        if id(config) not in seen:
            seen.add(id(config))
            yield config
            inner = (getattr(config, key, None) for key in config.sub_configs)
            waiting += [config for config in inner if isinstance(config, PreTrainedConfig)]


def uninterceptable(model: PreTrainedModel, why: str) -> HarnessError:
    """The refusal of a model whose heads we cannot reach."""
    return HarnessError(
        f"the attention of {type(model).__name__} cannot be intercepted: {why}.",
        "Heads can be recorded and ablated in decoders built on AttentionInterface: GPT-2, Llama, GPT-NeoX, OLMo, "
        "OLMoE, Qwen, Mistral, Gemma, ... For others, write a subject plugin (plugins/subjects/hf.py shows how).",
    )


def attend(
    module: nn.Module,
    query: Float[Tensor, "rows heads positions head_dim"],
    key: Float[Tensor, "rows kv_heads positions head_dim"],
    value: Float[Tensor, "rows kv_heads positions value_dim"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """softmax(scaling q k^T, soft-capped, masked) v -> [rows, positions, heads, value_dim]; no weights are returned."""
    if attention_mask is None or not attention_mask.is_floating_point():  # the future would leak in silently
        raise HarnessError(
            f"{type(module).__name__} asks for attention without a causal mask: it is not a causal model.",
            "Heads can be ablated in decoders that predict the next token.",
        )
    if kwargs.get("s_aux") is not None:
        raise HarnessError(
            f"{type(module).__name__} has attention sinks (s_aux), which the probe does not compute yet.",
            "Choose a model without them: harness list subject",
        )
    if key.shape[1] != query.shape[1]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = attention_mask[..., : key.shape[-2]]
    if softcap is None:
        output = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    else:
        scores = _capped(query @ key.transpose(-1, -2) * scaling, softcap) + mask
        output = scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
    output = output.transpose(1, 2).contiguous()

    probe = _active.get()
    if probe is None:
        return output, None
    probe.calls.append(module)
    row, at = torch.arange(len(query), device=query.device), probe.query.to(query.device)
    if probe.rows is not None:
        scores = (query[row, :, at].unsqueeze(2) @ key.transpose(-1, -2)).squeeze(2) * scaling
        scores = _capped(scores, softcap) + mask.expand(len(query), *mask.shape[1:])[row, :, at]
        probe.rows(module, scores.softmax(-1, dtype=torch.float32))
    if probe.outputs is not None:
        probe.outputs(module, output[row, at])
    if probe.ablate is not None:
        output = probe.ablate(module, output)
    return output, None


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)  # without a mask function of its own the causal mask is dropped
