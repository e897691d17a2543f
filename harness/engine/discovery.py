"""Where a model's heads are, and whether what our attention function sees of them can be trusted."""

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

_TRIAL_TOKENS = 8
_LOUD = 1024.0  # a power of two: scaling by it is exact, and in half precision a bias no longer hides a weight


@dataclass(frozen=True)
class Site:
    """One attention module: its layer, how many heads it has, and the residual block around it.

    ``projection`` is the linear module that is handed the heads' outputs, side by side; None where there is none: some
    models gate or normalise them first. ``before``: the modules of the block that have weights and work before
    attention does (norms, queries, keys, values). ``width``: numbers per position that its widest module is handed.
    ``after``: of the last site, the modules with weights that work after all blocks (the final norm).
    """

    layer: int
    heads: int
    block: nn.Module
    projection: nn.Module | None
    before: tuple[nn.Module, ...]
    width: int
    after: tuple[nn.Module, ...] = ()


def sites_of(model: PreTrainedModel) -> dict[nn.Module, Site]:
    """Every attention module of the model, found by running a few tokens through it.

    Errors: a model that does not call our attention function, calls it twice in a layer, looks ahead, or computes (in
    float32) anything else with it than with its own attention.
    """
    handed: dict[nn.Module, Tensor] = {}
    called: list[nn.Module] = []
    widths: dict[nn.Module, int] = {}
    before: dict[nn.Module, tuple[nn.Module, ...]] = {}
    projections: dict[nn.Module, nn.Module] = {}
    looks_ahead: list[nn.Module] = []
    hooks = ExitStack()

    def watch(module: nn.Module, rows: Tensor) -> None:
        if rows[..., 1:].any():
            looks_ahead.append(module)

    def follow(module: nn.Module, output: Tensor) -> Tensor:
        """See which module inside the attention module is handed its heads' outputs next; of nested ones, the outer."""

        def given(inner: nn.Module, args: tuple[object, ...]) -> None:
            if args and isinstance(args[0], Tensor) and torch.equal(args[0].to(output).flatten(), output.flatten()):
                projections.setdefault(module, inner)

        handed[module] = output
        before[module] = tuple(called)
        for inner in module.modules():
            if inner is not module and inner.state_dict():  # dropout has no weights, and passes on what it is handed
                hooks.callback(inner.register_forward_pre_hook(given).remove)
        return output

    def see(leaf: nn.Module, args: tuple[object, ...]) -> None:
        called.append(leaf)
        if args and isinstance(args[0], Tensor):
            widths[leaf] = args[0].shape[-1]

    tokens = torch.arange(_TRIAL_TOKENS, device=device_of(model)).remainder(model.config.get_text_config().vocab_size)
    probe = Probe(torch.zeros(1, dtype=torch.long, device=tokens.device), rows=watch, ablate=follow)
    with torch.inference_mode():
        with switched(model):
            with hooks, active(probe):
                for leaf in model.modules():
                    if not next(leaf.children(), None) and next(leaf.parameters(), None) is not None:
                        hooks.callback(leaf.register_forward_pre_hook(see).remove)
                ours = model(tokens[None], use_cache=False).logits
            linear = {module: found for module, found in projections.items() if _is_linear(found, handed[module])}
        if not handed:
            raise uninterceptable(model, "no layer calls the registered attention function")
        if looks_ahead:
            raise uninterceptable(model, "a token sees those after it, so it is not a causal model")
        _check_same(model, tokens[None], ours)

    layers = [int(getattr(module, "layer_idx", position)) for position, module in enumerate(handed)]
    if len(set(layers)) != len(layers) or len(probe.calls) != len(layers):
        raise uninterceptable(model, "a layer calls attention more than once")
    blocks = _blocks_around(model, handed)
    inside = {leaf for block in blocks.values() for leaf in block.modules()}
    since = called[len(before[list(handed)[-1]]) :]
    after = tuple(leaf for leaf in since if leaf not in inside and leaf is not model.get_output_embeddings())
    return {
        module: Site(
            layer=layer,
            heads=handed[module].shape[2],
            block=blocks[module],
            projection=linear.get(module),
            before=tuple(leaf for leaf in blocks[module].modules() if leaf in before[module]),
            width=max(widths.get(leaf, 1) for leaf in blocks[module].modules()),
            after=after if layer == max(layers) else (),
        )
        for layer, module in zip(layers, handed, strict=True)
    }


def output_matrix(
    projection: nn.Module, output: Float[Tensor, "rows heads head_dim"]
) -> Float[Tensor, "heads head_dim d_model"]:
    """What the projection multiplies each head's output with, in float32, without its bias.

    Asked of the module as a whole, whatever its class and however its weights are stored. ``output`` is an example of
    what it is handed.
    """
    _, heads, head_dim = output.shape
    width = heads * head_dim
    directions = torch.cat([_LOUD * torch.eye(width), torch.zeros(1, width)]).to(output)
    with torch.no_grad():
        written = projection(directions[None])[0].float()
    matrix: Tensor = (written[:-1] - written[-1]) / _LOUD
    return matrix.view(heads, head_dim, -1)


def _is_linear(projection: nn.Module, output: Float[Tensor, "1 positions heads head_dim"]) -> bool:
    """Whether the whole is the sum of its parts, to what half precision can tell; a norm or a network is not."""
    one = output.flatten(2)
    other = one.flip(1)
    both, nothing, first, second = projection(torch.cat([one + other, torch.zeros_like(one), one, other])).float()
    off = (both + nothing - first - second).abs().max()
    return float(off) <= 0.02 * float(torch.stack([both, nothing, first, second]).abs().max())


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


def _blocks_around(model: PreTrainedModel, attention: Collection[nn.Module]) -> dict[nn.Module, nn.Module]:
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
