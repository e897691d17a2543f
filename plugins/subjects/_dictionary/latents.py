"""A dictionary (encoder, activation function, decoder), and the site whose units are its latents."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness import Site, digest


@dataclass(frozen=True, eq=False)
class Dictionary:
    r"""Latents of an activation x, and the activation that they reconstruct.

    .. math:: f = \phi(W_{enc}\, x + b_{enc}), \qquad \hat y = f\, W_{dec} + b_{dec} \;(+\, W_{skip}\, x)

    :math:`\phi` is a ReLU; with ``threshold``, values up to it are zero (JumpReLU); with ``k``, all but the k largest
    values are zero (TopK). Everything is float32.
    """

    encoder: Float[Tensor, "latents inputs"]
    encoder_bias: Float[Tensor, " latents"]
    decoder: Float[Tensor, "latents outputs"]
    decoder_bias: Float[Tensor, " outputs"]
    threshold: Float[Tensor, " latents"] | None = None
    k: int | None = None
    skip: Float[Tensor, "outputs inputs"] | None = None

    @property
    def activation(self) -> str:
        """The activation function in words."""
        return f"top {self.k}" if self.k else "relu" if self.threshold is None else "jumprelu"

    def to(self, device: torch.device) -> Dictionary:
        """The same dictionary on another device."""
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return Dictionary(**moved)

    @property
    def digest(self) -> str:
        """Digest of all parts."""
        values = (getattr(self, part.name) for part in fields(self))
        return digest(*(value.cpu().numpy() if isinstance(value, Tensor) else value for value in values))

    def encode(
        self, x: Float[Tensor, "*rows inputs"], chosen: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "*rows latents"]:
        """The latents, or only the chosen ones. Only TopK has to compute the others for that."""
        if chosen is not None and self.k is not None:
            return self.encode(x).index_select(-1, chosen)
        encoder, bias, threshold = self.encoder, self.encoder_bias, self.threshold
        if chosen is not None:
            encoder, bias = encoder[chosen], bias[chosen]
            threshold = None if threshold is None else threshold[chosen]
        values = torch.nn.functional.linear(x.float(), encoder, bias).relu()
        if threshold is not None:
            values = torch.where(values > threshold, values, 0.0)
        if self.k is not None:
            largest = values.topk(self.k, dim=-1)
            values = torch.zeros_like(values).scatter(-1, largest.indices, largest.values)
        return values

    def decode(self, latents: Float[Tensor, "*rows latents"], x: Float[Tensor, "*rows inputs"]) -> Tensor:
        """The reconstruction of the output."""
        output = latents @ self.decoder + self.decoder_bias
        return output if self.skip is None else output + x.float() @ self.skip.T


@dataclass(frozen=True, eq=False)
class Latents(Site):
    """Units are the latents of a dictionary; width 1.

    ``encodes``: the module's output (an SAE), or its input (a transcoder). A change of a latent reaches the module's
    output through its row of the decoder. So the error of the reconstruction, the biases and a skip connection stay.
    """

    complete: ClassVar[bool] = False  # the error of the reconstruction belongs to no unit
    dictionary: Dictionary = field(kw_only=True)
    encodes: Literal["output", "input"] = field(default="output", kw_only=True)

    def encoded(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The activation that the dictionary encodes."""
        return output if self.encodes == "output" else inputs[0]

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Float[Tensor, "rows *places units 1"]:
        """All latents."""
        return self.dictionary.encode(self.encoded(inputs, output))[..., None]

    def values_of(
        self, inputs: tuple[Tensor, ...], output: Tensor, units: Int[Tensor, " chosen"]
    ) -> Float[Tensor, "rows *places units 1"]:
        """The latents of these units."""
        return self.dictionary.encode(self.encoded(inputs, output), units)[..., None]

    def add(self, output: Tensor, change: Tensor, units: Int[Tensor, " changed"]) -> Tensor:
        """The output plus the change, times the decoder rows of these latents."""
        return output + (change[..., 0] @ self.dictionary.decoder[units]).to(output.dtype)
