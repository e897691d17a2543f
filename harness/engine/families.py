"""All families of units in a Hugging Face decoder, by name, and several of them in one space."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from transformers import PreTrainedModel

from harness.engine.decoders import heads, kv_groups, mlp_layers, mlp_neurons, stream
from harness.engine.depth_routes import depth_routes
from harness.engine.expert_neurons import expert_neurons
from harness.engine.experts import experts
from harness.engine.sites import Site
from harness.util.errors import HarnessError, unknown

FAMILIES: Mapping[str, Callable[[PreTrainedModel], Sequence[Site]]] = {
    "depth_routes": depth_routes,
    "expert_neurons": expert_neurons,
    "experts": experts,
    "heads": heads,
    "kv_groups": kv_groups,
    "mlp_neurons": mlp_neurons,
    "mlp_layers": mlp_layers,
    "stream": stream,
}
"""By name. A unit of a later family may contain units of an earlier one, and its hook has to run after theirs."""

APART: Mapping[tuple[str, str], str] = {
    ("heads", "kv_groups"): "every head is part of a KV group",
    ("experts", "expert_neurons"): "every neuron is part of an expert",
}
"""Families that cannot be in one space, and why."""


def sites_of_families(
    model: PreTrainedModel, families: Collection[str], layers: Collection[int] | None = None
) -> list[Site]:
    """The sites of several families in one space, from early to late. ``layers``: those whose MLP neurons are units.

    Errors: an unknown family; those of each family; heads with KV groups, because every head is part of a KV group;
    experts with their neurons, which run in one module.
    """
    for family in families:
        if family not in FAMILIES:
            raise unknown("family of units", family, FAMILIES)
    for pair, why in APART.items():
        if {*pair} <= {*families}:
            raise HarnessError(f"{' and '.join(pair)} cannot be units of one subject: {why}.", "Choose one of them.")
    sites = [
        site
        for family, find in FAMILIES.items()
        if family in families
        for site in (mlp_neurons(model, layers) if family == "mlp_neurons" else find(model))
    ]
    return sorted(sites, key=lambda site: site.depth)
