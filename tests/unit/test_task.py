"""Does the model do the task? Numbers of answers that are known exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from harness.closure.task import Task, task_of
from harness.data.batch import Batch, Counterfactual
from harness.data.contracts import Intervention, Metric, Tick
from harness.data.prediction import Prediction
from harness.data.vectors import Vectors
from harness.registry.config import registry
from harness.testing import examples
from harness.util.seeds import rng_for

OUTPUTS = 8


@dataclass(frozen=True)
class Answering:
    """A model with the given outputs on every example, whatever the right answers are."""

    logits: np.ndarray  # [examples, outputs]

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[tuple[int, ...]],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> np.ndarray:
        assert list(conditions) == [()]
        logits, target = torch.from_numpy(self.logits).float(), torch.from_numpy(batch.target)
        other = torch.from_numpy(batch.counterfactual.target) if batch.counterfactual else None
        prediction = Prediction(logits, target, logits, other)
        return np.stack([metric(prediction).numpy().astype(float) for metric in metrics])[:, None]


def batch_of(target: np.ndarray, other: np.ndarray | None = None) -> Vectors:
    inputs = np.zeros((len(target), 2), dtype=np.float32)
    counterfactual = None if other is None else Counterfactual(inputs, other)
    return Vectors("answers", inputs, target, "class", counterfactual=counterfactual)


def asked(logits: np.ndarray, batch: Batch, *metrics: str, seed: int = 0) -> Task:
    built = [registry().get("metric", name).build({}) for name in metrics]
    return task_of(Answering(logits).evaluate, batch, registry().get("intervention", "zero").build({}), built, seed)


def one_hot(answers: np.ndarray, height: float) -> np.ndarray:
    return height * np.eye(OUTPUTS)[answers]


TARGET = np.arange(40) % OUTPUTS


def test_a_model_that_knows_the_answers_does_the_task() -> None:
    """Logits a and seven zeros: the loss is ln(e^a + 7) - a, the log-odds are a - ln 7."""
    task = asked(one_hot(TARGET, 3.0), batch_of(TARGET), "log_odds", "accuracy")
    assert task.done
    assert task.value == pytest.approx(3 - math.log(7), abs=1e-5)
    assert (task.accuracy, task.chance_accuracy) == (1.0, pytest.approx(1 / 8))
    assert task.loss == pytest.approx(math.log(math.exp(3) + 7) - 3, abs=1e-5)
    assert task.chance_loss == pytest.approx(math.log(8))
    assert task.sentence == "The model does this task: accuracy 1.00 (chance 0.12), loss 0.30 (chance 2.08)."


def test_chance_is_the_share_of_the_most_frequent_answer() -> None:
    often = np.where(np.arange(40) < 24, 0, TARGET)
    assert asked(one_hot(often, 1.0), batch_of(often), "loss").chance_accuracy == np.bincount(often).max() / 40


@given(seed=st.integers(0, 1000))
def test_a_logit_difference_with_other_answers_is_its_negative(seed: int) -> None:
    logits = rng_for(seed, "logits").standard_normal((40, OUTPUTS))
    task = asked(logits, batch_of(TARGET, (TARGET + 1) % OUTPUTS), "logit_difference")
    difference = logits[np.arange(40), TARGET] - logits[np.arange(40), (TARGET + 1) % OUTPUTS]
    assert task.value == pytest.approx(difference.mean(), abs=1e-6)
    assert task.other == pytest.approx(-difference.mean(), abs=1e-6)


def test_a_model_that_prefers_the_counterfactual_answer_does_not_do_the_task() -> None:
    logits = one_hot((TARGET + 1) % OUTPUTS, 2.0) + 0.1 * rng_for(0, "noise").standard_normal((40, OUTPUTS))
    task = asked(logits, batch_of(TARGET, (TARGET + 1) % OUTPUTS), "logit_difference")
    assert not task.done
    assert task.sentence.startswith("The model does not do this task: logit_difference is -2")


@pytest.mark.parametrize("metric", ["log_odds", "target_logit", "loss", "target_rank"])
def test_models_that_ignore_the_question_seldom_do_the_task(metric: str) -> None:
    """An interval of 95 % is wrong on this side in 2.5 % of cases; 9 or more of 100 have a probability of .001."""
    done = 0
    for seed in range(100):
        rng = rng_for(seed, "answers")
        logits = rng.standard_normal((40, OUTPUTS)) + np.linspace(0, 2, OUTPUTS)  # some answers are always likelier
        done += asked(logits, batch_of(rng.integers(OUTPUTS, size=40)), metric, seed=seed).done
    assert binom.sf(8, 100, 0.025) < 0.001
    assert done < 9


def test_accuracy_is_held_against_the_most_frequent_answer() -> None:
    """30 of 40 answers are 0, and the model always says 0: right in .75, which is chance. Its loss depends on them."""
    target = np.where(np.arange(40) < 30, 0, 1)
    logits = one_hot(np.zeros(40, dtype=int), 2.0) + one_hot(target, 1.9)
    alone, with_accuracy = (asked(logits, batch_of(target), *metrics) for metrics in (["loss"], ["loss", "accuracy"]))
    assert alone.done
    assert not with_accuracy.done
    assert with_accuracy.accuracy == with_accuracy.chance_accuracy == 0.75
    assert "accuracy 0.75 is not above chance (0.75; p = 0.5" in with_accuracy.why
    assert binom.sf(29, 40, 0.75) > 0.5


def test_the_test_of_accuracy_is_exact() -> None:
    """Of 40 examples, 10 or more are right by chance (1/8) in 2.3 % of cases, 9 or more in 5.7 %."""
    for right in (9, 10):
        answers = np.where(np.arange(40) < right, TARGET, (TARGET + 1) % OUTPUTS)
        task = asked(one_hot(answers, 1.0), batch_of(TARGET), "kl_to_baseline", "accuracy")
        assert task.done == (binom.sf(right - 1, 40, 1 / 8) <= 0.05) == (right == 10)


@pytest.mark.parametrize("metric", ["kl_to_baseline", "squared_error"])
def test_a_metric_that_does_not_depend_on_the_answers_is_not_checked(metric: str) -> None:
    task = asked(one_hot((TARGET + 1) % OUTPUTS, 2.0), batch_of(TARGET), metric)
    assert (task.done, task.checked, task.other) == (True, False, None)
    assert task.sentence.startswith("It is not checked whether the model does this task. Measured: accuracy 0.00")


def test_one_example_is_not_checked() -> None:
    task = asked(one_hot(TARGET[:1], 2.0), batch_of(TARGET[:1], TARGET[:1] + 1), "logit_difference")
    assert (task.done, task.checked) == (True, False)


def test_right_outputs_are_compared_with_those_of_other_examples() -> None:
    outputs = rng_for(0, "outputs").standard_normal((40, OUTPUTS)).astype(np.float32)
    batch = Vectors("outputs", np.zeros((40, 2), dtype=np.float32), outputs, "outputs")
    exact = asked(outputs, batch, "target_error")
    assert (exact.done, exact.value, exact.accuracy) == (True, 0.0, None)
    assert exact.sentence == f"The model does this task: target_error 0, and {exact.other:.3g} for other answers."
    assert not asked(outputs[::-1].copy(), batch, "target_error").done


def test_other_answers_are_a_cycle_through_all_examples() -> None:
    batch = batch_of(np.arange(20))
    other = batch.with_other_answers(0).target
    assert sorted(other.tolist()) == list(range(20))
    assert (other != batch.target).all()
    assert (other == batch.with_other_answers(0).target).all()
    assert (other != batch.with_other_answers(1).target).any()


@pytest.mark.parametrize("kind", [examples.batch, lambda: batch_of(TARGET, (TARGET + 1) % OUTPUTS)])
def test_answers_are_exchanged_with_those_of_counterfactuals_and_nothing_else_changes(kind: Any) -> None:
    batch: Batch = kind()
    other = batch.with_other_answers(0)
    assert batch.counterfactual is not None
    assert other.counterfactual is not None
    assert (other.target == batch.counterfactual.target).all()
    assert (other.counterfactual.target == batch.target).all()
    assert other.counterfactual.content is batch.counterfactual.content
    assert other.digest != batch.digest
    assert other.with_other_answers(0).digest == batch.digest


def test_two_way_accuracy_has_chance_one_half_and_ignores_other_outputs() -> None:
    """Output 7 is always the most likely one, so accuracy is 0; between the two answers the model is always right."""
    other = (TARGET[::-1] + 1) % (OUTPUTS - 1)
    target = np.where(other == TARGET, (other + 1) % (OUTPUTS - 1), TARGET) % (OUTPUTS - 1)
    other = np.where(target == other, (target + 1) % (OUTPUTS - 1), other)
    logits = one_hot(target, 3.0)
    logits[:, OUTPUTS - 1] = 9.0
    task = asked(logits, batch_of(target, other), "logit_difference", "two_way_accuracy")
    assert task.done
    assert (task.accuracy, task.chance_accuracy) == (1.0, 0.5)
    assert "two-way accuracy 1.00 (chance 0.5)" in task.sentence
    assert not asked(logits, batch_of(target, other), "logit_difference", "accuracy").done


def test_a_model_that_prefers_neither_answer_does_not_do_a_two_way_task() -> None:
    other = (TARGET + 1) % OUTPUTS
    half = np.where(np.arange(len(TARGET)) % 2 == 0, TARGET, other)
    task = asked(one_hot(half, 3.0), batch_of(TARGET, other), "logit_difference", "two_way_accuracy")
    assert not task.done
    assert "accuracy 0.50 is not above chance (0.5" in task.why
