"""What a metric is shown: logits at the query position, what should come, and what came without ablation."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """``logits`` [rows, vocabulary], float32 whatever the model's dtype; ``target`` [rows].

    ``clean`` [rows, vocabulary]: the untouched model's logits on the same examples; ``counterfactual`` [rows]: the
    answer of each example's twin, where the batch has twins.
    """

    logits: Float[Tensor, "rows vocabulary"]
    target: Int[Tensor, " rows"]
    clean: Float[Tensor, "rows vocabulary"] | None = None
    counterfactual: Int[Tensor, " rows"] | None = None
