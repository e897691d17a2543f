"""The input of a metric: a subject's outputs, with and without ablation, and the targets."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Prediction:
    """``logits`` [rows, outputs]: float32, whatever the model's dtype; those of a language model are at the query.

    ``target`` [rows]: the index of the right output; for vectors, it may be all right outputs [rows, outputs].
    ``baseline`` [rows, outputs]: the logits without ablation, on the same examples. ``counterfactual``: the target of
    each example's counterfactual, where the batch has counterfactuals.
    """

    logits: Float[Tensor, "rows outputs"]
    target: Int[Tensor, " rows"] | Float[Tensor, "rows outputs"]
    baseline: Float[Tensor, "rows outputs"] | None = None
    counterfactual: Int[Tensor, " rows"] | Float[Tensor, "rows outputs"] | None = None

    def target_class(self, metric: str) -> Int[Tensor, " rows"]:
        """The index of the right output. Errors: targets that are outputs, which ``metric`` cannot use."""
        if self.target.ndim != 1:
            raise HarnessError(
                f"metric={metric} needs a class as the target of every example; these targets are vectors of outputs.",
                "Choose a metric for them: metric=[target_error] or metric=[squared_error].",
            )
        return self.target
