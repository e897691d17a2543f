"""Oracle decompositions: the true subcomponents of toys, written down without any training."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.decomposition.artefact import Decomposition, Subcomponents
from harness.decomposition.importance import FeatureShare, Importance
from harness.decomposition.targets import ResidualMlp, Superposition, Toy, weights_digest
from harness.engine.sites import module_at, weight_of
from harness.util.seeds import rng_for

SHARED = "shared"
"""The mechanism of subcomponents that every feature needs."""


def oracle(toy: Toy, label: str) -> Decomposition:
    """The true decomposition of a toy, exact by construction.

    Superposition: the columns of W, the rows of W^T (one of each per feature, the rows in another order, so that the
    index of a subcomponent says nothing), and the columns of every identity, which every feature needs. Residual MLP:
    each ``mlp_in`` has one subcomponent per feature, which reads the feature's direction in the embedding; each
    ``mlp_out`` has one per neuron, which every feature needs. What ``mlp_in`` reads outside of all embedding directions
    belongs to no subcomponent.
    """
    each, shared = torch.arange(toy.width), -1

    def matrix(path: str) -> Tensor:
        return weight_of(module_at(toy, path), path).detach().clone()

    def by_input(path: str, feature: Tensor) -> Subcomponents:
        """One subcomponent per column."""
        columns = matrix(path).T
        return Subcomponents(torch.eye(len(columns)), columns, FeatureShare(feature.expand(len(columns)).clone()))

    sites: dict[str, Subcomponents] = {}
    if isinstance(toy, Superposition):
        sites["linear1"] = by_input("linear1", each)
        for place in range(len(toy.hidden)):
            sites[f"hidden.{place}"] = by_input(f"hidden.{place}", torch.tensor(shared))
        order = torch.from_numpy(rng_for(0, "order of an oracle").permutation(toy.width))
        sites["linear2"] = Subcomponents(matrix("linear2")[order], torch.eye(toy.width)[order], FeatureShare(order))
    elif isinstance(toy, ResidualMlp):
        # Row f reads feature f alone: the product of the embedding and the transposed rows is the identity.
        reads = torch.linalg.pinv(toy.embedding).T
        for place in range(len(toy.layers)):
            path = f"layers.{place}.mlp_in"
            sites[path] = Subcomponents(reads.clone(), toy.embedding @ matrix(path).T, FeatureShare(each))
            path = f"layers.{place}.mlp_out"
            sites[path] = by_input(path, torch.tensor(shared))
    truth = {path: _classes(site.importance) for path, site in sites.items()}
    return Decomposition(sites, label, weights_digest(toy), toy, truth=truth)


def _classes(importance: Importance) -> list[str | None]:
    assert isinstance(importance, FeatureShare)
    return [f"feature {feature}" if feature >= 0 else SHARED for feature in importance.feature.tolist()]
