"""What a metric is shown: logits at the query position, what should come, and what came without ablation."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """``logits`` [rows, vocabulary], float32 whatever the model's dtype; ``target`` [rows].

    ``baseline`` [rows, vocabulary]: the baseline model's logits on the same examples; ``counterfactual`` [rows]: the
    answer of each example's counterfactual, where the batch has counterfactuals.
    """

    logits: Float[Tensor, "rows vocabulary"]
    target: Int[Tensor, " rows"]
    baseline: Float[Tensor, "rows vocabulary"] | None = None
    counterfactual: Int[Tensor, " rows"] | None = None
