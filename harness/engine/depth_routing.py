r"""Block attention residuals: decoders in which every sublayer chooses, by a softmax, which earlier outputs it reads.

A sublayer l is an attention or an MLP. Its input is a mixture of sources, which takes the place of the residual stream:

.. math:: h_l = \sum_i \alpha_{i \to l}\, v_i, \qquad
          \alpha_{\cdot \to l} = \operatorname{softmax}_i
          \bigl(w_l^\top \operatorname{RMSNorm}_l(v_i) + b_l\, [i \text{ is the newest source}]\bigr)

The sources are the token embedding, one for each earlier block of ``S`` sublayers, and the newest one:

- ``reset``: a block is the sum of the outputs of its sublayers, and starts from nothing. At the first sublayer of a
  block, the newest source is the block before it; then it is the partial sum. The output is a mixture as well.
- ``cumulative``: the newest source is the running sum of the embedding and all outputs, as in a plain decoder. Blocks
  are copies of it at their first sublayer. The output is the running sum. With a large :math:`b_l` this is the plain
  decoder, so that a trained one can be wrapped.

With :math:`w = 0`, weights are the same for all tokens: :math:`e^b / (e^b + M)` for the newest of M + 1 sources, and
:math:`1 / (e^b + M)` for each other one.

Sources: Kimi Team 2026, "Attention Residuals" (arXiv 2603.15031), without a scale in the softmax, w starting at zero
(``reset``); the open Qwen3 checkpoints that Javadov 2026 (arXiv 2606.13168) examines (``cumulative``).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.engine.attention import evaluating
from harness.engine.decoders import blocks_of
from harness.engine.sites import tensor_in
from harness.util.errors import HarnessError

Form = Literal["reset", "cumulative"]
PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
"""The parts of a layer, in the order in which they run: those of Llama, Mistral, Qwen."""
_ALL_ON_NEWEST = 1e4  # a bias with which the newest source has the weight 1 exactly
_TRIAL = 8  # tokens


class DepthRouter(nn.Module):
    """The mixture that one sublayer reads. It starts as a mean: query zero, gain one, bias zero."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(()))
        self.eps = eps

    def logits(self, sources: Float[Tensor, "*places sources width"]) -> Float[Tensor, "*places sources"]:
        """What the softmax makes weights of."""
        scale = torch.rsqrt(sources.square().mean(-1) + self.eps)
        bias = nn.functional.pad(self.bias[None], (sources.shape[-2] - 1, 0))
        return scale * (sources @ (self.gain * self.query)) + bias  # the norm's scale, taken out of the product

    def forward(self, sources: Float[Tensor, "*places sources width"]) -> Float[Tensor, "*places width"]:
        """The mixture."""
        return (self.logits(sources).softmax(-1)[..., None] * sources).sum(-2)


class RoutedLayer(nn.Module):
    """A decoder layer whose attention and MLP read mixtures. ``output``: it is the last one of a ``reset`` decoder.

    What layers hand on is all their sources [rows, positions, sources, width], the newest one last.
    """

    def __init__(
        self, layer: nn.Module, place: int, form: Form, block: int, width: int, eps: float, last: bool
    ) -> None:
        super().__init__()
        for name in PARTS:
            self.add_module(name, layer.get_submodule(name))
        self.attention_router, self.mlp_router = DepthRouter(width, eps), DepthRouter(width, eps)
        self.output_router = DepthRouter(width, eps) if last and form == "reset" else None
        self.form, self.last = form, last
        self.begins = tuple((2 * place + sublayer) % block == 0 for sublayer in range(2))
        """Whether a block begins with the attention, and with the MLP."""

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """The sources with this layer's outputs; after the last layer, what is unembedded."""
        sources = hidden_states.unsqueeze(-2) if hidden_states.ndim == 3 else hidden_states
        for begins, router, norm, part, given in (
            (self.begins[0], self.attention_router, PARTS[0], PARTS[1], kwargs),
            (self.begins[1], self.mlp_router, PARTS[2], PARTS[3], {}),
        ):
            if begins and self.form == "cumulative":
                sources = torch.cat([sources, sources[..., -1:, :]], dim=-2)
            output = tensor_in(self.get_submodule(part)(self.get_submodule(norm)(router(sources)), **given)).unsqueeze(
                -2
            )
            if begins and self.form == "reset":
                sources = torch.cat([sources, output], dim=-2)
            else:
                sources = torch.cat([sources[..., :-1, :], sources[..., -1:, :] + output], dim=-2)
        if not self.last:
            return sources
        return sources[..., -1, :] if self.output_router is None else self.output_router(sources)


def routed(model: PreTrainedModel, form: Form, block: int) -> PreTrainedModel:
    """The same model with depth routing in place of its residual stream. Its routers start as means.

    ``block``: the sublayers of a block, two for each layer. The model is changed, not copied.

    Errors: layers that are not an attention and an MLP, each after a norm and each added to the stream; less than one
    sublayer.
    """
    name, layers = type(model).__name__, blocks_of(model)
    if block < 1:
        raise HarnessError(f"a block of {block} sublayers is empty.", "Give 1 or more; a layer has two.")
    if any({part for part, _ in layer.named_children()} != {*PARTS} for layer in layers):
        raise HarnessError(
            f"{name}: its layers do not consist of {', '.join(PARTS)}.",
            "Depth routing replaces the residual stream of decoders of the Llama class: Llama, Mistral, Qwen2, Qwen3.",
        )
    holder = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and [*part.children()] == layers)
    width, eps = model.config.get_text_config().hidden_size, float(model.config.get_text_config().rms_norm_eps)
    before, kind = _trial(model), {parameter.dtype for parameter in model.parameters()}
    for place, layer in enumerate(layers):
        holder[place] = RoutedLayer(layer, place, "cumulative", block, width, eps, place + 1 == len(layers))
    _as_the_model(model)
    with_bias(model, _ALL_ON_NEWEST)
    tolerance = (1e-4 if kind == {torch.float32} else 0.05) * float(before.abs().max())
    if not torch.allclose(_trial(model), before, rtol=0, atol=tolerance):
        raise HarnessError(
            f"{name}: its layers do more than add their attention and their MLP to the residual stream.",
            "Depth routing replaces the residual stream of decoders of the Llama class: Llama, Mistral, Qwen2, Qwen3.",
        )
    for place, layer in enumerate(layers):
        holder[place] = RoutedLayer(layer, place, form, block, width, eps, place + 1 == len(layers))
    _as_the_model(model)
    model.eval()
    return model


def routers(model: nn.Module) -> list[DepthRouter]:
    """The routers of a model, from early to late."""
    return [part for part in model.modules() if isinstance(part, DepthRouter)]


def _as_the_model(model: PreTrainedModel) -> None:
    """Give its routers the device and the precision of its other weights."""
    for router in routers(model):
        router.to(next(model.parameters()))


def with_bias(model: PreTrainedModel, bias: float) -> PreTrainedModel:
    """The same model with fixed routing: every query is zero, and every bias has this value. The model is changed."""
    with torch.no_grad():
        for router in routers(model):
            router.query.zero_()
            router.bias.fill_(bias)
    return model


def fixed_weights(sources: int, bias: float) -> list[float]:
    """The weights of fixed routing, the newest source last."""
    newest = 1 / (1 + (sources - 1) * math.exp(-bias))
    other = (1 - newest) / (sources - 1) if sources > 1 else 0.0
    return [*[other] * (sources - 1), newest]


def _trial(model: PreTrainedModel) -> Float[Tensor, "1 tokens outputs"]:
    device = next(model.parameters()).device
    tokens = torch.arange(_TRIAL, device=device).remainder(model.config.get_text_config().vocab_size)[None]
    with evaluating(model), torch.inference_mode():
        logits: Tensor = model(tokens, use_cache=False).logits
    return logits
