"""Optimal ablation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Optimal(Intervention):
    r"""An ablated unit hands on one constant: the one with which the model does best without the unit.

    .. math:: o_u(t) \leftarrow a_u, \qquad a_u = \arg\min_a \ \mathbb{E}_e \, L\bigl(M_{u \leftarrow a}(e)\bigr)

    L is the cross-entropy of the target at the query (of vectors with target outputs: their mean squared error), and
    :math:`M_{u \leftarrow a}` the model with unit u alone ablated by a. Zeros and means can also mislead what follows
    ("spoofing"), and that damage is not due to what the unit knows; the optimal constant does the least damage of any.

    Constants are fitted by Adam from the unit's mean: ``steps`` steps, in units of the standard deviation of its
    output, with a ``rate`` that falls to zero. The best of all steps is taken, so that on the examples of the fit the
    loss is at most that of mean ablation. The card says both losses. A group hands on the constants of its units. They
    are not fitted again for the group, so that every group of a test is ablated by the same rule; constants of the
    whole group at once could do less damage.

    ``over=reference`` fits on the examples proposed on (if there are no separate ones, on the tested examples);
    ``over=batch`` on the tested examples.

    Input: constant [1, units, width]. Output: the same.

    Errors: a subject that does not give constants (``planted``); outputs without a gradient.
    Cost: steps + 1 passes with gradients for each unit of the sites that are ablated, once per process. FLOPs of a
    record do not count them.
    Source: Li & Janson 2024 (optimal ablation), who also fit the constants of whole circuits.
    """

    name: ClassVar[str] = "optimal"
    steps: Annotated[int, Ge(0)] = field(default=20, metadata={"help": "steps of the fit; 0: the mean"})
    rate: Annotated[float, Gt(0)] = field(
        default=0.3, metadata={"help": "size of the first step, in standard deviations of the unit's output"}
    )
    over: Literal["batch", "reference"] = field(
        default="reference",
        metadata={"help": "fit on the tested examples (batch), or on those proposed on (reference)"},
    )
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __call__(self, constant: torch.Tensor) -> torch.Tensor:
        return constant


@hookimpl
def harness_interventions() -> list[type[Optimal]]:
    return [Optimal]
