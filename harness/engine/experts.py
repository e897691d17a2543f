"""The experts of a mixture as units: what each adds to the output, and what the router does without some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from harness.engine.decoders import has_experts
from harness.engine.routers import Router, Routing, routers_of, trial_pass
from harness.engine.sites import Mixture, Values
from harness.util.errors import HarnessError

_ADDING = (torch.add, Tensor.add, Tensor.__add__)


@dataclass(frozen=True, eq=False)
class Experts(Mixture):
    r"""The routed experts of one layer, ``L3E17``.

    .. math:: o = \sum_{e \in \text{chosen}} w_e\, f_e(x)

    An expert hands on its part of the sum, :math:`w_e f_e(x)`: zeros for a token that is not routed to it. ``module``
    runs all experts of the layer; it is called with tokens, the numbers of the chosen experts, and their weights. It
    also computes single experts, so every implementation of transformers works (eager, batched_mm, grouped_mm).
    Experts that every token takes (shared ones) are no units.
    """

    sources: ClassVar[Mapping[str, str]] = {
        "routed": "1 where a token is routed to an expert, else 0 [examples, experts, 1]",
        "gate": "the weight that an expert's output is multiplied by; 0 if not routed [examples, experts, 1]",
        "expert_output": "an expert's output before its weight; zeros if not routed [examples, experts, width]",
    }

    router: Router = field(kw_only=True)

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """Every expert's part of the sum."""
        return self.values_of(inputs, output, torch.arange(len(self.labels), device=output.device))

    def values_of(self, inputs: tuple[Tensor, ...], output: Tensor, units: Int[Tensor, " chosen"]) -> Values:
        """The part of these experts, computed for the tokens that are routed to them."""
        return self._parts(inputs, output, units, self.weights(inputs).index_select(-1, units))

    def reading(self, source: str, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """Parts of the sum, or one of the sources."""
        weights = self.weights(inputs)
        routed = (weights != 0).to(weights.dtype)
        if source == "expert_output":
            return self._parts(inputs, output, torch.arange(len(self.labels), device=output.device), routed)
        read = {"routed": routed, "gate": weights}.get(source)
        return super().reading(source, inputs, output) if read is None else read[..., None]

    def _parts(
        self,
        inputs: tuple[Tensor, ...],
        output: Tensor,
        units: Int[Tensor, " chosen"],
        weights: Float[Tensor, "rows *places chosen"],
    ) -> Values:
        """The outputs of these experts times these weights, for the tokens whose weight is not zero."""
        *token, unit = (weights != 0).nonzero(as_tuple=True)
        values = output.new_zeros(*weights.shape, output.shape[-1])
        if len(unit):
            routed = weights[(*token, unit)][:, None]
            parts = self.module.forward(_tokens(inputs)[tuple(token)], units[unit][:, None], routed)
            values[(*token, unit)] = parts.to(values.dtype)
        return values

    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:  # noqa: ARG002
        """The output plus the changes of all these experts."""
        return output + change.sum(-2)

    def weights(self, inputs: tuple[Tensor, ...]) -> Float[Tensor, "rows *places units"]:
        """The weight of every expert: zero for those that are not chosen."""
        chosen = next(value for value in inputs if value.dtype in (torch.int64, torch.int32))
        given = next(value for value in inputs if value.is_floating_point() and value.shape == chosen.shape)
        empty = given.new_zeros(*given.shape[:-1], len(self.labels))
        return empty.scatter_add(-1, chosen.long(), given)

    def rerouted(
        self, inputs: tuple[Tensor, ...], ablated: Bool[Tensor, "rows *_ units"]
    ) -> Float[Tensor, "rows *places units"]:
        """The weights that the router gives where the logits of ablated experts are minus infinity.

        Errors: a router that needs more experts than are left; one whose logits are not computed as expected.
        """
        tokens = _tokens(inputs)
        flat = ablated.expand(*tokens.shape[:-1], len(self.labels)).flatten(0, -2)
        chosen = self.weights(inputs).count_nonzero(-1).max()
        left = len(self.labels) - int(flat.sum(-1).max())
        if left < int(chosen):
            raise HarnessError(
                f"{self.name}: a token goes to {int(chosen)} of {len(self.labels)} experts, and only {left} are left.",
                "Reroute around fewer experts of a layer, or drop them: intervention=zero",
            )
        with _Masked(flat) as masking:
            found = Routing.of(self.router.module.forward(tokens.flatten(0, -2)))
        if found is None or not masking.used:
            raise HarnessError(
                f"{self.name}: {type(self.router.module).__name__} does not compute its logits by one linear map, so "
                "that tokens cannot be rerouted.",
                "Choose another intervention: zero, renormalise.",
            )
        weights = found.weights.new_zeros(flat.shape).scatter_add(-1, found.chosen, found.weights)
        return weights.masked_fill(flat, 0).reshape(ablated.shape[0], *tokens.shape[1:-1], -1)

    def mixed(self, inputs: tuple[Tensor, ...], output: Tensor, weights: Float[Tensor, "rows *places units"]) -> Tensor:
        """The output with these weights. Tokens whose weights are as they were keep theirs exactly."""
        changed = (weights != self.weights(inputs)).any(-1)
        result = output.clone()
        if changed.any():
            new = weights[changed]
            given, chosen = new.topk(max(int((new != 0).sum(-1).max()), 1), dim=-1)
            result[changed] = self.module.forward(_tokens(inputs)[changed], chosen, given).to(output.dtype)
        return result


def experts(model: PreTrainedModel) -> list[Experts]:
    """The experts of every layer that has some.

    Errors: a dense model; routers that cannot be read; experts that no module runs with their numbers and weights.
    """
    name = type(model).__name__
    if not has_experts(model):
        raise HarnessError(
            f"{name} is a dense model: it has no experts.",
            "Choose a mixture of experts (subject.path=tiny_moe), or other units: subject=mlp_layers",
        )
    routers = routers_of(model, name)
    found = _modules_of(model, routers)
    missing = [router.name for router in routers if router not in found]
    if missing:
        raise HarnessError(
            f"{name}: the experts of {missing[0]} are not run by a module that is given tokens, numbers of experts and "
            "weights.",
            "Whole MLPs can be units instead: subject=mlp_layers",
        )
    return [
        Experts(
            f"L{router.layer}.experts", router.layer, [f"L{router.layer}E{e}" for e in range(router.experts)],
            found[router], family="expert", router=router,
        )
        for router in routers
    ]  # fmt: skip


def _modules_of(model: PreTrainedModel, routers: tuple[Router, ...]) -> Mapping[Router, nn.Module]:
    """The module that runs the experts of each router: it is given the numbers and weights that the router returned."""
    routed: dict[nn.Module, Routing] = {}
    by_module = {router.module: router for router in routers}
    found: dict[Router, nn.Module] = {}

    def watch(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        routing = Routing.of(output) if module in by_module else None
        if routing is not None:
            routed[module] = routing
            return
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        for router, its in routed.items():
            numbers = any(_same(value, its.chosen) for value in given)
            if numbers and any(_same(value, its.weights) for value in given):
                found.setdefault(by_module[router], module)

    trial_pass(model, watch)
    return found


def _same(value: Tensor, other: Tensor) -> bool:
    if value.is_complex() or value.is_floating_point() != other.is_floating_point() or value.numel() != other.numel():
        return False
    return torch.equal(value.reshape(other.shape).to(other.dtype), other)


def _tokens(inputs: tuple[Tensor, ...]) -> Float[Tensor, "rows *places width"]:
    return inputs[0]


class _Masked(TorchFunctionMode):
    """While it is entered, a router's logits are minus infinity for ablated experts, and it does not choose them.

    The second is not implied: a correction bias is added to what makes probabilities, and decides the choice.
    """

    def __init__(self, ablated: Bool[Tensor, "tokens experts"]) -> None:
        super().__init__()
        self._ablated = ablated
        self.used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.topk, Tensor.topk) and args[0].shape == self._ablated.shape:
            args = (self._without(args[0]), *args[1:])
        result = func(*args, **(kwargs or {}))
        if func is nn.functional.linear and len(result) == len(self._ablated):
            self.used = True
            return self._without(result)
        if func in _ADDING and result.shape == self._ablated.shape:  # the bias; groups of experts are chosen by it too
            return self._without(result)
        return result

    def _without(self, values: Float[Tensor, "tokens all_experts"]) -> Float[Tensor, "tokens all_experts"]:
        """Shared experts stand after the routed ones."""
        shared = values.shape[1] - self._ablated.shape[1]
        return values.masked_fill(nn.functional.pad(self._ablated, (0, shared)), torch.finfo(values.dtype).min)
