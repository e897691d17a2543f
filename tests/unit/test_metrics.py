"""What ablation damages, and what an ablated unit writes: against the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harness.config import registry
from harness.engine.prediction import Prediction

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0], [5.0, -1.0, 2.0]])
TARGET = torch.tensor([1, 2, 2])


def measure(name: str) -> list[float]:
    values: list[float] = registry().get("metric", name).build({})(Prediction(LOGITS, TARGET)).tolist()
    return values


def test_the_target_logit_is_the_entry_of_the_target() -> None:
    assert measure("target_logit") == [3.0, 0.0, 2.0]


def test_accuracy_is_one_where_the_target_is_the_largest() -> None:
    assert measure("accuracy") == [1.0, 0.0, 0.0]  # of equal logits the first is the largest


def test_loss_is_the_negative_log_of_the_targets_probability() -> None:
    rows = LOGITS.numpy().astype(float)
    expected = [math.log(np.exp(row).sum()) - row[target] for row, target in zip(rows, TARGET.tolist(), strict=True)]
    assert measure("loss") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "damage"), [("target_logit", -1), ("accuracy", -1), ("loss", 1)])
def test_damage_points_down_for_what_should_be_high(name: str, damage: int) -> None:
    assert registry().get("metric", name).cls.damage == damage  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_unit_ablated_to_zero_writes_nothing_in_its_own_precision(dtype: torch.dtype) -> None:
    output = torch.randn(2, 3, 4, 5).to(dtype)
    written = torch.where(torch.tensor(True), registry().get("intervention", "zero").build({})(output), output)
    assert written.shape == output.shape
    assert written.dtype == dtype
    assert not written.any()
