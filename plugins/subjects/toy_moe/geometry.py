"""The geometry of features in the experts of a toy mixture, and in a dense toy beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from harness import rng_for
from harness.data.features import SparseFeatures

from .model import ToyMixture

PRESENT = 0.1
"""Probability of each feature in the toy's examples. Figures are of examples with at least one feature."""
EXAMPLES = 16384
MONOSEMANTIC, REPRESENTED = 0.9, 0.5
"""A feature is monosemantic in an expert if its dimensionality and its norm are above these."""


@dataclass(frozen=True, eq=False)
class Geometry:
    r"""How features lie in the hidden dimensions of each expert.

    .. math:: D_i^e = \frac{\lVert W_i^e \rVert^2}{\sum_j (\hat W_i^e \cdot W_j^e)^2}, \qquad
              \sum_i D_i^e \le \operatorname{rank} W^e, \qquad
              \text{features per dimension} = \frac1k \sum_e p_e \frac{\lVert W^e \rVert_F^2}{m}

    :math:`W_i^e`: column i of expert e, in m dimensions. D is 1 for a feature with a dimension of its own, 1/2 for two
    that point in opposite directions. The sum over features is m where every feature is an eigenvector of
    :math:`W W^\top` (nearly so in a trained toy), and never more.

    ``norms``, ``dimensionality``, ``interference`` [experts, features]; interference is
    :math:`\sum_{j \ne i} (\hat W_i \cdot W_j)^2`. ``usage`` [experts]: share of examples routed to each;
    ``usage_on_own`` [experts]: the same on examples where a monosemantic feature of the expert is active (NaN: it has
    none). ``weight`` [experts]: mean weight over the examples. ``loss``: mean squared error, weighted by importance;
    ``idle``: that of outputs of zero.

    Source: Elhage et al. 2022; Chaudhari et al. (arXiv 2510.23671). The bound is Cauchy-Schwarz.
    """

    norms: Float[np.ndarray, "experts features"]
    dimensionality: Float[np.ndarray, "experts features"]
    interference: Float[np.ndarray, "experts features"]
    usage: Float[np.ndarray, " experts"]
    usage_on_own: Float[np.ndarray, " experts"]
    weight: Float[np.ndarray, " experts"]
    hidden: int
    k: int
    loss: float
    idle: float

    @classmethod
    def of(cls, toy: ToyMixture) -> Geometry:
        """Measure a toy: its weights, and its routing on examples of its own kind."""
        weight = toy.experts.weight.detach().double().numpy()
        norms, dimensionality, interference = features_of(weight)
        features = SparseFeatures(weight.shape[2], PRESENT, empty=False)  # nothing decides where those go
        inputs = features.draw(rng_for(0, "toy mixture geometry"), EXAMPLES)
        with torch.inference_mode():
            _, weights, chosen = toy.gate(torch.from_numpy(inputs))
            outputs = toy(torch.from_numpy(inputs)).numpy()
        share = np.zeros((len(inputs), len(weight)))
        np.put_along_axis(share, chosen.numpy(), weights.numpy(), axis=1)
        own = (dimensionality > MONOSEMANTIC) & (norms > REPRESENTED)
        error = (importance(weight.shape[2]) * np.stack([inputs - outputs, inputs]) ** 2).mean(axis=1).sum(axis=1)
        return cls(
            norms, dimensionality, interference, (share > 0).mean(axis=0), _on_own(share > 0, inputs > 0, own),
            share.mean(axis=0), weight.shape[1], int(toy.sizes["k"]), float(error[0]), float(error[1]),
        )  # fmt: skip

    @property
    def monosemantic(self) -> Bool[np.ndarray, "experts features"]:
        """Features with (nearly) a dimension of their own."""
        found: Bool[np.ndarray, "experts features"] = (self.dimensionality > MONOSEMANTIC) & (self.norms > REPRESENTED)
        return found

    @property
    def features_per_dimension(self) -> float:
        """How many features share a dimension, averaged over the experts that examples are routed to."""
        return float((self.weight * (self.norms**2).sum(axis=1)).sum() / self.hidden / self.k)

    def summary(self) -> dict[str, float]:
        """The figures of one toy. ``interference``: mean over represented features, each counted once per expert."""
        represented = self.norms > REPRESENTED
        return {
            "loss": self.loss,
            "loss_of_zeros": self.idle,
            "sum_of_dimensionality": float(self.dimensionality.sum()),
            "features_per_dimension": self.features_per_dimension,
            "represented": float(represented.any(axis=0).sum()),
            "represented_per_expert": float(represented.sum(axis=1).mean()),
            "interference": float(self.interference[represented].mean()) if represented.any() else 0.0,
            "monosemantic_per_expert": float(self.monosemantic.sum(axis=1).mean()),
        }


def features_of(weight: Float[np.ndarray, "experts hidden features"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Norms, dimensionality and interference of every feature in every expert. A feature of norm zero has 0."""
    products = np.einsum("emi,emj->eij", weight, weight)
    squared = np.einsum("eii->ei", products)
    summed = (products**2).sum(axis=2)
    dimensionality = np.divide(squared**2, summed, out=np.zeros_like(squared), where=summed > 1e-24)
    interference = np.divide(summed - squared**2, squared, out=np.zeros_like(squared), where=squared > 1e-12)
    return np.sqrt(squared), dimensionality, interference


def importance(features: int) -> Float[np.ndarray, " features"]:
    """How much the loss counts each feature: .7 to the power of its number."""
    found: Float[np.ndarray, " features"] = 0.7 ** np.arange(features)
    return found


def _on_own(
    routed: Bool[np.ndarray, "examples experts"],
    active: Bool[np.ndarray, "examples features"],
    own: Bool[np.ndarray, "experts features"],
) -> Float[np.ndarray, " experts"]:
    found = np.full(len(own), np.nan)
    for expert, features in enumerate(own):
        examples = active[:, features].any(axis=1)
        if examples.any():
            found[expert] = routed[examples, expert].mean()
    return found
