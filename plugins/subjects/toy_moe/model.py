"""The toy mixture as a torch module, with its router and its experts apart, as in transformers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Gate(nn.Module):
    """The router: logits, and the weights and numbers of the chosen experts, whose weights sum to 1."""

    def __init__(self, features: int, experts: int, k: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, features))
        self.k = k

    def forward(
        self, inputs: Float[Tensor, "rows features"]
    ) -> tuple[Float[Tensor, "rows experts"], Float[Tensor, "rows chosen"], Int[Tensor, "rows chosen"]]:
        """A softmax over all experts; the largest k are divided by their sum. Of equal ones the first counts."""
        logits = nn.functional.linear(inputs, self.weight)
        weights, order = torch.sort(logits.softmax(-1), dim=-1, descending=True, stable=True)
        weights, chosen = weights[..., : self.k], order[..., : self.k]
        return logits, weights / weights.sum(-1, keepdim=True), chosen


class Experts(nn.Module):
    r"""All experts, :math:`f_e(x) = \mathrm{ReLU}(W_e^\top W_e x + b_e)`; ``weight`` [experts, hidden, features]."""

    def __init__(self, features: int, experts: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(experts, hidden, features))
        self.bias = nn.Parameter(torch.zeros(experts, features))

    def forward(
        self,
        inputs: Float[Tensor, "rows features"],
        chosen: Int[Tensor, "rows chosen"],
        weights: Float[Tensor, "rows chosen"],
    ) -> Float[Tensor, "rows features"]:
        """The weighted sum of the chosen experts' outputs."""
        outputs = torch.zeros_like(inputs)
        for place in range(chosen.shape[1]):
            expert = chosen[:, place]
            matrix = self.weight[expert]
            hidden = torch.einsum("rmn,rn->rm", matrix, inputs)
            found = (torch.einsum("rmn,rm->rn", matrix, hidden) + self.bias[expert]).relu()
            outputs = outputs + weights[:, place, None] * found
        return outputs


class ToyMixture(nn.Module):
    r"""A toy model of superposition with experts, :math:`y = \sum_{e \in \text{top}_k} w_e f_e(x)`.

    With one expert it is the dense toy. Source: Chaudhari et al. (arXiv 2510.23671).
    """

    def __init__(self, features: int, experts: int, hidden: int, k: int = 1) -> None:
        super().__init__()
        self.sizes = {"features": features, "experts": experts, "hidden": hidden, "k": k}
        self.gate = Gate(features, experts, k)
        self.experts = Experts(features, experts, hidden)

    def forward(self, inputs: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """The outputs, one for each feature."""
        _, weights, chosen = self.gate(inputs)
        outputs: Tensor = self.experts(inputs, chosen, weights)
        return outputs
