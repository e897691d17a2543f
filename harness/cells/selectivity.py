"""The selectivity of a cell's candidates, where each is tested inside its own stratum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from harness.cells.inputs import Inputs
from harness.cells.strata import Division
from harness.closure.intervals import mean_interval
from harness.closure.report import CandidateResult
from harness.closure.selectivity import BEYOND, Damage, Selectivity
from harness.closure.verdict import decision_order
from harness.data.contracts import no_tick
from harness.records.record import SELECTIVITY


def selectivity_of(
    division: Division, parts: Sequence[Inputs], tested: Sequence[CandidateResult]
) -> dict[str, dict[str, Any]]:
    """By the place of a candidate among those tested: its units, its stratum, and its damage there and elsewhere.

    Damage is to the metric that decides first. Nothing is ablated that the test did not ablate: the outcomes outside
    the stratum are divided by stratum. Empty where candidates are not tested inside strata, or there is one stratum.
    """
    found: dict[str, Any] = {}
    place_of = {name: place for place, name in enumerate(division.names)}
    by_stratum = {part.stratum: part for part in parts if part.outside is not None and part.stratum}
    for place, result in enumerate(tested):
        report, part = result.report, by_stratum.get(result.report.stratum)
        if part is None or report.scope != "stratum":
            continue
        first = decision_order(report.effects)[0]
        effect, stages = report.effects[first], part.cell.stages
        m = [method.name for method in part.cell.methods["metric"]].index(first)
        group = part.subject.units.find(report.units)
        assert part.outside is not None
        values = part.evaluate(
            part.outside, [(), group], stages["intervention"], stages["metric"], no_tick, part.proposal_half
        )
        change = effect.damage * (values[m, 1] - values[m, 0])
        stratum = division.tested[division.tested != place_of[report.stratum]]
        documents = part.outside.groups.get("document")
        off = {
            name: _damage(change, stratum == other, documents, part.cell.settings.seed)
            for name, other in place_of.items()
            if name != report.stratum and (stratum == other).any()
        }
        if not off:
            continue
        low, high = sorted(effect.damage * limit for limit in effect.interval) if effect.interval else (0.0, 0.0)
        on = Damage(effect.damage * effect.delta, (low, high) if effect.interval else None)
        others = effect.damage * np.array(effect.controls)
        null = float(others.mean() + BEYOND * others.std(ddof=1)) if len(others) > 1 else None
        found[str(place)] = {
            "units": list(report.units),
            "stratum": report.stratum,
            "metric": first,
            **asdict(Selectivity(on, off, null)),
        }
    return {SELECTIVITY: found} if found else {}


def _damage(
    change: Float[np.ndarray, " examples"],
    mine: np.ndarray,
    documents: np.ndarray | None,
    seed: int,
) -> Damage:
    clusters: Int[np.ndarray, " some"] | None = None
    if documents is not None:
        clusters = np.unique(np.asarray(documents)[mine], return_inverse=True)[1]
    return Damage(float(change[mine].mean()), mean_interval(change[mine], seed, clusters))
