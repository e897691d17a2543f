"""The input of a metric: a subject's outputs, with and without ablation, and the targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Prediction:
    """``logits`` [rows, outputs]: float32, whatever the model's dtype; those of a language model are at the query.

    ``target`` [rows]: the index of the right output; for vectors, it may be all right outputs [rows, outputs].
    ``baseline`` [rows, outputs]: the logits without ablation, on the same examples. ``counterfactual``: the target of
    each example's counterfactual, where the batch has counterfactuals. ``answers``: sets of right and of wrong answers
    [rows, most] each, -1 after the last one, where the batch has sets.
    """

    logits: Float[Tensor, "rows outputs"]
    target: Int[Tensor, " rows"] | Float[Tensor, "rows outputs"]
    baseline: Float[Tensor, "rows outputs"] | None = None
    counterfactual: Int[Tensor, " rows"] | Float[Tensor, "rows outputs"] | None = None
    answers: tuple[Int[Tensor, "rows _"], Int[Tensor, "rows _"]] | None = None

    def target_class(self, metric: str) -> Int[Tensor, " rows"]:
        """The index of the right output. Errors: targets that are outputs, which ``metric`` cannot use."""
        if self.target.ndim != 1:
            raise HarnessError(
                f"metric={metric} needs a class as the target of every example; these targets are vectors of outputs.",
                "Choose a metric for them: metric=[target_error] or metric=[squared_error].",
            )
        return self.target

    def right_and_wrong(self, metric: str) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        r"""The logit of the right answer and of the wrong one, on every row.

        .. math:: \log\textstyle\sum_{v \in \text{right}} e^{z_v}, \qquad \log\sum_{v \in \text{wrong}} e^{z_v}

        Without sets of answers, the right answer is the target and the wrong one the counterfactual's target: the
        logits themselves. Errors: neither sets nor counterfactuals; targets that are outputs.
        """
        if self.answers is not None:
            right, wrong = (_joined(self.logits, answers) for answers in self.answers)
            return right, wrong
        if self.counterfactual is None:
            raise HarnessError(
                f"metric={metric}: the batch has neither counterfactuals nor wrong answers, which this metric needs.",
                "Use metric=[log_odds,accuracy], or a batch with counterfactuals (batch=random_repeat).",
            )
        classes = self.target_class(metric), self.counterfactual  # the two have the same shape
        right, wrong = (self.logits.gather(1, output[:, None])[:, 0] for output in classes)
        return right, wrong


def _joined(logits: Float[Tensor, "rows outputs"], answers: Int[Tensor, "rows _"]) -> Float[Tensor, " rows"]:
    """Log-sum-exp of the logits of a set of answers."""
    chosen = logits.gather(1, answers.clamp(min=0))
    return chosen.masked_fill(answers < 0, -math.inf).logsumexp(dim=1)
