"""Optimal ablation: fitted constants against their closed form, and against means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.board.card import card
from harness.cells.cell import Cell
from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.data.batch import Width
from harness.data.fitting import TargetLoss
from harness.data.vectors import Vectors
from harness.engine.hooked import HookedSubject, _Passes
from harness.engine.sites import Features
from harness.pipeline import run_cell
from harness.registry.config import resolve
from harness.util.cache import Memo
from harness.util.errors import HarnessError
from tests.unit.worlds import build, offered

UNITS, N = 20, 24


def linear() -> tuple[HookedSubject, nn.Sequential]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, UNITS), nn.Linear(UNITS, 3))
    labels = [f"hidden:{unit}" for unit in range(UNITS)]
    return HookedSubject(model, [Features("hidden", 0, labels, model[0])], Width(5, 3), "linear"), model


def vectors(model: nn.Module, seed: int, shift: float = 0.2) -> Vectors:
    """Targets are the model's outputs, plus noise and a shift."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(N, 5)).astype(np.float32)
    with torch.no_grad():
        outputs = model(torch.from_numpy(inputs)).numpy()
    return Vectors("made", inputs, (outputs + rng.normal(shift, 0.3, outputs.shape)).astype(np.float32), "output")


def losses(subject: Any, batch: Any, reference: Any, intervention: Any, groups: list[tuple[int, ...]]) -> np.ndarray:
    values = subject.evaluate(batch, groups, intervention, [TargetLoss()], reference=reference)
    return values[0].mean(axis=1)


def test_constants_of_a_linear_model_are_those_of_least_squares() -> None:
    r"""The least squares of :math:`y - \hat y + w_u h_u = w_u a` are :math:`a = \bar h_u + w_u \bar r / |w_u|^2`."""
    subject, model = linear()
    batch = vectors(model, 0)
    places = np.array([3, 7])
    with torch.inference_mode():
        hidden, weight = model[0](torch.from_numpy(batch.inputs)).numpy(), model[1].weight.numpy()
        residual = batch.target - model(torch.from_numpy(batch.inputs)).numpy()
        passes = _Passes(subject, batch, [(3,), (7,)], build("intervention", "optimal", steps=60), None)
    found = passes._constant["hidden"][0, :, 0].numpy()
    w = weight[:, places]
    expected = hidden[:, places].mean(axis=0) + (residual.mean(axis=0) @ w) / np.square(w).sum(axis=0)
    assert found == pytest.approx(expected, abs=1e-2)
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_where_the_model_makes_no_mean_error_constants_are_means() -> None:
    subject, model = linear()
    batch = vectors(model, 0, shift=0.0)
    exact = Vectors("made", batch.inputs, batch.target - (batch.target - _outputs(model, batch)), "output")
    groups = [(unit,) for unit in range(UNITS)]
    by_mean = losses(subject, exact, exact, build("intervention", "mean"), groups)
    assert losses(subject, exact, exact, build("intervention", "optimal"), groups) == pytest.approx(by_mean, rel=1e-5)


def test_a_constant_does_not_depend_on_what_else_is_asked_for() -> None:
    one, other = linear()[0], linear()[0]
    batch, reference = vectors(one.model, 1), vectors(one.model, 2)
    optimal = build("intervention", "optimal")
    alone = losses(one, batch, reference, optimal, [(4,)])
    among = losses(other, batch, reference, optimal, [(17, 4), (4,), (0,)])
    assert alone[0] == pytest.approx(among[1], rel=1e-6)
    assert losses(one, batch, reference, optimal, [(17, 4)])[0] == pytest.approx(among[0], rel=1e-6)
    assert losses(one, batch, batch, optimal, [(4,)])[0] < alone[0], "other examples, other constants"


def test_zero_steps_are_mean_ablation() -> None:
    subject, model = linear()
    batch, reference = vectors(model, 1), vectors(model, 2)
    groups = [(), (0,), (3, 18)]
    fitted = losses(subject, batch, reference, build("intervention", "optimal", steps=0), groups)
    assert fitted == pytest.approx(losses(subject, batch, reference, build("intervention", "mean"), groups), rel=1e-5)


def test_outputs_without_a_gradient_are_refused() -> None:
    class Stepped(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values.detach()

    model = nn.Sequential(nn.Linear(5, 4), Stepped(), nn.Linear(4, 3))
    subject = HookedSubject(model, [Features("hidden", 0, list("abcd"), model[0])], Width(5, 3), "stepped")
    batch = vectors(model, 0)
    with pytest.raises(HarnessError, match="no gradient by what its units hand on"):
        losses(subject, batch, batch, build("intervention", "optimal"), [(0,)])


def test_on_heads_the_loss_is_at_most_that_of_mean_ablation_and_the_card_says_both() -> None:
    """On the examples of the fit, for every head of the first layer of `tiny`; the card, for the units of the group."""
    memo = Memo()
    words = ["subject=tiny", "batch.n=8", "group=[L0H0,L1H2]", "controls.n=1", "intervention=optimal"]
    cell = Cell.of(resolve([*words, "intervention.steps=3", "controls=uniform"], offered()), offered())
    record = run_cell(cell, memo, Progress(quiet=True)).record
    about = record.diagnostics["fit"]
    assert about["steps"] == 3
    assert about["examples"] == 8
    assert about["loss"] <= about["loss_by_mean"]
    said = f"constants fitted in 3 steps on 8 examples: with one unit ablated, loss {about['loss_by_mean']:.3g} by"
    assert said in card(record)
    inputs = Inputs.gather(cell, memo, Progress(quiet=True), test=True)
    subject, batch = inputs.subject, inputs.test_half
    heads = [(unit,) for unit in range(8)]
    by_mean = losses(subject, batch, batch, build("intervention", "mean"), heads)
    fitted = losses(subject, batch, batch, build("intervention", "optimal", steps=3), heads)
    assert (fitted <= by_mean + 1e-5).all()
    assert fitted.sum() < 0.95 * by_mean.sum()


def test_a_subject_that_gives_no_constants_is_refused_before_anything_runs() -> None:
    cell = Cell.of(resolve(["subject=planted", "batch=planted", "intervention=optimal"], offered()), offered())
    with pytest.raises(HarnessError, match="intervention optimal asks for 'constant', which subject planted"):
        run_cell(cell, Memo(), Progress(quiet=True))


def _outputs(model: nn.Module, batch: Vectors) -> np.ndarray:
    with torch.no_grad():
        outputs: np.ndarray = model(torch.from_numpy(batch.inputs)).numpy()
    return outputs
