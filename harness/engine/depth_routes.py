"""The sources of depth routers as units: what each adds to a mixture, and the mixture without some of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.engine.decoders import blocks_of
from harness.engine.depth_routing import DepthRouter, RoutedLayer, fixed_weights
from harness.engine.routers import trial_pass
from harness.engine.sites import Mixture, Site, Values
from harness.util.errors import HarnessError

WEIGHT = "routing_weight"
"""The source that readers of routing weights ask for."""
BANDS = ("early", "middle", "late")
"""Thirds of the layers."""
_INKLING = "Inkling2BlockAttentionResidual"
_ROLES = ("query", "key", "value")


@dataclass(frozen=True, eq=False)
class DepthRoutes(Mixture):
    r"""The sources of one depth router, ``L3.mlp<-b2``.

    .. math:: h = \sum_i \alpha_i v_i

    A source hands on its part of the mixture, :math:`\alpha_i v_i`. Sources that are the same tensor are one unit, and
    its weight is the sum of theirs: ``unit_of`` gives the unit of every source. ``sublayer``: what reads the mixture
    (``attn``, ``mlp``, ``out``; ``query``, ``key``, ``value`` where these have mixtures of their own). ``band``: early,
    middle or late. ``named``: the source of every unit, ``embedding``, ``b2`` (a block) or ``current`` (the newest one:
    the partial or running sum, and where a block begins from nothing, the block before it).
    """

    sources: ClassVar[Mapping[str, str]] = {
        WEIGHT: "weight of a source in the mixture of its router [examples, units, 1]"
    }
    unit_of: Int[Tensor, " sources"] = field(kw_only=True)
    sublayer: str = field(kw_only=True)
    band: str = field(kw_only=True)
    named: Sequence[str] = field(kw_only=True)

    @property
    def origins(self) -> list[str]:
        """The family of every unit's source: embedding, current, or older."""
        return [name if name in ("embedding", "current") else "older" for name in self.named]

    @property
    def bias(self) -> float:
        """What the router adds to the logit of its newest source."""
        return float(self.module.bias.detach()) if isinstance(self.module, DepthRouter) else 0.0

    def fixed(self, bias: float) -> Float[Tensor, " units"]:
        """The weights of the units if the router had no query, and this bias."""
        return self._by_unit(torch.tensor(fixed_weights(len(self.unit_of), bias)), -1)

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """Every unit's part of the mixture."""
        tensors, logits = self._read(inputs)
        return self._by_unit(logits.softmax(-1)[..., None] * tensors, -2).to(output.dtype)

    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:  # noqa: ARG002
        """The output plus the changes of all these sources."""
        return output + change.sum(-2)

    def reading(self, source: str, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """The parts of the mixture, or the weights."""
        return self.weights(inputs)[..., None] if source == WEIGHT else super().reading(source, inputs, output)

    def weights(self, inputs: tuple[Tensor, ...]) -> Float[Tensor, "rows *places units"]:
        """The weight of every unit. They sum to 1."""
        return self._by_unit(self._read(inputs)[1].softmax(-1), -1)

    def rerouted(
        self, inputs: tuple[Tensor, ...], ablated: Bool[Tensor, "rows *_ units"]
    ) -> Float[Tensor, "rows *places units"]:
        """The weights where the logits of ablated sources are minus infinity: the softmax over the others.

        Errors: no source is left.
        """
        if ablated.all(-1).any():
            raise HarnessError(
                f"{self.name}: all its {len(self.labels)} sources are removed, so the sublayer has no input.",
                "Leave at least one source of every router.",
            )
        logits = self._read(inputs)[1]
        return self._by_unit(logits.masked_fill(ablated[..., self._places(logits)], -torch.inf).softmax(-1), -1)

    def mixed(self, inputs: tuple[Tensor, ...], output: Tensor, weights: Float[Tensor, "rows *places units"]) -> Tensor:
        """The output with these weights. Positions whose weights are as they were keep theirs exactly."""
        tensors = self._read(inputs)[0]
        first = torch.stack([(self._places(tensors) == unit).nonzero()[0, 0] for unit in range(len(self.labels))])
        mixture = (weights[..., None] * tensors.index_select(-2, first)).sum(-2).to(output.dtype)
        return mixture.where((weights != self.weights(inputs)).any(-1, keepdim=True), output)

    def _read(self, inputs: tuple[Tensor, ...]) -> tuple[Values, Float[Tensor, "rows *places sources"]]:
        """The sources as they are mixed, and their logits."""
        assert isinstance(self.module, DepthRouter)
        return inputs[0], self.module.logits(inputs[0])

    def _by_unit(self, of_sources: Tensor, dim: int) -> Tensor:
        """Sums over the sources of each unit."""
        shape = [*of_sources.shape]
        shape[dim] = len(self.labels)
        return of_sources.new_zeros(shape).index_add(dim, self._places(of_sources), of_sources)

    def _places(self, like: Tensor) -> Int[Tensor, " sources"]:
        return self.unit_of.to(like.device)


@dataclass(frozen=True, eq=False)
class InklingRoutes(DepthRoutes):
    r"""The sources of a depth router of Inkling 2, whose values are normalised too.

    .. math:: \alpha_i = \operatorname{softmax}_i\bigl(d^{-1/2}\, w^\top \hat v_i\bigr), \quad
              h = \sum_i \alpha_i \hat v_i, \quad \hat v = \operatorname{RMSNorm}(v)

    The query, key and value of full attention have a mixture each, which one module makes: ``returned`` says which.
    """

    def _read(self, inputs: tuple[Tensor, ...]) -> tuple[Values, Float[Tensor, "rows *places sources"]]:
        """The normalised sources, and their logits."""
        module: Any = self.module
        tensors = module.norm(_stacked(inputs).float())
        queries = module.query.float().reshape(-1, tensors.shape[-1])
        return tensors, tensors @ queries[self.returned] * tensors.shape[-1] ** -0.5


def depth_routes(model: PreTrainedModel) -> list[DepthRoutes]:
    """The sources of every depth router that has more than one.

    A few tokens run through the model once: sources that are equal there are one tensor. A router whose sources are all
    one tensor has no units: without it, its sublayer would have no input.

    Errors: a model without depth routers.
    """
    seen: dict[nn.Module, Float[Tensor, "places sources width"]] = {}

    def watch(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], _: Any) -> None:
        if isinstance(module, DepthRouter) or type(module).__name__ == _INKLING:
            seen[module] = _stacked((*args, *kwargs.values())).flatten(0, -3)

    found = list(_routers(model))
    if not found:
        raise HarnessError(
            f"{type(model).__name__} has no depth routers: its layers add to one residual stream.",
            "Wrap it: subject=depth_routes subject.arm=wrapped. Or choose the models that come with the harness: "
            "subject.path=tiny_depth",
        )
    trial_pass(model, watch)
    last = max(layer for _, layer, _, _ in found)
    sites: list[DepthRoutes] = []
    for module, layer, sublayer, place in found:
        unit_of, names = _merged(seen[module])
        if len(names) == 1:
            continue
        kind = DepthRoutes if isinstance(module, DepthRouter) else InklingRoutes
        reader = sublayer if sublayer == "out" else f"L{layer}.{sublayer}"
        sites.append(
            kind(
                f"{reader}.router", layer, [f"{reader}<-{name}" for name in names], module, family="depth_route",
                at_most=len(names) - 1, unit_of=unit_of, sublayer=sublayer, returned=place,
                band=BANDS[3 * layer // (last + 1)], named=names,
            )
        )  # fmt: skip
    return sites


def single_source(model: PreTrainedModel, sites: Sequence[Site]) -> list[str]:
    """The sublayers whose router has one source only, which cannot be ablated."""
    with_units = {(site.depth, site.sublayer) for site in sites if isinstance(site, DepthRoutes)}
    found = ((layer, sublayer) for _, layer, sublayer, _ in _routers(model))
    return [f"L{layer}.{sublayer}" for layer, sublayer in found if (layer, sublayer) not in with_units]


def merged(sites: Sequence[Site]) -> dict[str, int]:
    """The units that are several sources, and how many: they are one tensor."""
    return {
        site.labels[unit]: count
        for site in sites
        if isinstance(site, DepthRoutes)
        for unit, count in enumerate(torch.bincount(site.unit_of).tolist())
        if count > 1
    }


def classes(sites: Sequence[Site]) -> list[str]:
    """The class of every unit: ``early mlp embedding``. The output has no band: ``out older``."""
    return [
        f"out {origin}" if site.sublayer == "out" else f"{site.band} {site.sublayer} {origin}"
        for site in sites
        if isinstance(site, DepthRoutes)
        for origin in site.origins
    ]


def _routers(model: PreTrainedModel) -> Iterator[tuple[nn.Module, int, str, int]]:
    """Every depth router with its layer, what reads it, and which of the module's outputs that is."""
    for layer, block in enumerate(blocks_of(model)):
        if isinstance(block, RoutedLayer):
            yield block.attention_router, layer, "attn", 0
            yield block.mlp_router, layer, "mlp", 0
            if block.output_router is not None:
                yield block.output_router, layer, "out", 0
        for name, sublayer in (("attention_input", "attn"), ("mlp_input", "mlp")):
            module: Any = getattr(block, name, None)
            if type(module).__name__ == _INKLING:
                roles = (sublayer,) if module.query.ndim == 1 else _ROLES
                yield from ((module, layer, role, place) for place, role in enumerate(roles))
    outer: Any = getattr(model.base_model, "final_input", None)
    if type(outer).__name__ == _INKLING:
        yield outer, len(blocks_of(model)) - 1, "out", 0


def _stacked(inputs: Sequence[Any]) -> Float[Tensor, "rows *places sources width"]:
    """The sources: of one tensor, or of blocks and the newest source apart."""
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    if len(tensors) == 1:
        return tensors[0]
    blocks, newest = tensors[:2]
    return torch.cat([blocks, newest.unsqueeze(-2)], dim=-2)


def _merged(sources: Float[Tensor, "places sources width"]) -> tuple[Int[Tensor, " sources"], list[str]]:
    """The unit of every source, and the names of the units. Equal sources are one unit, named by the newest of them."""
    count = sources.shape[1]
    names = (
        ["embedding", *(f"b{block}" for block in range(1, count - 1)), "current"][-count:] if count > 1 else ["current"]
    )
    newest = [max(j for j in range(count) if torch.equal(sources[:, i], sources[:, j])) for i in range(count)]
    kept = sorted(set(newest))
    return torch.tensor([kept.index(place) for place in newest]), [names[place] for place in kept]
