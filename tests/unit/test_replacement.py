"""The inputs of interventions: moments against torch, noise against the standard normal distribution."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from harness.data.tokens import Tokens
from harness.engine.replacement import moments, noise_of

PARTS = ([np.arange(5)], [np.array([3, 0]), np.array([1]), np.array([4, 2])])
EVERY = np.arange(40)


def examples(query: list[int]) -> Tokens:
    n = len(query)
    return Tokens("made", np.zeros((n, max(query) + 1), int), np.array(query), np.zeros(n, int), {}, "successor")


@pytest.mark.parametrize("parts", PARTS, ids=["at once", "in parts"])
@pytest.mark.parametrize("each_position", [False, True])
@pytest.mark.parametrize(
    ("query", "shape"),
    [([0] * 5, (12, 1)), ([3] * 5, (2, 4)), ([6, 2, 4, 6, 0], (3, 5))],
    ids=["vectors", "even", "ragged"],
)
def test_moments_are_those_of_torch(
    query: list[int], shape: tuple[int, int], each_position: bool, parts: list[np.ndarray]
) -> None:
    """The mean is a thousand times the standard deviation at one site: squares must not be summed in float32."""
    generator = torch.Generator().manual_seed(0)
    batch = examples(query)
    outputs = {
        site: torch.randn(5, max(query) + 1, *shape, generator=generator) * spread + centre
        for site, spread, centre in (("one", 3.0, 0.5), ("two", 1.0, 1000.0))
    }

    def run(chosen: np.ndarray) -> dict[str, torch.Tensor]:
        longest = int(batch.query[chosen].max()) + 1  # a subject cuts its pass after the longest query
        return {site: values[chosen, :longest] for site, values in outputs.items()}

    found = moments(batch, each_position, parts, run, spread=True)
    for site, values in outputs.items():
        reached = [[(e, place) for e, last in enumerate(query) if place <= last] for place in range(max(query) + 1)]
        places = reached if each_position else [list(itertools.chain(*reached))]
        seen = [torch.stack([values[e, place] for e, place in at]).double() for at in places]
        mean = torch.stack([at.mean(dim=0) for at in seen])
        std = torch.stack([at.std(dim=0, correction=0) for at in seen])
        torch.testing.assert_close(found.mean[site], mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.std[site], std, rtol=1e-6, atol=1e-6)
    without = moments(batch, each_position, parts, run, spread=False)
    assert not without.std
    assert all(torch.equal(without.mean[site], found.mean[site]) for site in outputs)


def test_noise_is_standard_normal_and_independent() -> None:
    drawn = noise_of(0, ["L0H0", "L0H1", "L1H0"], EVERY, 16, 8).double().numpy()
    assert drawn.shape == (40, 16, 3, 8)
    n = drawn.size
    assert abs(drawn.mean()) < 4 / n**0.5
    assert abs(drawn.var() - 1) < 4 * (2 / n) ** 0.5
    assert kstest(drawn.ravel(), "norm").pvalue > 0.001
    rows = {"unit": drawn.transpose(2, 0, 1, 3), "example": drawn, "position": drawn.transpose(1, 0, 2, 3)}
    for axis, values in rows.items():
        flat = values.reshape(len(values), -1)
        correlations = np.corrcoef(flat)[np.triu_indices(len(flat), 1)]
        assert np.abs(correlations).max() < 5 / flat.shape[1] ** 0.5, axis


def test_noise_depends_on_seed_unit_and_example_only() -> None:
    """Not on the other units and examples of a pass, nor on the number of its positions."""
    units = ["L0H0", "L0H1", "fc1:7"]
    whole = noise_of(3, units, EVERY, 9, 4)
    for chosen in np.split(EVERY, [1, 7, 30]):
        assert torch.equal(noise_of(3, units, chosen, 9, 4), whole[chosen])
    order = np.array([17, 2, 39])
    assert torch.equal(noise_of(3, units[::-1], order, 9, 4), whole[order][:, :, [2, 1, 0]])
    assert torch.equal(noise_of(3, units[1:2], order, 5, 4), whole[order][:, :5, 1:2])
    one = noise_of(3, ["L0H0"], np.array([0]), 9, 4)
    others = (noise_of(4, ["L0H0"], np.array([0]), 9, 4), noise_of(3, ["L0H1"], np.array([0]), 9, 4), whole[1:2, :, :1])
    for other in others:
        assert (one != other).all()
