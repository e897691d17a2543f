"""Where a model's heads are, and whether our attention function computes the same as the model's own.

Names and classes of modules differ between models. Therefore a few tokens run through the model, and hooks observe
which modules work before attention, which one takes the heads' outputs, and which work after the last block.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.engine.attention import Probe, active, evaluating, switched, uninterceptable
from harness.engine.finite import not_finite

_TRIAL_TOKENS = 8
_LOUD = 1024.0  # a power of two: scaling by it is exact, and in half precision a bias no longer hides a weight


@dataclass(frozen=True)
class AttentionSite:
    """One attention module: its layer, its heads, and the residual block around it.

    ``value_dim``: numbers that a head hands on per position. ``projection`` is the linear module whose input is the
    heads' outputs, side by side; None where a model gates or normalises them first. ``before``: the modules of the
    block that have weights and work before attention (norms, queries, keys, values). ``width``: numbers per position
    that its widest module takes. ``after``: for the last site, the modules with weights that work after all blocks (the
    final norm).
    """

    layer: int
    heads: int
    value_dim: int
    block: nn.Module
    projection: nn.Module | None
    before: tuple[nn.Module, ...]
    width: int
    after: tuple[nn.Module, ...] = ()


def sites_of(model: PreTrainedModel) -> dict[nn.Module, AttentionSite]:
    """Every attention module of the model that calls our attention function.

    Errors: a model that does not call it, calls it twice in a layer, sees later tokens, or gives other logits (in
    float32) with it than with its own attention.
    """
    count = model.config.get_text_config().vocab_size
    tokens = torch.arange(_TRIAL_TOKENS, device=device_of(model)).remainder(count)[None]
    observed = _Observed()
    with torch.inference_mode():
        with switched(model):
            logits = observed.run(model, tokens)
            linear = observed.linear_projections()
        if not observed.outputs:
            raise uninterceptable(model, "no layer calls the registered attention function")
        if logits.isnan().any():
            raise not_finite(type(model).__name__, "it predicts NaN", model)
        if observed.looks_ahead:
            raise uninterceptable(model, "a token sees later tokens, so it is not a causal model")
        _check_same(model, tokens, logits)
    # transformers numbers the attention modules of most models; where it does not, they run in the order of layers.
    layers = [int(getattr(module, "layer_idx", place)) for place, module in enumerate(observed.outputs)]
    if len(set(layers)) != len(layers) or observed.calls != len(layers):
        raise uninterceptable(model, "a layer calls attention more than once")
    blocks = _blocks_around(model, observed.outputs)
    after = observed.after(blocks.values(), model)
    return {
        module: AttentionSite(
            layer=layer,
            heads=observed.outputs[module].shape[2],
            value_dim=observed.outputs[module].shape[3],
            block=blocks[module],
            projection=linear.get(module),
            before=observed.before(module, blocks[module]),
            width=max(observed.widths.get(leaf, 1) for leaf in blocks[module].modules()),
            after=after if layer == max(layers) else (),
        )
        for layer, module in zip(layers, observed.outputs, strict=True)
    }


class _Observed:
    """Observations from one pass of a model. A *leaf* is a module that has weights and no modules inside.

    ``outputs``: the head outputs of each attention module; ``leaves``: in the order in which they ran; ``started``: how
    many leaves had run when an attention module computed its heads; ``projections``: the module that took the head
    outputs of an attention module; ``widths``: numbers per position that each leaf took; ``calls`` of our attention
    function.
    """

    def __init__(self) -> None:
        self.outputs: dict[nn.Module, Tensor] = {}
        self.leaves: list[nn.Module] = []
        self.started: dict[nn.Module, int] = {}
        self.projections: dict[nn.Module, nn.Module] = {}
        self.widths: dict[nn.Module, int] = {}
        self.looks_ahead = False
        self.calls = 0
        self._hooks = ExitStack()

    def run(self, model: PreTrainedModel, tokens: Int[Tensor, "1 positions"]) -> Tensor:
        """Observe one pass. Returns its logits."""
        first_position = torch.zeros(1, dtype=torch.long, device=tokens.device)
        probe = Probe(first_position, rows=self._read_rows, ablate=self._keep_outputs)
        with self._hooks, active(probe):
            for module in model.modules():
                if not next(module.children(), None) and next(module.parameters(), None) is not None:
                    self._hooks.callback(module.register_forward_pre_hook(self._keep_leaf).remove)
            logits: Tensor = model(tokens, use_cache=False).logits
        self.calls = len(probe.calls)
        return logits

    def linear_projections(self) -> dict[nn.Module, nn.Module]:
        """The output projection of each attention module, if the heads' outputs reach it unchanged."""
        return {a: taker for a, taker in self.projections.items() if _is_linear(taker, self.outputs[a])}

    def before(self, attention: nn.Module, block: nn.Module) -> tuple[nn.Module, ...]:
        """The leaves of a block that ran before its attention."""
        ran = set(self.leaves[: self.started[attention]])
        return tuple(leaf for leaf in block.modules() if leaf in ran)

    def after(self, blocks: Collection[nn.Module], model: PreTrainedModel) -> tuple[nn.Module, ...]:
        """The leaves that ran after all blocks, without the unembedding."""
        others = {leaf for block in blocks for leaf in block.modules()} | {model.get_output_embeddings()}
        last = list(self.outputs)[-1]
        return tuple(leaf for leaf in self.leaves[self.started[last] :] if leaf not in others)

    def _keep_leaf(self, leaf: nn.Module, args: tuple[object, ...]) -> None:
        self.leaves.append(leaf)
        if args and isinstance(args[0], Tensor):
            self.widths[leaf] = args[0].shape[-1]

    def _read_rows(self, _: nn.Module, rows: Float[Tensor, "1 heads keys"]) -> None:
        self.looks_ahead = self.looks_ahead or bool(rows[..., 1:].any())

    def _keep_outputs(self, attention: nn.Module, output: Tensor) -> Tensor:
        """Keep the head outputs, and observe which inner module takes them next (of nested modules, the outermost)."""

        def takes(inner: nn.Module, args: tuple[object, ...]) -> None:
            if args and isinstance(args[0], Tensor) and torch.equal(args[0].to(output).flatten(), output.flatten()):
                self.projections.setdefault(attention, inner)

        self.outputs[attention] = output
        self.started[attention] = len(self.leaves)
        for inner in attention.modules():
            if inner is not attention and inner.state_dict():  # dropout has no weights, and may return its input
                self._hooks.callback(inner.register_forward_pre_hook(takes).remove)
        return output


def output_matrix(
    projection: nn.Module, output: Float[Tensor, "rows heads head_dim"]
) -> Float[Tensor, "heads head_dim d_model"]:
    """The matrix by which a projection multiplies each head's output, in float32, without the bias.

    It is measured on unit vectors, because modules store weights in many ways. ``output`` is an example of the
    projection's input.
    """
    _, heads, head_dim = output.shape
    width = heads * head_dim
    directions = torch.cat([_LOUD * torch.eye(width), torch.zeros(1, width)]).to(output)
    with torch.no_grad():
        written = projection(directions[None])[0].float()
    matrix: Tensor = (written[:-1] - written[-1]) / _LOUD
    return matrix.view(heads, head_dim, -1)


def _is_linear(projection: nn.Module, output: Float[Tensor, "1 positions heads head_dim"]) -> bool:
    """Whether f(a + b) + f(0) = f(a) + f(b), up to half precision; a norm or an MLP does not fulfil it."""
    a = output.flatten(2)
    b = a.flip(1)
    of_sum, of_zero, of_a, of_b = projection(torch.cat([a + b, torch.zeros_like(a), a, b])).float()
    error = (of_sum + of_zero - of_a - of_b).abs().max()
    return float(error) <= 0.02 * float(torch.stack([of_sum, of_zero, of_a, of_b]).abs().max())


def device_of(model: PreTrainedModel) -> torch.device:
    """The device of the token embeddings; a model may be spread over several devices."""
    return next(model.get_input_embeddings().parameters()).device


def _check_same(model: PreTrainedModel, tokens: Int[Tensor, "1 positions"], ours: Tensor) -> None:
    """Refuse a model whose own attention gives other logits.

    Some models hand biases or sinks to attention as extra arguments, which our function would ignore silently.
    """
    if ours.dtype != torch.float32:
        return  # half precision changes logits by more than an ignored term might
    with evaluating(model):
        own_logits = model(tokens, use_cache=False).logits
    if float((ours - own_logits).abs().max()) > 1e-3 * float(own_logits.abs().max()):
        raise uninterceptable(model, "its own attention does more than softmax(q k) v, and the probe does not")


def _blocks_around(model: PreTrainedModel, attention: Collection[nn.Module]) -> dict[nn.Module, nn.Module]:
    """The residual block around each attention module: the nearest numbered ancestor (``model.layers.3``)."""
    modules = dict(model.named_modules())
    blocks = {}
    for name, module in modules.items():
        if module in attention:
            numbered = re.match(r"(.*\.\d+)\.", name)
            if numbered is None:
                raise uninterceptable(model, f"attention module '{name}' is not inside a numbered block")
            blocks[module] = modules[numbered[1]]
    return blocks
