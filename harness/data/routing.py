"""How evenly a router spreads its probability over experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness.data.recording import Reader, Rows, Source


@dataclass(frozen=True)
class RoutingEntropy(Reader):
    r"""Entropy of the routers at the query, in nats, of every example.

    .. math:: H(e) = \frac1L \sum_l \Bigl(-\sum_x p_{elx} \ln p_{elx}\Bigr), \qquad \sum_x p_{elx} = 1

    It is the entropy of each example's own probabilities, averaged over layers. The closure paper's figures are means
    of it over examples: those of its four strata (3.782, 3.663, 3.792, 3.758 nats), weighted by their sizes, give its
    overall 3.741, which entropies of mean probabilities would not. Probabilities that do not sum to 1 (sigmoid routers)
    are divided by their sum. At most the logarithm of the number of experts.

    Source: closure paper, appendix A.
    """

    source: ClassVar[Source] = "router"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples experts 2"]:
        """By expert: its term of the entropy, and its part of a layer (their sum is the number of layers)."""
        values = rows.values[:, :, 0].astype(np.float64)
        total = values.sum(axis=1, keepdims=True)
        p = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
        terms = -p * np.log(np.where(p > 0, p, 1.0))
        return np.stack([terms, np.full_like(terms, 1 / terms.shape[1])], axis=2)

    @staticmethod
    def of(readings: Float[np.ndarray, "examples experts 2"]) -> Float[np.ndarray, " examples"]:
        """The entropy of every example, from the readings of all layers."""
        entropy: Float[np.ndarray, " examples"] = readings[..., 0].sum(axis=1) / readings[..., 1].sum(axis=1)
        return entropy
