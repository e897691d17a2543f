"""The input of a metric: logits at the query position, with and without ablation, and the targets."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """``logits`` [rows, vocabulary]: float32, whatever the model's dtype. ``target`` [rows]: token ids.

    ``baseline`` [rows, vocabulary]: the logits without ablation, on the same examples. ``counterfactual`` [rows]: the
    target of each example's counterfactual, where the batch has counterfactuals.
    """

    logits: Float[Tensor, "rows vocabulary"]
    target: Int[Tensor, " rows"]
    baseline: Float[Tensor, "rows vocabulary"] | None = None
    counterfactual: Int[Tensor, " rows"] | None = None
