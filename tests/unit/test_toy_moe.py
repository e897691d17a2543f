"""The toy mixture of experts: geometry from theory, ablation that leaves other inputs exactly as they are."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from harness_plugins.subjects.toy_moe.geometry import Geometry, features_of
from harness_plugins.subjects.toy_moe.model import ToyMixture
from harness_plugins.subjects.toy_moe.train import SHIPPED, start, train
from hypothesis import given
from hypothesis import strategies as st

from harness import HarnessError, HookedSubject, Vectors, method

SIZES = {name: tuple(map(int, name.split("-")[0].split("x"))) for name in SHIPPED}


@cache
def subject_of(size: str = "4x5", init: str = "ordered") -> HookedSubject:
    return method("subject", "toy_moe", size=size, init=init)()


@cache
def batch() -> Vectors:
    return method("batch", "sparse_features", n=512, present=0.1)(subject_of().reads)


def test_dimensionality_of_known_arrangements() -> None:
    """Two orthogonal features: 1 each. Opposite ones: 1/2. Three at 120 degrees in a plane: 2/3. None: 0."""
    angle = 2 * np.pi * np.arange(3) / 3
    experts = np.zeros((3, 2, 3))
    experts[0] = [[1, 0, 0], [0, 2, 0]]
    experts[1] = [[1, -1, 0], [0, 0, 0.5]]
    experts[2] = [np.cos(angle), np.sin(angle)]
    _, dimensionality, interference = features_of(experts)
    np.testing.assert_allclose(dimensionality, [[1, 1, 0], [0.5, 0.5, 1], [2 / 3] * 3])
    np.testing.assert_allclose(dimensionality.sum(1), 2.0)  # the sum is the number of dimensions
    np.testing.assert_allclose(interference, [[0, 0, 0], [1, 1, 0], [0.5] * 3], atol=1e-12)


@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(1, 9))
def test_the_sum_of_dimensionality_is_never_above_the_rank(seed: int, hidden: int, features: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((1, hidden, features))
    _, dimensionality, _ = features_of(weight)
    assert dimensionality.sum() <= min(hidden, features) + 1e-9
    assert (dimensionality <= 1 + 1e-9).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_dimensionalities_of_a_trained_toy_sum_to_experts_times_dimensions(name: str) -> None:
    """The published rule: measured 20.0 for 4 x 5 in all three initialisations."""
    size, init = name.split("-")
    experts, hidden = SIZES[name]
    for seed in range(3):
        toy = method("subject", "toy_moe", size=size, init=init, seed=seed).load()
        geometry = Geometry.of(toy)
        trained = geometry.dimensionality.sum() / (experts * hidden)
        assert 0.9 <= trained <= 1 + 1e-9, seed
        assert geometry.loss < 0.5 * geometry.idle
        assert geometry.usage.sum() == pytest.approx(1.0)


def test_experts_become_monosemantic_in_the_features_that_are_routed_to_them() -> None:
    """As published: experts are used for their monosemantic features, which are those that the router gave them."""
    inside, monosemantic = 0, 0
    for init in ("ordered", "shuffled"):
        for seed in range(3):
            toy = method("subject", "toy_moe", size="4x5", init=init, seed=seed).load()
            geometry, own = Geometry.of(toy), toy.gate.weight.numpy() > 0
            monosemantic += int(geometry.monosemantic.sum())
            inside += int((geometry.monosemantic & own).sum())
            has = (geometry.monosemantic & own).any(1)
            assert (geometry.usage_on_own[has] > geometry.usage[has]).all()
    assert monosemantic > 10
    assert inside / monosemantic > 0.7  # a quarter of the features are an expert's own


@pytest.mark.parametrize("intervention", ["zero", "renormalise", "reroute", "swap", "routed_mean"])
def test_examples_that_are_not_routed_to_an_expert_change_by_exactly_zero(intervention: str) -> None:
    """The built-in negative control."""
    subject, metric = subject_of(), method("metric", "squared_error")
    routed = subject.record(batch(), {"usage": method("signal", "usage")}).readings["usage"] > 0
    np.testing.assert_array_equal(routed.sum(1), 1)
    found = subject.evaluate(batch(), [(), (0,), (1, 3)], method("intervention", intervention), [metric])[0]
    changed = found[1:] != 0
    for row, group in enumerate(((0,), (1, 3))):
        on = routed[:, list(group)].any(1)
        assert 0 < on.sum() < len(on)
        assert not changed[row, ~on].any()
        assert changed[row, on & batch().inputs.any(1)].mean() > 0.9


def test_ablation_is_that_of_a_forward_pass_by_hand() -> None:
    toy, subject = method("subject", "toy_moe", size="4x5").load(), subject_of()
    inputs = torch.from_numpy(batch().inputs)
    expert = (inputs @ toy.gate.weight.T).argmax(1)
    hidden = torch.einsum("rmn,rn->rm", toy.experts.weight[expert], inputs)
    outputs = (torch.einsum("rmn,rm->rn", toy.experts.weight[expert], hidden) + toy.experts.bias[expert]).relu()
    expected = torch.where((expert == 2)[:, None], outputs, 0).square().mean(1)
    found = subject.evaluate(batch(), [(), (2,)], method("intervention", "zero"), [method("metric", "squared_error")])
    np.testing.assert_allclose(found[0, 1], expected.numpy(), atol=1e-6)


def test_the_router_starts_and_stays_at_the_features_of_each_expert() -> None:
    shuffled = start("4x5-shuffled", 1).gate.weight
    assert shuffled.sum(1).tolist() == [5.0] * 4
    assert shuffled.sum(0).tolist() == [1.0] * 20
    (toy,) = train("4x5-shuffled", [1], steps=2)
    assert torch.equal(toy.gate.weight, shuffled)


@pytest.mark.slow
def test_the_script_trains_the_shipped_weights() -> None:
    """Six CPU seconds a toy. The last digits differ between processors."""
    (toy,) = train("4x5-ordered", [0])
    shipped = Geometry.of(method("subject", "toy_moe", size="4x5").load()).summary()
    assert Geometry.of(toy).summary() == pytest.approx(shipped, rel=0.05, abs=0.01)


def test_an_untrained_toy_is_refused_with_the_command_that_trains_it() -> None:
    with pytest.raises(HarnessError, match=r"there is no toy 4x5-ordered-9(?s:.*)train 4x5-ordered --seeds 9"):
        method("subject", "toy_moe", size="4x5", seed=9)()


def test_a_toy_with_two_experts_per_example_weights_them() -> None:
    toy = ToyMixture(4, 3, 2, k=2)
    with torch.no_grad():
        toy.gate.weight.copy_(torch.eye(3, 4))
        toy.experts.bias.copy_(torch.arange(3.0)[:, None].expand(3, 4))
        outputs = toy(torch.tensor([[1.0, 0.0, 3.0, 0.0]]))
    weight = torch.tensor([1.0, 3.0]).softmax(0)
    assert torch.allclose(outputs, 2 * weight[1] * torch.ones(1, 4))
