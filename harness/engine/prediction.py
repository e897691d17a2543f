"""What a metric is shown: logits at the query position, and the token that should come."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Prediction:
    """``logits`` [rows, vocabulary], float32 whatever the model's dtype; ``target`` [rows]."""

    logits: Float[Tensor, "rows vocabulary"]
    target: Int[Tensor, " rows"]
