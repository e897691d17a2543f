"""Which subcomponents are used: dead, always on or aliases, and the feature that each one computes in a toy."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from harness.data.features import SparseFeatures
from harness.decomposition.artefact import Decomposition, Subcomponents
from harness.decomposition.oracle import SHARED
from harness.decomposition.targets import ResidualMlp, Toy
from harness.util.seeds import rng_for

ALWAYS = 0.95
"""A subcomponent is always on if more than this share of the examples with any feature need it."""
PARALLEL = 0.99
"""Two subcomponents of a matrix are aliases if the cosine of their rank-one matrices is above this."""
ONE_FEATURE = 0.75
"""The value of the feature in examples that have only one."""
SAMPLED = 4096


def site_importances(
    decomposition: Decomposition, model: nn.Module, examples: Shaped[Tensor, "rows _"]
) -> dict[str, Float[Tensor, "*rows _"]]:
    """Importances by site, from one pass of the model; of token ids [rows, positions], at every position."""
    inputs: dict[str, Tensor] = {}

    def keeping(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], __: Any) -> None:
            inputs[path] = args[0]

        return hook

    with ExitStack() as stack, torch.inference_mode():
        for path in decomposition.sites:
            stack.callback(model.get_submodule(path).register_forward_hook(keeping(path)).remove)
        model(examples)
        return decomposition.importances(inputs, examples)


@dataclass(frozen=True, eq=False)
class Usage:
    """The use of one site's subcomponents, with importances above ``threshold`` counted as use.

    ``highest`` [subcomponents]: the highest importance on any example. ``share``: of the examples with any feature, how
    many need it. ``one_feature`` [features, subcomponents]: importances where only one feature is present.
    """

    highest: Float[Tensor, " subcomponents"]
    share: Float[Tensor, " subcomponents"]
    one_feature: Float[Tensor, "features subcomponents"]
    threshold: float

    @property
    def alive(self) -> Int[Tensor, " alive"]:
        """Places of the subcomponents that some example needs."""
        return torch.nonzero(self.highest > self.threshold)[:, 0]

    @property
    def always_on(self) -> Int[Tensor, " always_on"]:
        """Places of those that nearly every example with a feature needs."""
        return torch.nonzero((self.highest > self.threshold) & (self.share > ALWAYS))[:, 0]

    @property
    def mechanisms(self) -> list[str | None]:
        """What each subcomponent computes: the feature that needs it most, or all of them (more than half need it).

        None: no feature by itself needs it.
        """
        if not len(self.one_feature):
            return [None] * len(self.highest)
        needing = (self.one_feature > self.threshold).sum(dim=0)
        most = self.one_feature.argmax(dim=0).tolist()
        return [
            SHARED if 2 * n > len(self.one_feature) else f"feature {feature}" if n else None
            for n, feature in zip(needing.tolist(), most, strict=True)
        ]


def usage(
    decomposition: Decomposition,
    model: nn.Module,
    sampled: Shaped[Tensor, "rows _"],
    threshold: float,
    alone: Float[Tensor, "signs features _"] | None = None,
) -> dict[str, Usage]:
    """The use of every site's subcomponents on sampled examples, and on each feature ``alone`` (of toys)."""
    found = {path: _rows(values) for path, values in site_importances(decomposition, model, sampled).items()}
    of_features = {path: values.new_zeros(1, 0, values.shape[1]) for path, values in found.items()}
    if alone is not None:
        seen = site_importances(decomposition, model, alone.flatten(0, 1))
        of_features = {path: values.reshape(*alone.shape[:2], -1) for path, values in seen.items()}
    return {
        path: Usage(
            torch.cat([values, _rows(of_features[path])]).amax(dim=0),
            (values > threshold).float().mean(dim=0),
            of_features[path].amax(dim=0),
            threshold,
        )
        for path, values in found.items()
    }


def _rows(values: Float[Tensor, "*rows subcomponents"]) -> Float[Tensor, "all_rows subcomponents"]:
    return values.flatten(0, -2)


def examples_of(toy: Toy) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "signs features features"]]:
    """Sparse features, and each feature by itself at 0.75 (and -0.75).

    Features lie in [0, 1], or in [-1, 1] for residual MLPs. Every example has a feature.
    """
    signed = isinstance(toy, ResidualMlp)
    features = SparseFeatures(toy.width, 0.05, -1.0 if signed else 0.0, 1.0, empty=False)
    sampled = torch.from_numpy(features.draw(rng_for(0, "use of subcomponents"), SAMPLED))
    alone = ONE_FEATURE * torch.eye(toy.width)
    return sampled, torch.stack([alone, -alone] if signed else [alone])


def aliases(site: Subcomponents, among: Int[Tensor, " some"]) -> dict[int, int]:
    """Subcomponents whose rank-one matrix is parallel to that of an earlier one, with that one."""
    v, u = (nn.functional.normalize(part[among], dim=1) for part in (site.v, site.u))
    parallel = ((v @ v.T) * (u @ u.T) > PARALLEL).tril(-1)
    places = among.tolist()
    return {places[i]: places[int(parallel[i].int().argmax())] for i in torch.nonzero(parallel.any(1))[:, 0].tolist()}
