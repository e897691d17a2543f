"""Where the units of each family are in a Hugging Face decoder: heads, KV groups, MLPs, neurons, residual blocks.

Only heads and KV groups need a model whose attention can be intercepted (:mod:`harness.engine.discovery`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from harness.engine.discovery import AttentionSite, sites_of
from harness.engine.sites import Columns, Residual, Site, Whole, weight_of
from harness.util.errors import HarnessError

# Names differ between models: mlp, feed_forward, ffn, block_sparse_moe. In OPT, fc1 and fc2 are parts of the block.
_MLP = re.compile(r"mlp|ffn|feed_?forward|moe")
_MIXES_POSITIONS = re.compile(r"att|mixer|mamba|ssm|conv|rwkv|recurrent|temporal")


def mlp_layers(model: PreTrainedModel) -> list[Site]:
    """One unit per layer, ``L3.mlp``: what the MLP writes, before any norm or gate that follows.

    Errors: a block without an MLP.
    """
    return [
        Whole(f"L{layer}.mlp", layer, [f"L{layer}.mlp"], _writer(model, layer, mlp), family="mlp")
        for layer, mlp in enumerate(mlps_of(model))
    ]


def mlp_neurons(model: PreTrainedModel, layers: Collection[int] | None = None) -> list[Site]:
    """The inner activations of the MLPs, ``L3N512``: what the down projection multiplies. ``layers``: None for all.

    Errors: a layer that does not exist; an MLP of experts, or without a linear down projection.
    """
    mlps = mlps_of(model)
    sites: list[Site] = []
    for layer in _checked(layers, len(mlps)):
        down = _down_projection(model, layer, mlps[layer])
        if down is None:
            raise HarnessError(
                f"{type(model).__name__}: the MLP of layer {layer} consists of experts, so it has no dense neurons.",
                "Choose layers with a dense MLP (subject.layers=[...]), or whole MLPs (subject=mlp_layers).",
            )
        labels = [f"L{layer}N{neuron}" for neuron in range(weight_of(down, f"L{layer}.neurons").shape[1])]
        sites.append(Columns(f"L{layer}.neurons", layer, labels, down, family="neuron"))
    return sites


def heads(model: PreTrainedModel) -> list[Site]:
    """Attention heads, ``L3H5``: their outputs before the output projection.

    Errors: a model whose attention cannot be intercepted, or that gates or normalises the outputs of heads.
    """
    return [
        Columns(f"L{layer}.attn", layer, [f"L{layer}H{head}" for head in range(site.heads)], projection, family="head")
        for layer, site, _, projection in _attention(model)
    ]


def kv_groups(model: PreTrainedModel) -> list[Site]:
    """Groups of query heads that share one key-value head, ``L3K1``. Without grouped-query attention: single heads.

    Errors: as :func:`heads`.
    """
    sites: list[Site] = []
    for layer, site, attention, projection in _attention(model):
        groups = site.heads // getattr(attention, "num_key_value_groups", 1)
        labels = [f"L{layer}K{group}" for group in range(groups)]
        sites.append(Columns(f"L{layer}.attn", layer, labels, projection, family="kv_group"))
    return sites


def stream(model: PreTrainedModel) -> list[Site]:
    """One unit per residual block, ``L3.stream``: its output minus its input."""
    return [
        Residual(f"L{layer}.stream", layer, [f"L{layer}.stream"], block, family="stream")
        for layer, block in enumerate(blocks_of(model))
    ]


def blocks_of(model: PreTrainedModel) -> list[nn.Module]:
    """The residual blocks: the ``ModuleList`` with one element for each hidden layer.

    Errors: there is none.
    """
    layers = model.config.get_text_config().num_hidden_layers
    lists = [list(part.children()) for part in model.modules() if isinstance(part, nn.ModuleList)]
    lists = [blocks for blocks in lists if len(blocks) == layers]
    if not lists:
        raise HarnessError(
            f"{type(model).__name__} has no list of {layers} residual blocks (num_hidden_layers).",
            "Define sites of your own for it: harness.engine.sites.",
        )
    return max(lists, key=lambda blocks: sum(weight.numel() for block in blocks for weight in block.parameters()))


def has_experts(module: nn.Module) -> bool:
    """Whether it is, or contains, a mixture of experts."""
    return any("expert" in f"{name} {type(part).__name__}".lower() for name, part in module.named_modules())


def mlps_of(model: PreTrainedModel) -> list[nn.Module]:
    """The MLP of each block: the last part with a weight matrix that treats every position separately.

    Errors: a block without an MLP.
    """
    found = []
    for layer, block in enumerate(blocks_of(model)):
        parts = {name: part for name, part in block.named_children() if any(w.ndim > 1 for w in part.parameters())}
        separate = [name for name in parts if not _MIXES_POSITIONS.search(name)]
        named = [name for name in separate if _MLP.search(name)]
        if not separate:
            raise HarnessError(
                f"{type(model).__name__}: the block of layer {layer} has no MLP; its parts: {', '.join(parts)}.",
                "Choose residual blocks (subject=stream).",
            )
        found.append(parts[(named or separate)[-1]])
    return found


def _writer(model: PreTrainedModel, layer: int, mlp: nn.Module) -> nn.Module:
    """The module whose output is what an MLP adds: in some models (BLOOM, MPT) the MLP also adds the residual."""
    return _down_projection(model, layer, mlp) or mlp


def _down_projection(model: PreTrainedModel, layer: int, mlp: nn.Module) -> nn.Module | None:
    """The last linear module of an MLP, if its output has the hidden size; None for an MLP of experts."""
    if has_experts(mlp):
        return None
    linear = [part for part in mlp.modules() if isinstance(part, nn.Linear | Conv1D)]
    hidden = model.config.get_text_config().hidden_size
    if not linear or weight_of(linear[-1], f"L{layer}.mlp").shape[0] != hidden:
        raise HarnessError(
            f"{type(model).__name__}: the MLP of layer {layer} ({type(mlp).__name__}) does not end in a linear module "
            f"with {hidden} outputs, the hidden size.",
            "Choose residual blocks (subject=stream).",
        )
    return linear[-1]


def _attention(model: PreTrainedModel) -> Iterator[tuple[int, AttentionSite, nn.Module, nn.Module]]:
    """Layer, attention site, attention module and output projection, by layer."""
    for module, site in sorted(sites_of(model).items(), key=lambda found: found[1].layer):
        if site.projection is None:
            raise HarnessError(
                f"{type(model).__name__}: layer {site.layer} gates or normalises the outputs of heads before it "
                "projects them, so they are not blocks of the projection's input.",
                "Ablate its heads with subject=hf.",
            )
        yield site.layer, site, module, site.projection


def _checked(layers: Collection[int] | None, count: int) -> list[int]:
    outside = [layer for layer in layers or () if not 0 <= layer < count]
    if outside:
        raise HarnessError(
            f"subject.layers={list(layers or ())}: the model has no layer {outside[0]}.",
            f"Its layers are 0 to {count - 1}.",
        )
    return sorted(set(range(count) if layers is None else layers))
