"""The toy models by name: their sizes, and the examples that they are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from harness.data.features import SparseFeatures

if TYPE_CHECKING:
    from harness.decomposition.targets import Toy

Kind = Literal[
    "tms_5_2", "tms_5_2_id", "tms_20_10", "tms_40_10",
    "residual_2x25", "residual_3x17", "residual_2x50", "residual_3x50",
]  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What a toy is, and how it is trained: AdamW with weight decay .01 on ``rows`` new examples per step.

    ``present``, ``low``: of its features. ``cosine``: the rate falls to zero.
    """

    toy: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    present: float = 0.05
    low: float = 0.0
    steps: int = 6000
    rows: int = 2048
    rate: float = 5e-3
    cosine: bool = False

    def build(self) -> Toy:
        """The untrained toy, with weights that torch draws."""
        from harness.decomposition.targets import TOYS  # it loads torch, which lists of methods do not need

        return TOYS[self.toy](**self.sizes)

    @property
    def features(self) -> SparseFeatures:
        """Its examples."""
        return SparseFeatures(self.sizes["features"], self.present, self.low)


def _superposition(features: int, hidden: int, identities: int = 0) -> Recipe:
    sizes = {"features": features, "hidden": hidden, "identities": identities}
    return Recipe("superposition", sizes, rows=1024 if features == 5 else 2048)


def _residual(blocks: int, neurons: int, features: int = 100, embed: int = 1000) -> Recipe:
    sizes = {
        "features": features,
        "embed": embed,
        "blocks": blocks,
        "neurons": neurons,
        "orthonormal": 0,
    }
    return Recipe("residual_mlp", sizes, 0.01, -1.0, 2500, rate=3e-3, cosine=True)


RECIPES: Mapping[Kind, Recipe] = {
    "tms_5_2": _superposition(5, 2),
    "tms_5_2_id": _superposition(5, 2, identities=1),
    "tms_20_10": _superposition(20, 10),
    "tms_40_10": _superposition(40, 10),
    "residual_2x25": _residual(2, 25),
    "residual_3x17": _residual(3, 17, features=102),
    "residual_2x50": _residual(2, 50),
    "residual_3x50": _residual(3, 50),
}
assert tuple(RECIPES) == get_args(Kind)
