"""The neurons of the experts of a mixture as units: what each hands on, read through the experts' own module."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.engine.experts import Experts, experts
from harness.engine.sites import Site, Values
from harness.util.errors import HarnessError


@dataclass(frozen=True, eq=False)
class ExpertNeurons(Site):
    r"""The neurons of all routed experts of one layer, ``L3E17N512``.

    .. math:: o = \sum_{e \in \text{chosen}} w_e \Bigl(\sum_j a_{ej}(x)\, d_{ej} + b_e\Bigr)

    :math:`d_{ej}` is column j of the down projection of expert e. A neuron hands on its activation times the weight of
    its expert, :math:`w_e a_{ej}`: zero for a token that is not routed to the expert. A bias :math:`b_e` belongs to no
    neuron. ``experts``: the site of whole experts in the same module.

    Activations are read by the module itself, with a down projection that hands some neurons on unchanged. So any
    activation function works, and every implementation of transformers (eager, batched_mm, grouped_mm).
    """

    complete: ClassVar[bool] = False
    experts: Experts = field(kw_only=True)

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Values:
        """Every neuron's weighted activation. Width: 1."""
        return self.values_of(inputs, output, torch.arange(len(self.labels), device=output.device))

    def values_of(self, inputs: tuple[Tensor, ...], output: Tensor, units: Int[Tensor, " chosen"]) -> Values:
        """The weighted activations of these neurons, computed for the tokens that are routed to their experts."""
        of_expert, neuron = units // self._inner, units % self._inner
        some: Tensor = torch.unique(of_expert)
        weights = self.experts.weights(inputs).index_select(-1, some)
        *token, place = (weights != 0).nonzero(as_tuple=True)
        values = output.new_zeros(*weights.shape, self._inner)
        if len(place):
            at = (*token, place)
            values[at] = self._activations(inputs[0][tuple(token)], some[place], weights[at]).to(values.dtype)
        return values[..., torch.searchsorted(some, of_expert), neuron, None]

    def add(self, output: Tensor, change: Values, units: Int[Tensor, " changed"]) -> Tensor:
        """The output plus the change, times the columns of these neurons."""
        of_expert, neuron = units // self._inner, units % self._inner
        columns = self._columns[of_expert, :, neuron]
        return output + change[..., 0] @ columns.to(change.dtype)

    def _activations(
        self, tokens: Float[Tensor, "routed width"], expert: Int[Tensor, " routed"], weight: Float[Tensor, " routed"]
    ) -> Float[Tensor, "routed inner"]:
        """The weighted activations of all neurons of one expert for each token."""
        parameters: dict[str, Any] = self.module._parameters
        down, width, found = parameters["down_proj"], tokens.shape[1], []
        for start in range(0, self._inner, width):
            kept = torch.eye(width, self._inner - start, dtype=down.dtype, device=down.device)
            chosen = nn.functional.pad(kept, (start, 0)).expand(len(down), -1, -1)
            reading = copy.copy(self.module)  # the parameters of the module itself stay as they are
            changed: dict[str, Any] = {"down_proj": chosen.mT if _transposed(self.module) else chosen}
            if "down_proj_bias" in parameters:
                changed["down_proj_bias"] = torch.zeros_like(parameters["down_proj_bias"])
            reading._parameters = {**parameters, **changed}
            found.append(reading.forward(tokens, expert[:, None], weight[:, None]))
        return torch.cat(found, dim=1)[:, : self._inner]

    @property
    def _columns(self) -> Float[Tensor, "experts width inner"]:
        down: Any = self.module.down_proj
        columns: Tensor = down.mT if _transposed(self.module) else down
        return columns

    @property
    def _inner(self) -> int:
        return self._columns.shape[2]


def expert_neurons(model: PreTrainedModel) -> list[ExpertNeurons]:
    """The neurons of the experts of every layer that has some.

    Errors: those of :func:`experts`; experts without one tensor of all down projections, or with a norm after it.
    """
    found = []
    for site in experts(model):
        down = getattr(site.module, "down_proj", None)
        if not isinstance(down, Tensor) or down.ndim != 3 or getattr(site.module, "has_post_expert_norm", False):
            raise HarnessError(
                f"{type(model).__name__}: {type(site.module).__name__} does not add up what neurons hand on by one "
                "tensor of down projections.",
                "Whole experts can be units: subject=experts",
            )
        inner = down.shape[1 if _transposed(site.module) else 2]
        labels = [f"{expert}N{neuron}" for expert in site.labels for neuron in range(inner)]
        name = f"L{site.depth}.expert_neurons"
        found.append(ExpertNeurons(name, site.depth, labels, site.module, family="expert_neuron", experts=site))
    return found


def _transposed(module: nn.Module) -> bool:
    """Whether its matrices are stored as [inputs, outputs]."""
    return bool(getattr(module, "is_transposed", False))
