"""The task itself: whether the model, without ablation, answers the examples better than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from harness.closure.intervals import mean_interval
from harness.closure.trial import Evaluate
from harness.data.batch import Batch
from harness.data.contracts import Intervention, Metric, no_tick

if TYPE_CHECKING:
    from torch import Tensor  # loaded at first use: `harness list` must stay fast

    from harness.data.prediction import Prediction

LEVEL = 0.05
"""Of the test of accuracy."""


@dataclass(frozen=True)
class Task:
    """How well a model does a task without ablation.

    ``metric``: the first one; ``value``: its mean over the examples; ``other``: its mean with other answers, those of
    the counterfactuals or of other examples (None: the metric does not depend on the answers). ``accuracy`` and
    ``loss`` (cross-entropy, in nats) are None where targets are not classes. ``chance_accuracy``: the share of the most
    frequent target. ``chance_loss``: log(outputs), the loss of a model that gives
    the same probability to every output. ``two_way``: accuracy is that between the right and the wrong answer,
    whose chance is one half; the loss is None where an example has several right answers. ``checked``: whether
    anything could be compared with chance. ``why``: why the model does not do the task; empty where it does, or
    where that is not checked.
    """

    metric: str
    value: float
    other: float | None
    accuracy: float | None = None
    chance_accuracy: float | None = None
    loss: float | None = None
    chance_loss: float | None = None
    checked: bool = True
    why: str = ""
    two_way: bool = False

    @property
    def done(self) -> bool:
        """Whether the model does the task better than chance, as far as this can be checked."""
        return not self.why

    @property
    def sentence(self) -> str:
        """The result for a reader."""
        numbers = self._numbers
        if self.done and self.checked:
            compared = f"{self.metric} {self.value:.3g}, and {self.other:.3g} for other answers"
            return f"The model does this task: {numbers or compared}."
        unchecked = "It is not checked whether the model does this task."
        found = f"The model does not do this task: {self.why}." if self.why else unchecked
        return found + (f" Measured: {numbers}." if numbers else "")

    @property
    def _numbers(self) -> str:
        """Accuracy and loss beside chance; empty where targets are not classes."""
        parts = []
        if self.accuracy is not None and self.chance_accuracy is not None:
            name = "two-way accuracy" if self.two_way else "accuracy"
            parts.append(f"{name} {self.accuracy:.2f} (chance {self.chance_accuracy:.2g})")
        if self.loss is not None and self.chance_loss is not None:
            parts.append(f"loss {self.loss:.2f} (chance {self.chance_loss:.2f})")
        return ", ".join(parts)


def task_of(evaluate: Evaluate, batch: Batch, intervention: Intervention, metrics: Sequence[Metric], seed: int) -> Task:
    """Evaluate the task without ablation. ``metrics``: those that decide, the first one first.

    The model does not do the task if

    - the first metric is not better with the right answers than with other ones: the 95 % interval of the paired
      difference holds zero or lies on the other side. Other answers are those of the counterfactuals (so the mean of
      ``logit_difference`` must be above 0), or else of other examples. Not checked: a single example, and a metric with
      the same value for other answers on every example, such as ``squared_error``;
    - accuracy (or two-way accuracy) decides and is not above chance: exact binomial test, one-sided, at .05.

    Cost: two passes of the batch.
    """
    first, classes = metrics[0], batch.target.ndim == 1
    names = [metric.name for metric in metrics]
    two_way = classes and "two_way_accuracy" in names
    right_answer: Metric = Preferred() if two_way else Right()
    measured = [first, *((right_answer, CrossEntropy(), Uniform()) if classes else ())]
    values = evaluate(batch, [()], intervention, measured, no_tick)[:, 0]
    others = evaluate(batch.with_other_answers(seed), [()], intervention, [first], no_tick)[0, 0]
    depends = not np.array_equal(values[0], others)
    by_accuracy = two_way or (classes and "accuracy" in names)
    task = Task(
        metric=first.name,
        value=float(values[0].mean()),
        other=float(others.mean()) if depends else None,
        checked=(depends and len(batch) > 1) or by_accuracy,
    )
    reasons = [_compared(task, first.damage * (others - values[0]), seed)] if depends else []
    if classes:
        right, loss, uniform = values[1:]
        most_frequent = float(np.unique(batch.target, return_counts=True)[1].max() / len(batch))
        chance = 0.5 if two_way else most_frequent
        one_answer = batch.answers is None or not batch.answers.several
        task = replace(
            task,
            accuracy=float(right.mean()),
            chance_accuracy=chance,
            loss=float(loss.mean()) if one_answer else None,
            chance_loss=float(uniform[0]),
            two_way=two_way,
        )
        if by_accuracy:
            reasons.append(_above_chance(right, chance))
    return replace(task, why="; ".join(filter(None, reasons)))


def _compared(task: Task, gains: Float[np.ndarray, " examples"], seed: int) -> str:
    """Why the first metric is not certainly better with the right answers; empty if it is."""
    interval = mean_interval(gains, seed)
    if interval is None or interval[0] > 0:
        return ""
    return (
        f"{task.metric} is {task.value:.3g} for the right answers and {task.other:.3g} for other ones "
        f"(better by {gains.mean():.2g} [{interval[0]:.2g}, {interval[1]:.2g}])"
    )


def _above_chance(right: Float[np.ndarray, " examples"], chance: float) -> str:
    """Why accuracy is not above chance; empty if it is."""
    from scipy.stats import binomtest

    p = binomtest(int(right.sum()), len(right), chance, alternative="greater").pvalue
    return "" if p <= LEVEL else f"accuracy {right.mean():.2f} is not above chance ({chance:.2g}; p = {p:.2g})"


@dataclass(frozen=True)
class Right(Metric):
    """1 where the target is the most likely output, else 0."""

    name: ClassVar[str] = "right"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> Tensor:
        return (prediction.logits.argmax(dim=1) == prediction.target_class(self.name)).float()


@dataclass(frozen=True)
class Preferred(Metric):
    """1 where the right answer is more likely than the wrong one, else 0."""

    name: ClassVar[str] = "preferred"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> Tensor:
        right, wrong = prediction.right_and_wrong(self.name)
        return (right > wrong).float()


@dataclass(frozen=True)
class CrossEntropy(Metric):
    """Cross-entropy of the target, in nats."""

    name: ClassVar[str] = "cross_entropy"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(prediction.logits, prediction.target_class(self.name), reduction="none")


@dataclass(frozen=True)
class Uniform(Metric):
    """Cross-entropy of a model that gives the same probability to every output, in nats."""

    name: ClassVar[str] = "uniform"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> Tensor:
        return prediction.logits.new_full((len(prediction.logits),), math.log(prediction.logits.shape[1]))
