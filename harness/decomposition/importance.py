"""Importance functions: how much an example needs each subcomponent of a site, before the hard sigmoid."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn


class Importance(nn.Module, ABC):
    """The importance function of one site. Its result is clamped to [0, 1] where it is used as an importance."""

    kind: ClassVar[str]

    @abstractmethod
    def forward(
        self,
        inputs: Float[Tensor, "*rows width"],
        inner: Float[Tensor, "*rows subcomponents"],
        examples: Shaped[Tensor, "*_"] | None,
    ) -> Float[Tensor, "*rows subcomponents"]:
        """From the site's ``inputs``, the ``inner`` activations V_c . inputs, and the model's input ``examples``."""

    @classmethod
    @abstractmethod
    def like(cls, tensors: Mapping[str, Tensor]) -> Importance:
        """A function with tensors of these shapes, to load them into."""


class Gates(Importance):
    r"""A small MLP of each subcomponent reads its inner activation only.

    .. math:: \gamma_c(h) = w^{out}_c \cdot \mathrm{GELU}(w^{in}_c h + b^{in}_c) + b^{out}_c

    Source: Bushnaq et al. 2025.
    """

    kind: ClassVar[str] = "gates"

    def __init__(self, subcomponents: int, hidden: int) -> None:
        super().__init__()
        self.w_in = nn.Parameter(torch.randn(subcomponents, hidden) * math.sqrt(2))
        self.b_in = nn.Parameter(torch.zeros(subcomponents, hidden))
        self.w_out = nn.Parameter(torch.randn(subcomponents, hidden) / math.sqrt(hidden))
        self.b_out = nn.Parameter(torch.zeros(subcomponents))

    def forward(
        self,
        inputs: Float[Tensor, "*rows width"],  # noqa: ARG002
        inner: Float[Tensor, "*rows subcomponents"],
        examples: Shaped[Tensor, "*_"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "*rows subcomponents"]:
        """One scalar function per subcomponent."""
        hidden = nn.functional.gelu(inner[..., None] * self.w_in + self.b_in)
        result: Tensor = (hidden * self.w_out).sum(-1) + self.b_out
        return result

    @classmethod
    def like(cls, tensors: Mapping[str, Tensor]) -> Gates:
        return cls(*tensors["w_in"].shape)


class SiteMlp(Importance):
    r"""One MLP reads the whole input of the site: :math:`W_2\, \mathrm{GELU}(W_1 a + b_1) + b_2`.

    Source: the SPD authors' later configurations (goodfire-ai/param-decomp).
    """

    kind: ClassVar[str] = "mlp"

    def __init__(self, subcomponents: int, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, subcomponents)

    def forward(
        self,
        inputs: Float[Tensor, "*rows width"],
        inner: Float[Tensor, "*rows subcomponents"],  # noqa: ARG002
        examples: Shaped[Tensor, "*_"] | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "*rows subcomponents"]:
        """All subcomponents from one hidden layer."""
        result: Tensor = self.second(nn.functional.gelu(self.first(inputs)))
        return result

    @classmethod
    def like(cls, tensors: Mapping[str, Tensor]) -> SiteMlp:
        hidden, width = tensors["first.weight"].shape
        return cls(len(tensors["second.weight"]), width, hidden)


class FeatureShare(Importance):
    """The importance of an oracle: the size of the input feature that the subcomponent computes.

    ``feature`` [subcomponents]: its place in the model's input; -1: every input, with importance 1.
    """

    kind: ClassVar[str] = "feature"
    feature: Int[Tensor, " subcomponents"]

    def __init__(self, feature: Int[Tensor, " subcomponents"]) -> None:
        super().__init__()
        self.register_buffer("feature", feature)

    def forward(
        self,
        inputs: Float[Tensor, "*rows width"],  # noqa: ARG002
        inner: Float[Tensor, "*rows subcomponents"],  # noqa: ARG002
        examples: Shaped[Tensor, "*_"] | None,
    ) -> Float[Tensor, "*rows subcomponents"]:
        """The absolute value of each one's feature."""
        assert examples is not None  # an oracle decomposes a model of vectors
        share = examples.abs()[..., self.feature.clamp(min=0)]
        return torch.where(self.feature >= 0, share, torch.ones_like(share))

    @classmethod
    def like(cls, tensors: Mapping[str, Tensor]) -> FeatureShare:
        return cls(torch.zeros_like(tensors["feature"]))


IMPORTANCES: Mapping[str, type[Importance]] = {kind.kind: kind for kind in (Gates, SiteMlp, FeatureShare)}
