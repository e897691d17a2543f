"""One attention function, registered with transformers, that every model using AttentionInterface can be switched to.

It computes what the model's own attention computes, and lets the active :class:`Probe` look at the attention row of the
query position and replace the output of single heads, just before the output projection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import causal_mask_function, eager_mask

from harness.util.errors import HarnessError

# No "flash", "sdpa", "flex" or "/" in it: transformers gives those words a meaning.
NAME = "closure_harness_probe"
CAUSAL = f"{NAME}_causal"  # what a mask knows of itself


@dataclass(frozen=True)
class Heads:
    """What one attention module attends with; keys and values may be shared by groups of heads.

    ``mask`` is added to scores: 0 where a position is seen, the lowest number there is where it is not. ``causal``: it
    hides what comes later and no more.
    """

    query: Float[Tensor, "rows heads positions head_dim"]
    key: Float[Tensor, "rows kv_heads keys head_dim"]
    value: Float[Tensor, "rows kv_heads keys value_dim"]
    mask: Float[Tensor, "_ _ positions keys"]
    scaling: float
    softcap: float | None = None
    causal: bool = False

    def first(self, rows: int) -> Heads:
        """The first rows only."""
        mask = self.mask if len(self.mask) == 1 else self.mask[:rows]
        return replace(self, query=self.query[:rows], key=self.key[:rows], value=self.value[:rows], mask=mask)

    def outputs(self) -> Float[Tensor, "rows positions heads value_dim"]:
        """softmax(scaling q k^T, soft-capped, masked) v at every position."""
        query, key, value = self.query, self.shared(self.key), self.shared(self.value)
        if self.softcap is None:
            told: dict[str, Any] = {"is_causal": True} if self.causal else {"attn_mask": self.mask}
            made = nn.functional.scaled_dot_product_attention(query, key, value, scale=self.scaling, **told)
        else:
            scores = self.capped(query @ key.transpose(-1, -2) * self.scaling) + self.mask
            made = scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
        return made.transpose(1, 2).contiguous()

    def rows(self, at: Int[Tensor, " rows"]) -> Float[Tensor, "rows heads keys"]:
        """The attention row of one position per row, in float32."""
        row = torch.arange(len(self.query), device=self.query.device)
        scores = (self.query[row, :, at].unsqueeze(2) @ self.shared(self.key).transpose(-1, -2)).squeeze(2)
        return (self.capped(scores * self.scaling) + self.seen(at)).softmax(-1, dtype=torch.float32)

    def seen(self, at: Int[Tensor, " rows"]) -> Float[Tensor, "rows _ keys"]:
        """The mask of one position per row."""
        rows = len(self.query)
        return self.mask.expand(rows, *self.mask.shape[1:])[torch.arange(rows, device=self.mask.device), :, at]

    def output(self, at: Int[Tensor, " rows"]) -> Float[Tensor, "rows 1 heads value_dim"]:
        """The outputs at one position per row, at the cost of one."""
        value = self.shared(self.value)
        return (self.rows(at).to(value.dtype).unsqueeze(2) @ value).transpose(1, 2)

    def shared(self, by: Float[Tensor, "rows kv_heads *_"]) -> Float[Tensor, "rows heads *_"]:
        """Keys or values, once per head."""
        if by.shape[1] == self.query.shape[1]:
            return by
        return by.repeat_interleave(self.query.shape[1] // by.shape[1], dim=1)

    def capped(self, scores: Tensor) -> Tensor:
        """Scores, pressed into (-softcap, softcap) where the model does that."""
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)


@dataclass
class Probe:
    """What is to happen inside attention during one forward pass.

    ``query`` [rows] is the position looked at. ``rows`` gets each layer's attention row, ``outputs`` each layer's head
    outputs at the query; ``ablate`` sees the head outputs at all positions, and what it returns takes their place.
    ``compute`` does all of it by itself: what it returns are the outputs.
    """

    query: Int[Tensor, " rows"]
    rows: Callable[[nn.Module, Float[Tensor, "rows heads keys"]], None] | None = None
    outputs: Callable[[nn.Module, Float[Tensor, "rows heads head_dim"]], None] | None = None
    ablate: Callable[[nn.Module, Tensor], Tensor] | None = None
    compute: Callable[[nn.Module, Heads], Tensor] | None = None
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
    """:meth:`Heads.outputs`, or what the active probe makes of the heads; no weights are returned."""
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
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = attention_mask[..., : key.shape[-2]]
    causal = mask.shape == attention_mask.shape and getattr(attention_mask, CAUSAL, False)
    heads = Heads(query, key, value, mask, scaling, softcap, causal)
    probe = _active.get()
    if probe is None:
        return heads.outputs(), None
    probe.calls.append(module)
    if probe.compute is not None:
        return probe.compute(module, heads), None
    output = heads.outputs()
    row, at = torch.arange(len(query), device=query.device), probe.query.to(query.device)
    if probe.rows is not None:
        probe.rows(module, heads.rows(at))
    if probe.outputs is not None:
        probe.outputs(module, output[row, at])
    if probe.ablate is not None:
        output = probe.ablate(module, output)
    return output, None


def mask_of(
    batch_size: int,
    q_length: int,
    kv_length: int,
    attention_mask: Tensor | None = None,
    mask_function: Callable[..., Any] = causal_mask_function,
    **told: Any,
) -> Float[Tensor, "_ 1 positions keys"] | None:
    """transformers' mask, to be added to scores; None where a model hides nothing.

    It has one row for all where no text is padded (none are packed here), and knows whether it is causal and no more:
    to read that from its numbers, a GPU would have to finish its work first.
    """
    rows = 1 if attention_mask is None else batch_size
    mask = eager_mask(rows, q_length, kv_length, attention_mask=attention_mask, mask_function=mask_function, **told)
    if mask is not None:
        setattr(mask, CAUSAL, mask_function is causal_mask_function and rows == 1 and q_length == kv_length)
    return mask


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask_of)  # without a mask function of its own the causal mask is dropped
