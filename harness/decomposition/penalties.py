"""Penalties on importances: few subcomponents should be needed by an example."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

RARE = 32768
"""Of the frequency term."""


def lp(importance: Float[Tensor, "examples subcomponents"], p: float) -> Float[Tensor, ""]:
    r""":math:`\sum_c \mathrm{mean}_b\, g_{bc}^p`. Source: Bushnaq et al. 2025."""
    return (importance + 1e-12).pow(p).mean(0).sum()  # the gradient of g^p at 0 is infinite below p = 1


def smooth_l0(importance: Float[Tensor, "examples subcomponents"], gamma: float) -> Float[Tensor, " subcomponents"]:
    r""":math:`f_c = \mathrm{mean}_b\, g_{bc}^2 / (g_{bc}^2 + \gamma^2)`: how often each is needed, for small gamma.

    Source: the SPD authors' later configurations (goodfire-ai/param-decomp).
    """
    square = importance.square()
    return (square / (square + gamma**2)).mean(0)


def rarity(frequency: Float[Tensor, " subcomponents"]) -> Float[Tensor, ""]:
    r""":math:`\sum_c f_c \log_2(1 + 32768 f_c)`: a subcomponent that many examples need costs more for each of them.

    Source: as for :func:`smooth_l0`.
    """
    return (frequency * torch.log2(1 + RARE * frequency)).sum()
