"""What a unit hands on at the query, as one number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from harness import HarnessError, Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class Activation(Signal):
    r"""What a unit hands on at the query: its value or, for units of several numbers, their norm.

    .. math:: a_{e,u} = z^{(u)}_{e} \quad (\text{value}), \qquad
              \lVert z^{(u)}_{e} \rVert_2 \quad (\text{norm}), \qquad
              \tfrac{1}{d} \textstyle\sum_i z^{(u)}_{e,i} \quad (\text{mean})

    z is what the unit hands on at the query: the activation of a neuron or latent, the output of a head or an MLP.
    ``reduce=auto`` is the value of units of width 1, and the norm of wider ones. ``source`` reads other values of the
    subject instead, by their name (``harness show subject NAME`` lists them). Sites differ in scale; the transform
    ``standardize`` removes this.

    Input: values of the source [examples, units, width]. Output: activity [examples, units], in units of the source.

    Errors: a source that the subject does not have; ``reduce=value`` for units of several numbers.
    Source: clustering of neurons by their activations, such as Filan et al. 2021 ("Clusterability in neural networks"
    compares it with clustering by weights).
    """

    name: ClassVar[str] = "activation"
    source: Source = field(default="activation", metadata={"help": "the values to read, by name"})
    reduce: Literal["auto", "value", "norm", "mean"] = field(
        default="auto", metadata={"help": "one number from those of a unit; auto: the value, or the norm of several"}
    )

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        width = rows.values.shape[2]
        if self.reduce == "value" and width > 1:
            raise HarnessError(
                f"signal.reduce=value: units of {rows.site} have {width} numbers each in '{self.source}', not one.",
                "Choose signal.reduce=norm, or signal.reduce=mean.",
            )
        reduced: Float[np.ndarray, "examples units"]
        if self.reduce == "mean":
            reduced = rows.values.mean(axis=2)
        elif self.reduce == "norm" or width > 1:
            reduced = np.linalg.norm(rows.values, axis=2)
        else:
            reduced = rows.values[:, :, 0]
        return reduced


@hookimpl
def harness_signals() -> list[type[Activation]]:
    return [Activation]
