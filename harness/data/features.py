"""Sparse features: the inputs of toy models, of which few are not zero at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from harness.util.errors import HarnessError


@dataclass(frozen=True)
class SparseFeatures:
    r"""Features that are present independently of each other, with uniform values.

    .. math:: x_i = b_i\, u_i, \quad b_i \sim \mathrm{Bernoulli}(\text{present}), \; u_i \sim U(\text{low}, \text{high})

    ``synced``: features that are present together or not at all; their values are still independent. ``empty=False``:
    examples without any feature are drawn again.

    Errors: a probability outside (0, 1]; bounds that are equal or swapped; a synced feature that does not exist or is
    in two sets.
    Source: Elhage et al. 2022; synced inputs: the SPD authors' code.
    """

    width: int
    present: float = 0.05
    low: float = 0.0
    high: float = 1.0
    synced: Sequence[Sequence[int]] = ()
    empty: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.present <= 1 or not self.low < self.high:
            raise HarnessError(
                f"features are present with probability {self.present:g} and lie between {self.low:g} and "
                f"{self.high:g}.",
                "Give a probability above 0 and up to 1, and a lower and a higher bound.",
            )
        together = [feature for group in self.synced for feature in group]
        if len(together) != len(set(together)) or not set(together) <= set(range(self.width)):
            raise HarnessError(
                f"synced features {[list(group) for group in self.synced]}: each has to be one of 0 to "
                f"{self.width - 1}, and in one set only.",
                "Give sets like [[0,1],[2,3]].",
            )

    def draw(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n width"]:
        """``n`` examples in float32."""
        present = self._present(rng, n)
        while not self.empty and not (filled := present.any(axis=1)).all():
            present[~filled] = self._present(rng, int((~filled).sum()))
        values: Float[np.ndarray, "n width"] = rng.uniform(self.low, self.high, present.shape) * present
        return values.astype(np.float32)

    def _present(self, rng: np.random.Generator, n: int) -> Bool[np.ndarray, "n width"]:
        present: Bool[np.ndarray, "n width"] = rng.random((n, self.width)) < self.present
        for first, *others in self.synced:
            present[:, others] = present[:, [first]]
        return present
