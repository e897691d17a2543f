"""Ablation by Gaussian noise of matched variance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Noise(Intervention):
    r"""An ablated unit hands on Gaussian noise with the mean and the variance of its output.

    .. math:: o_u(t) \leftarrow c_u + k\, \sigma_u \odot \epsilon_u(t), \qquad \epsilon \sim N(0, 1)

    k is ``scale``; :math:`\sigma_u` is the standard deviation of each number that the unit hands on. ``center=mean``:
    :math:`c_u` is the mean output. With ``scale=1`` the noise then has the mean and variance of the output, and says
    nothing about the example. ``center=output``: the noise is added to the unit's output, which is corrupted but not
    removed. With ``scale=1`` its variance doubles; ROME uses ``scale=3``.

    Question: does the prediction depend on this unit's output, if later layers receive numbers of the usual size?
    Unlike a mean, noise varies between examples. Unlike ``resample``, the numbers of one unit are independent of each
    other, so that units wider than 1 hand on what no example gives. The verdict of noise and of counterfactuals can
    differ (Zhang & Nanda 2024).

    The noise of a unit follows from ``seed``, its label and the example, so that all conditions see the same noise.
    ``over`` and ``per`` are those of ``mean``, and also apply to the standard deviation.

    Input: mean and std [1 or places, units, width], output and noise [rows, places, units, width]. Output: the shape of
    the noise.

    Errors: with ``per=position``, tested examples longer than all examples averaged.
    Source: Meng et al. 2022 (ROME: noise of three standard deviations, added to embeddings); matching mean and variance
    instead is an addition here.
    """

    name: ClassVar[str] = "noise"
    scale: Annotated[float, Ge(0)] = field(
        default=1.0, metadata={"help": "size of the noise, in standard deviations of the output"}
    )
    center: Literal["mean", "output"] = field(
        default="mean", metadata={"help": "noise around the mean output, or added to the output"}
    )
    over: Literal["batch", "reference"] = field(
        default="reference",
        metadata={"help": "mean and variance of the tested examples (batch), or of those proposed on (reference)"},
    )
    per: Literal["all", "position"] = field(
        default="all", metadata={"help": "one mean and variance, or one per position"}
    )
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})
    seed: int = field(default=0, metadata={"help": "seed of the noise"})

    def __call__(
        self, output: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        return (mean if self.center == "mean" else output) + self.scale * std * noise


@hookimpl
def harness_interventions() -> list[type[Noise]]:
    return [Noise]
