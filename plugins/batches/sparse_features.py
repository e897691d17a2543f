"""Sparse features: examples for toy models whose mechanisms are features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from harness import BatchMethod, Vectors, Width, hookimpl, rng_for
from harness.data.features import SparseFeatures


@dataclass(frozen=True)
class Sparse(BatchMethod):
    r"""Vectors of features that are present independently of each other, for toy models of features.

    .. math:: x_i = b_i\, u_i, \quad b_i \sim \mathrm{Bernoulli}(\text{present}), \; u_i \sim U(\text{low}, \text{high})

    ``synced``: sets of features that are present together or not at all, with values that are still independent. Their
    mechanisms are always active together and are independent of each other: a negative control for groups that are
    proposed by activity alone. ``empty=false`` leaves out examples in which every feature is zero (with few features
    most examples are; they correlate all units).

    Input: the subject's width. Output: vectors; the right output i is feature i (``answer=features``), or feature i
    plus its positive part (``answer=features_plus_relu``, residual MLPs); outputs without a feature are 0. The property
    ``features`` of an example is the number of its features that are not zero; ``domain`` is the quarter of the
    features that its largest feature is in, or ``none``.
    Errors: bounds in the wrong order; a synced feature that does not exist or is in two sets.
    Source: Elhage et al. 2022 (toy models of superposition); Bushnaq et al. 2025.
    """

    name: ClassVar[str] = "sparse_features"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {"metric": ("squared_error",)}
    n: Annotated[int, Ge(1)] = field(default=4096, metadata={"help": "number of examples"})
    present: Annotated[float, Gt(0), Le(1)] = field(default=0.05, metadata={"help": "probability of each feature"})
    low: float = field(default=0.0, metadata={"help": "lowest value of a feature"})
    high: float = field(default=1.0, metadata={"help": "highest value of a feature"})
    synced: tuple[tuple[int, ...], ...] = field(
        default=(), metadata={"help": "sets of features that are present together: [[0,1],[2,3]]"}
    )
    empty: bool = field(default=True, metadata={"help": "false: no examples without any feature"})
    answer: Literal["features", "features_plus_relu"] = field(default="features", metadata={"help": "the right output"})
    seed: int = field(default=42, metadata={"help": "seed of the features"})

    def __call__(self, width: Width) -> Vectors:
        features = SparseFeatures(width.inputs, self.present, self.low, self.high, self.synced, self.empty)
        inputs = features.draw(rng_for(self.seed, "sparse features"), self.n)
        answers = inputs if self.answer == "features" else inputs + np.maximum(inputs, 0)
        target = np.pad(answers, ((0, 0), (0, width.outputs)))[:, : width.outputs]
        quarters = np.array_split(np.arange(width.inputs), min(4, width.inputs))
        names = np.concatenate([[f"features {part[0]} to {part[-1]}"] * len(part) for part in quarters])
        largest = np.abs(inputs).argmax(axis=1)
        groups = {
            "features": (inputs != 0).sum(axis=1),
            "domain": np.where(inputs.any(axis=1), names[largest], "none"),
        }
        notes = {"present": self.present, "synced": [list(group) for group in self.synced]}
        return Vectors(self.name, inputs, target, "outputs", notes, groups=groups)


@hookimpl
def harness_batches() -> list[type[Sparse]]:
    return [Sparse]
