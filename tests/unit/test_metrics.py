"""Metrics, and the output of an ablated unit, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import rel_entr, softmax
from scipy.stats import rankdata

from harness.data.prediction import Prediction
from harness.registry.config import registry
from harness.util.errors import HarnessError

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0], [5.0, -1.0, 2.0]])
TARGET = torch.tensor([1, 2, 2])


PAIRS = arrays(np.float32, (2, 4, 6), elements=st.sampled_from(np.linspace(-8, 8, 33, dtype=np.float32).tolist()))
"""Logits and the baseline model's, [2, rows, vocabulary], with ties."""


def measure(name: str, prediction: Prediction | None = None) -> list[float]:
    values: list[float] = registry().get("metric", name).build({})(prediction or Prediction(LOGITS, TARGET)).tolist()
    return values


def against(pair: np.ndarray) -> Prediction:
    """A prediction with all its optional parts."""
    logits, baseline = torch.from_numpy(pair)
    return Prediction(logits, torch.tensor([0, 1, 2, 3]), baseline, torch.tensor([5, 4, 3, 2]))


def test_the_target_logit_is_the_entry_of_the_target() -> None:
    assert measure("target_logit") == [3.0, 0.0, 2.0]


def test_accuracy_is_one_where_the_target_is_the_largest() -> None:
    assert measure("accuracy") == [1.0, 0.0, 0.0]  # of equal logits the first is the largest


def test_loss_is_the_negative_log_of_the_targets_probability() -> None:
    rows = LOGITS.numpy().astype(float)
    expected = [math.log(np.exp(row).sum()) - row[target] for row, target in zip(rows, TARGET.tolist(), strict=True)]
    assert measure("loss") == pytest.approx(expected, rel=1e-6)


@given(PAIRS)
def test_the_targets_rank_is_its_mean_rank_from_the_top(pair: np.ndarray) -> None:
    ranks = rankdata(-pair[0], method="average", axis=1) - 1
    assert measure("target_rank", against(pair)) == [ranks[row, row] for row in range(4)]


def test_a_rank_starts_at_zero_and_a_tie_counts_half() -> None:
    assert measure("target_rank") == [0.0, 1.0, 1.0]  # best; level with two others; one above


def test_the_logit_difference_is_the_targets_over_the_counterfactuals() -> None:
    prediction = Prediction(LOGITS, TARGET, counterfactual=torch.tensor([0, 1, 1]))
    assert measure("logit_difference", prediction) == [2.0, 0.0, 3.0]


@given(PAIRS, st.floats(-50, 50, width=16))
def test_the_logit_difference_ignores_a_shift_of_all_logits(pair: np.ndarray, push: float) -> None:
    pushed = np.stack([pair[0] + np.float32(push), pair[1]])
    plain, moved = (measure("logit_difference", against(logits)) for logits in (pair, pushed))
    assert moved == pytest.approx(plain, abs=1e-4)


@given(PAIRS)
def test_the_log_odds_are_the_logarithm_of_the_odds(pair: np.ndarray) -> None:
    p = softmax(pair[0].astype(float), axis=1)[np.arange(4), np.arange(4)]
    np.testing.assert_allclose(measure("log_odds", against(pair)), np.log(p / (1 - p)), atol=1e-4)


@given(PAIRS, st.floats(-50, 50, width=16))
def test_the_log_odds_ignore_a_shift_of_all_logits(pair: np.ndarray, push: float) -> None:
    pushed = np.stack([pair[0] + np.float32(push), pair[1]])
    plain, moved = (measure("log_odds", against(logits)) for logits in (pair, pushed))
    assert moved == pytest.approx(plain, abs=1e-4)


def test_sets_of_answers_are_joined_by_log_sum_exp() -> None:
    """Probabilities .4 + .2 against .1 + .3, then .5 against .2: the log of the ratio, whatever the other outputs."""
    p = np.array([[0.4, 0.1, 0.2, 0.3], [0.1, 0.5, 0.2, 0.2]])
    sets = torch.tensor([[0, 2], [1, -1]]), torch.tensor([[1, 3], [2, -1]])
    prediction = Prediction(torch.from_numpy(np.log(p)).float() + 7, torch.tensor([0, 1]), answers=sets)
    expected = [math.log(0.6 / 0.4), math.log(0.5 / 0.2)]
    assert measure("logit_difference", prediction) == pytest.approx(expected, abs=1e-6)
    assert measure("two_way_accuracy", prediction) == [1.0, 1.0]


def test_sets_of_one_answer_give_the_digits_of_the_two_logits() -> None:
    """So that a file of single answers repeats what the batches of the harness give."""
    logits = torch.randn(64, 50, generator=torch.Generator().manual_seed(0)) * 20
    right, wrong = torch.arange(64) % 50, (torch.arange(64) + 7) % 50
    single = measure("logit_difference", Prediction(logits, right, counterfactual=wrong))
    sets = measure("logit_difference", Prediction(logits, right, answers=(right[:, None], wrong[:, None])))
    assert single == sets


def test_two_way_accuracy_is_the_sign_of_the_logit_difference_and_a_tie_is_not_right() -> None:
    prediction = Prediction(LOGITS, TARGET, counterfactual=torch.tensor([0, 1, 1]))
    assert measure("two_way_accuracy", prediction) == [1.0, 0.0, 1.0]


def test_the_log_odds_of_a_certain_target_are_exact() -> None:
    """With logits a and three zeros the odds are e^a / 3. In float32, 1 - p is 0 from a = 18 on."""
    logits = torch.tensor([[a, 0.0, 0.0, 0.0] for a in (-100.0, 0.0, 18.0, 100.0)])
    found = measure("log_odds", Prediction(logits, torch.zeros(4, dtype=torch.long)))
    assert found == pytest.approx([a - math.log(3) for a in (-100, 0, 18, 100)], rel=1e-6)


@given(PAIRS)
def test_the_divergence_is_the_relative_entropy_of_the_baseline_to_the_prediction(pair: np.ndarray) -> None:
    now, baseline = softmax(pair.astype(float), axis=2)
    assert measure("kl_to_baseline", against(pair)) == pytest.approx(rel_entr(baseline, now).sum(axis=1), abs=1e-5)


def test_the_divergence_of_three_to_one_odds_from_even_odds_has_its_closed_form() -> None:
    """KL(1/2, 1/2 || 3/4, 1/4) = ln(2 / sqrt 3)."""
    prediction = Prediction(torch.tensor([[math.log(3), 0.0]]), torch.tensor([0]), torch.zeros(1, 2))
    assert measure("kl_to_baseline", prediction) == pytest.approx([math.log(2 / math.sqrt(3))])


@given(PAIRS)
def test_the_squared_error_is_the_mean_over_outputs(pair: np.ndarray) -> None:
    expected = ((pair[0].astype(float) - pair[1]) ** 2).mean(axis=1)
    assert measure("squared_error", against(pair)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["kl_to_baseline", "squared_error"])
@given(pair=PAIRS)
def test_the_baseline_model_has_distance_zero_from_itself(name: str, pair: np.ndarray) -> None:
    assert measure(name, against(np.stack([pair[1], pair[1]]))) == [0.0] * 4
    assert min(measure(name, against(pair))) >= 0


@pytest.mark.parametrize(
    ("name", "reason", "fix"),
    [
        ("logit_difference", "has neither counterfactuals nor wrong answers", "metric=[log_odds,accuracy]"),
        ("two_way_accuracy", "has neither counterfactuals nor wrong answers", "metric=[log_odds,accuracy]"),
        ("kl_to_baseline", "baseline model's logits", "Remove this metric"),
        ("squared_error", "baseline model's outputs", "Remove this metric"),
    ],
)
def test_a_metric_without_its_comparison_is_refused(name: str, reason: str, fix: str) -> None:
    with pytest.raises(HarnessError, match=f"metric={name}") as refused:
        measure(name)
    assert reason in refused.value.what
    assert fix in refused.value.fix


@pytest.mark.parametrize("name", registry().names("metric"))
def test_a_row_of_nan_gives_nan_and_does_not_affect_other_rows(name: str) -> None:
    logits = LOGITS.clone()
    logits[1] = math.nan
    target = LOGITS + 1 if name == "target_error" else TARGET  # all right outputs, or classes
    plain, broken = (
        measure(name, Prediction(ablated, target, LOGITS, torch.tensor([0, 1, 1]))) for ablated in (LOGITS, logits)
    )
    assert math.isnan(broken[1])
    assert (broken[0], broken[2]) == (plain[0], plain[2])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("target_logit", -1),
        ("accuracy", -1),
        ("loss", 1),
        ("target_rank", 1),
        ("logit_difference", -1),
        ("log_odds", -1),
        ("two_way_accuracy", -1),
        ("kl_to_baseline", 1),
        ("squared_error", 1),
    ],
)
def test_damage_lowers_metrics_for_which_high_is_good(name: str, damage: int) -> None:
    assert registry().get("metric", name).cls.damage == damage  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_unit_ablated_to_zero_writes_nothing_in_its_own_precision(dtype: torch.dtype) -> None:
    output = torch.randn(2, 3, 4, 5).to(dtype)
    written = torch.where(torch.tensor(True), registry().get("intervention", "zero").build({})(output), output)
    assert written.shape == output.shape
    assert written.dtype == dtype
    assert not written.any()
