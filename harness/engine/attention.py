"""One attention function, registered with transformers, for every model that uses AttentionInterface.

It computes the same as the model's own attention. The active :class:`Probe` can read the attention row of the query
position, and replace the output of single heads just before the output projection.
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
CAUSAL = f"{NAME}_causal"  # attribute of a mask: whether it is causal and nothing else


@dataclass(frozen=True)
class Heads:
    """The inputs of one attention module; groups of heads may share their keys and values.

    ``mask`` is added to scores: 0 where a position is visible, the lowest number of the dtype where it is not.
    ``causal``: the mask hides later positions and nothing else.
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
        query, key, value = self.query, self.per_head(self.key), self.per_head(self.value)
        if self.softcap is None:
            mask: dict[str, Any] = {"is_causal": True} if self.causal else {"attn_mask": self.mask}
            output = nn.functional.scaled_dot_product_attention(query, key, value, scale=self.scaling, **mask)
        else:
            scores = self.capped(query @ key.transpose(-1, -2) * self.scaling) + self.mask
            output = scores.softmax(-1, dtype=torch.float32).to(value.dtype) @ value
        return output.transpose(1, 2).contiguous()

    def weights_at(self, position: Int[Tensor, " rows"]) -> Float[Tensor, "rows heads keys"]:
        """The attention row of one position per row, in float32."""
        row = torch.arange(len(self.query), device=self.query.device)
        scores = (self.query[row, :, position].unsqueeze(2) @ self.per_head(self.key).transpose(-1, -2)).squeeze(2)
        return (self.capped(scores * self.scaling) + self.mask_at(position)).softmax(-1, dtype=torch.float32)

    def mask_at(self, position: Int[Tensor, " rows"]) -> Float[Tensor, "rows _ keys"]:
        """The mask of one position per row."""
        rows = len(self.query)
        return self.mask.expand(rows, *self.mask.shape[1:])[torch.arange(rows, device=self.mask.device), :, position]

    def outputs_at(self, position: Int[Tensor, " rows"]) -> Float[Tensor, "rows 1 heads value_dim"]:
        """The outputs at one position per row. Outputs at other positions are not computed."""
        value = self.per_head(self.value)
        return (self.weights_at(position).to(value.dtype).unsqueeze(2) @ value).transpose(1, 2)

    def per_head(self, shared: Float[Tensor, "rows kv_heads *_"]) -> Float[Tensor, "rows heads *_"]:
        """Keys or values, repeated for the heads that share them."""
        if shared.shape[1] == self.query.shape[1]:
            return shared
        return shared.repeat_interleave(self.query.shape[1] // shared.shape[1], dim=1)

    def capped(self, scores: Tensor) -> Tensor:
        """Scores, squashed into (-softcap, softcap) where the model has a soft cap."""
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)


@dataclass
class Probe:
    """What to do inside attention during one forward pass.

    ``query`` [rows] is the position to read. ``rows`` receives each layer's attention row, ``outputs`` each layer's
    head outputs at the query. ``ablate`` receives the head outputs at all positions and returns those to use instead.
    ``compute`` replaces all of this: it returns the outputs itself. ``calls``: the attention modules called so far.
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
    """The probe sees every attention call of this thread while the block runs."""
    token = _active.set(probe)
    try:
        yield
    finally:
        _active.reset(token)


@contextmanager
def switched(model: PreTrainedModel) -> Iterator[None]:
    """The model computes attention with our function while the block runs; afterwards it is as before.

    Errors: a model that ignores the switch (GPT-Neo does, with only a log line).
    """
    implementations = [(config, config._attn_implementation) for config in _configs(model)]
    try:
        model.set_attn_implementation(NAME)
        if model.config._attn_implementation != NAME:
            raise uninterceptable(model, "it does not use transformers' AttentionInterface")
        with evaluating(model):
            yield
    finally:
        for config, implementation in implementations:  # parents first: setting one also sets those inside it
            config._attn_implementation = implementation


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No dropout while the block runs; afterwards every module is in its former mode."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Parameters get no gradients while the block runs; afterwards the parameters that had gradients get them again."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trainable:
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
            # sub_configs names attributes that a configuration may leave out
            inner = (getattr(config, key, None) for key in config.sub_configs)
            waiting += [config for config in inner if isinstance(config, PreTrainedConfig)]


def uninterceptable(model: PreTrainedModel, why: str) -> HarnessError:
    """The error for a model whose heads cannot be reached."""
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
    """The attention function: :meth:`Heads.outputs`, or what the active probe computes. No weights are returned."""
    if attention_mask is None or not attention_mask.is_floating_point():  # later tokens would leak in silently
        raise HarnessError(
            f"{type(module).__name__} computes attention without a causal mask: it is not a causal model.",
            "Heads can be ablated in decoders that predict the next token.",
        )
    if kwargs.get("s_aux") is not None:
        raise HarnessError(
            f"{type(module).__name__} has attention sinks (s_aux), which the probe does not compute yet.",
            "Choose a model without attention sinks: harness list subject",
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = attention_mask[..., : key.shape[-2]]
    causal = mask.shape == attention_mask.shape and getattr(
        attention_mask, CAUSAL, False
    )  # a model may create its own mask
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
        probe.rows(module, heads.weights_at(at))
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
    **options: Any,
) -> Float[Tensor, "_ 1 positions keys"] | None:
    """transformers' mask, which is added to scores; None where a model hides nothing.

    Without padding it has a single row (texts are never packed here). The attribute ``CAUSAL`` tells whether it is the
    plain causal mask: reading that from its numbers would make a GPU wait.
    """
    rows = 1 if attention_mask is None else batch_size
    mask = eager_mask(rows, q_length, kv_length, attention_mask=attention_mask, mask_function=mask_function, **options)
    if mask is not None:
        setattr(mask, CAUSAL, mask_function is causal_mask_function and rows == 1 and q_length == kv_length)
    return mask


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, mask_of)  # otherwise transformers drops the causal mask
