"""Depth routes: how much every sublayer takes from every source, beside what the model loses without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.cells.inputs import Inputs
from harness.data.recording import Reader, Rows
from harness.engine.depth_routes import WEIGHT, DepthRoutes
from harness.engine.hooked import HookedSubject
from harness.util.errors import HarnessError

SEED = "seed"
"""The parameter of a subject in which repetitions of an arm differ."""
Class = tuple[str, ...]
"""Sublayer and origin of sources, after the band for a part of the layers: ``("mlp", "older")``."""


class _Weight(Reader):
    """The routing weight at the query."""

    source = WEIGHT

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        """One number per example and unit."""
        return rows.values[:, :, 0]


@dataclass(frozen=True, eq=False)
class RouteEffects:
    """The routing weights of one model, and the damage when sources are removed.

    ``arm``: its subject without the seed; ``seed``: None if it has none. ``readers``, ``sources``, ``bands``,
    ``sublayers``, ``origins``: of every unit. ``weights``: on the examples proposed on; ``fixed``: those of a model
    without queries, whose biases all have the mean of this model's. ``baseline``: mean of the metric without ablation.
    Damage to the first metric, positive for the worse: ``proposed`` [units], the mean on the examples proposed on;
    ``alone``, of every unit on every test example; ``together``, of all units of a class at once.
    """

    arm: str
    seed: int | None
    task: str
    metric: str
    units: tuple[str, ...]
    readers: tuple[str, ...]
    sources: tuple[str, ...]
    bands: tuple[str, ...]
    sublayers: tuple[str, ...]
    origins: tuple[str, ...]
    weights: Float[np.ndarray, "proposed_on units"]
    fixed: Float[np.ndarray, " units"]
    baseline: float
    proposed: Float[np.ndarray, " units"]
    alone: Float[np.ndarray, "tested units"]
    together: Mapping[Class, Float[np.ndarray, " tested"]]

    @classmethod
    def measure(cls, inputs: Inputs) -> RouteEffects:
        """Record the weights, and ablate every unit and every class, in the way of the cell's closure test.

        Errors: a subject whose units are not sources of depth routers.
        """
        subject, cell = inputs.subject, inputs.cell
        sites = [site for site in getattr(subject, "sites", ()) if isinstance(site, DepthRoutes)]
        if not isinstance(subject, HookedSubject) or len(sites) != len(subject.sites):
            raise HarnessError(
                f"{subject.label}: its units are not sources of depth routers.", "Choose subject=depth_routes."
            )
        assert inputs.proposal_half is not None
        assert inputs.test_half is not None
        units = range(len(subject.units))
        bands = tuple(site.band for site in sites for _ in site.labels)
        sublayers = tuple(site.sublayer for site in sites for _ in site.labels)
        origins = tuple(origin for site in sites for origin in site.origins)
        whole = [(sublayers[unit], origins[unit]) for unit in units]
        parts = [(bands[unit], *whole[unit]) for unit in units]
        classes: dict[Class, tuple[int, ...]] = {
            each: tuple(unit for unit in units if each in (whole[unit], parts[unit]))
            for each in dict.fromkeys([*whole, *parts])
        }
        groups = {each: group for each, group in classes.items() if subject.units.allows(group)}
        metric = cell.stages["metric"][0]

        def damage(half: Any, conditions: Sequence[tuple[int, ...]]) -> Float[np.ndarray, "conditions examples"]:
            what = f"{len(conditions)} groups, {len(half)} examples"
            with inputs.progress.step("routes", what, (1 + len(conditions)) * len(half)) as tick:
                values = inputs.evaluate(
                    half, [(), *conditions], cell.stages["intervention"], [metric], tick, inputs.proposal_half
                )[0]
            return np.vstack([values[:1], metric.damage * (values[1:] - values[0])])

        alone = [(unit,) for unit in units]
        tested = damage(inputs.test_half, [*alone, *groups.values()])
        bias = float(np.mean([site.bias for site in sites]))
        config: dict[str, Any] = dict(cell.config["subject"])
        return cls(
            arm=str(config["arm"]) if config.get("path") == "tiny_depth" else subject.label,
            seed=config.get(SEED) if config.get("path") == "tiny_depth" else None,
            task=f"{cell.describe('batch')} · {cell.describe('intervention')}",
            metric=cell.methods["metric"][0].name,
            units=subject.units.labels,
            readers=tuple(site.name.removesuffix(".router") for site in sites for _ in site.labels),
            sources=tuple(name for site in sites for name in site.named),
            bands=bands,
            sublayers=sublayers,
            origins=origins,
            weights=inputs.record(inputs.proposal_half, {"weights": _Weight()}).readings["weights"],
            fixed=np.concatenate([site.fixed(bias).numpy() for site in sites]),
            baseline=float(tested[0].mean()),
            proposed=damage(inputs.proposal_half, alone)[1:].mean(axis=1),
            alone=tested[1 : 1 + len(alone)].T,
            together=dict(zip(groups, tested[1 + len(alone) :], strict=True)),
        )
