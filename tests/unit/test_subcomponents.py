"""Rank-one parts of weight matrices as units, by the public contract only: a toy model of superposition.

Twenty sparse features in ten dimensions: x' = ReLU(W^T W x), where features 2i and 2i + 1 have opposite directions. The
parts of the encoder W are its columns, those of the decoder W^T its rows; a feature needs one of each. This is the
oracle decomposition of stochastic parameter decomposition (Bushnaq et al. 2025), without any training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from harness import HookedSubject, Site, Vectors, Width, method

FEATURES, DIMENSIONS, PRESENT = 20, 10, 0.05
TRUE = [(feature, FEATURES + feature) for feature in range(FEATURES)]
MISMATCHED = [(i, FEATURES + j) for i, j in product(range(FEATURES), repeat=2) if i // 2 != j // 2]


@dataclass(frozen=True, eq=False)
class Subcomponents(Site):
    """Rank-one parts of a matrix: part c writes U_c (V_c x). What it hands on is V_c x; width 1."""

    reads: Float[Tensor, "parts inputs"] = field(kw_only=True)
    writes: Float[Tensor, "parts outputs"] = field(kw_only=True)

    def values(self, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return (inputs[0] @ self.reads.T)[..., None]

    def add(self, output: Tensor, change: Tensor, units: Int[Tensor, " changed"]) -> Tensor:
        return output + change[..., 0] @ self.writes[units]


def superposition(scale: float = 1.0) -> HookedSubject:
    """``scale``: that of the decomposition. What it leaves out of the weights belongs to no unit."""
    directions = torch.zeros(DIMENSIONS, FEATURES)
    for feature in range(FEATURES):
        directions[feature // 2, feature] = 1 if feature % 2 == 0 else -1
    encoder, decoder = nn.Linear(FEATURES, DIMENSIONS, bias=False), nn.Linear(DIMENSIONS, FEATURES)
    with torch.no_grad():
        encoder.weight.copy_(directions)
        decoder.weight.copy_(directions.T)
        decoder.bias.zero_()
    one_each = torch.eye(FEATURES)
    sites = [
        Subcomponents("encoder", 0, [f"encoder:{i}" for i in range(FEATURES)], encoder, family="subcomponent",
                      reads=one_each, writes=scale * directions.T),
        Subcomponents("decoder", 1, [f"decoder:{i}" for i in range(FEATURES)], decoder, family="subcomponent",
                      reads=directions.T, writes=scale * one_each),
    ]  # fmt: skip
    return HookedSubject(nn.Sequential(encoder, decoder, nn.ReLU()), sites, Width(FEATURES, FEATURES), "superposition")


@pytest.fixture(scope="module")
def inputs() -> Float[np.ndarray, "examples features"]:
    rng = np.random.default_rng(0)
    shape = 8192, FEATURES
    values: np.ndarray = (rng.random(shape) * (rng.random(shape) < PRESENT)).astype(np.float32)
    return values


@pytest.fixture(scope="module")
def damage(inputs: np.ndarray) -> dict[tuple[int, ...], Float[np.ndarray, " examples"]]:
    """How much the squared error rises without a group, on every example."""
    batch = Vectors("sparse features", inputs, inputs, "outputs")
    conditions = [(), *((unit,) for unit in range(2 * FEATURES)), *TRUE, *MISMATCHED]
    zero, error = method("intervention", "zero"), [method("metric", "target_error")]
    values = superposition().evaluate(batch, conditions, zero, error)[0]
    return dict(zip(conditions, values - values[0], strict=True))


def z_scores(
    damage: dict[tuple[int, ...], np.ndarray], inputs: np.ndarray, where_active: bool
) -> Float[np.ndarray, " features"]:
    """Of every true pair, against the mismatched pairs that contain none of its parts, on the same examples."""
    scores = []
    for pair in TRUE:
        examples = inputs[:, pair[0]] > 0.1 if where_active else np.ones(len(inputs), dtype=bool)
        others = [damage[group][examples].mean() for group in MISMATCHED if not {*group} & {*pair}]
        scores.append((damage[pair][examples].mean() - np.mean(others)) / np.std(others, ddof=1))
    return np.array(scores)


def interaction(damage: dict[tuple[int, ...], np.ndarray], pair: tuple[int, int]) -> float:
    """The damage of the pair beyond that of its parts, relative to that of the pair."""
    whole, parts = damage[pair].mean(), sum(damage[(unit,)].mean() for unit in pair)
    return float((whole - parts) / whole)


def test_without_ablation_outputs_are_those_of_the_weights(inputs: np.ndarray) -> None:
    h = inputs[:, ::2] - inputs[:, 1::2]
    right = np.maximum(np.stack([h, -h], axis=2).reshape(len(inputs), -1), 0)
    batch = Vectors("sparse features", inputs, right, "outputs")
    error = superposition(0.7).evaluate(batch, [()], method("intervention", "zero"), [method("metric", "target_error")])
    np.testing.assert_array_equal(error, 0)


def test_an_ablated_part_leaves_what_the_decomposition_leaves_out(inputs: np.ndarray) -> None:
    # Of feature 4, 0.3 of the encoder's column stay; feature 5 gets the opposite sign of it.
    h = inputs[:, ::2] - inputs[:, 1::2]
    h[:, 2] = 0.3 * inputs[:, 4] - inputs[:, 5]
    expected = np.maximum(np.stack([h, -h], axis=2).reshape(len(inputs), -1), 0)
    batch = Vectors("sparse features", inputs, expected, "outputs")
    zero, error = method("intervention", "zero"), [method("metric", "target_error")]
    np.testing.assert_allclose(superposition(0.7).evaluate(batch, [(4,)], zero, error), 0, atol=1e-13)


def test_true_pairs_do_less_damage_than_mismatched_pairs_on_average(
    damage: dict[tuple[int, ...], np.ndarray], inputs: np.ndarray
) -> None:
    # A mismatched pair breaks two features, a true pair one.
    pairs, others = ([damage[group].mean() for group in groups] for groups in (TRUE, MISMATCHED))
    assert np.mean(pairs) / np.mean(others) == pytest.approx(0.5, abs=0.05)
    assert np.median(z_scores(damage, inputs, where_active=False)) < -2


def test_true_pairs_do_much_more_damage_where_they_are_active(
    damage: dict[tuple[int, ...], np.ndarray], inputs: np.ndarray
) -> None:
    assert z_scores(damage, inputs, where_active=True).min() > 5


def test_true_pairs_are_chains_and_mismatched_pairs_are_independent(
    damage: dict[tuple[int, ...], np.ndarray],
) -> None:
    pairs, others = ([interaction(damage, group) for group in groups] for groups in (TRUE, MISMATCHED))
    np.testing.assert_allclose(pairs, -1, atol=0.1)
    np.testing.assert_allclose(others, 0, atol=1e-6)
