"""Toy models whose mechanisms are known: what is decomposed, and what closure is measured against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harness.util.digest import digest


class Toy(nn.Module, ABC):
    """A toy target. Its matrices are plain ``nn.Linear`` modules, found by name. ``sizes``: its constructor's numbers.

    Each feature of the input is one mechanism: features are computed independently of each other.
    """

    kind: ClassVar[str]
    sizes: Mapping[str, int]

    @property
    def width(self) -> int:
        """Numbers of an example, and outputs."""
        return self.sizes["features"]

    @property
    @abstractmethod
    def shared(self) -> tuple[str, ...]:
        """The matrices whose subcomponents every feature needs, as many as the matrix has inputs."""

    @abstractmethod
    def ideal(self, inputs: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """The right outputs."""


class Superposition(Toy):
    r"""Toy model of superposition, :math:`\hat x = \mathrm{ReLU}(W^\top I \cdots I\, W x + b)`.

    ``linear1.weight`` = W [hidden, features], ``hidden.i.weight``: ``identities`` identity matrices, ``linear2.weight``
    = W^T, ``linear2.bias`` = b. The two are separate tensors here: training ties them, and :meth:`tie` copies W.

    Source: Elhage et al. 2022; with an identity: Bushnaq et al. 2025.
    """

    kind: ClassVar[str] = "superposition"

    def __init__(self, features: int, hidden: int, identities: int = 0) -> None:
        super().__init__()
        self.sizes = {"features": features, "hidden": hidden, "identities": identities}
        self.linear1 = nn.Linear(features, hidden, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(identities))
        self.linear2 = nn.Linear(hidden, features)
        with torch.no_grad():
            for identity in self.hidden:
                nn.init.eye_(identity.weight)  # type: ignore[arg-type]  # they are nn.Linear
        self.tie()

    def tie(self) -> None:
        """Make the decoder the transpose of the encoder."""
        with torch.no_grad():
            self.linear2.weight.copy_(self.linear1.weight.T)

    def forward(self, inputs: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """The outputs."""
        values = self.linear1(inputs)
        for identity in self.hidden:
            values = identity(values)
        outputs: Tensor = self.linear2(values).relu()
        return outputs

    @property
    def shared(self) -> tuple[str, ...]:
        """The identities."""
        return tuple(f"hidden.{place}" for place in range(len(self.hidden)))

    def ideal(self, inputs: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """The inputs."""
        return inputs


class ResidualMlp(Toy):
    r"""Residual MLP that computes :math:`y = x + \mathrm{ReLU}(x)` with fewer neurons than features.

    ``embedding`` [features, embed]: fixed rows of length one, read in and out. ``layers.l.mlp_in`` and
    ``layers.l.mlp_out`` without biases, ``neurons`` in each of ``blocks`` blocks. ``orthonormal``: 1 for orthonormal
    rows of the embedding (embed >= features), 0 for random ones.

    Source: Braun et al. 2025; Bushnaq et al. 2025.
    """

    kind: ClassVar[str] = "residual_mlp"
    embedding: Float[Tensor, "features embed"]

    def __init__(self, features: int, embed: int, blocks: int, neurons: int, orthonormal: int = 0) -> None:
        super().__init__()
        self.sizes = {
            "features": features, "embed": embed, "blocks": blocks, "neurons": neurons, "orthonormal": orthonormal
        }  # fmt: skip
        rows = torch.randn(features, embed)
        if orthonormal:
            rows = torch.linalg.qr(rows.T).Q.T
        self.register_buffer("embedding", rows / rows.norm(dim=1, keepdim=True))
        self.layers = nn.ModuleList(_Block(embed, neurons) for _ in range(blocks))

    def forward(self, inputs: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """The outputs."""
        stream = inputs @ self.embedding
        for layer in self.layers:
            stream = layer(stream)
        return stream @ self.embedding.T

    @property
    def shared(self) -> tuple[str, ...]:
        """What neurons write."""
        return tuple(f"layers.{place}.mlp_out" for place in range(len(self.layers)))

    def ideal(self, inputs: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """x + ReLU(x)."""
        return inputs + inputs.relu()


class _Block(nn.Module):
    def __init__(self, embed: int, neurons: int) -> None:
        super().__init__()
        self.mlp_in = nn.Linear(embed, neurons, bias=False)
        self.mlp_out = nn.Linear(neurons, embed, bias=False)

    def forward(self, stream: Float[Tensor, "rows embed"]) -> Float[Tensor, "rows embed"]:
        written: Tensor = self.mlp_out(self.mlp_in(stream).relu())
        return stream + written


TOYS: Mapping[str, type[Toy]] = {toy.kind: toy for toy in (Superposition, ResidualMlp)}


def weights_digest(model: nn.Module) -> str:
    """Digest of a model's weights: names, shapes and numbers. A decomposition belongs to one digest."""
    weights = sorted(model.state_dict().items())
    return digest(*(part for name, value in weights for part in (name, value.detach().cpu().float().numpy())))
