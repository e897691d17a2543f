"""What every unit does alone: the mean change of each metric when this unit is the only one ablated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.cells.inputs import Inputs
from harness.cells.settings import tests_on_all
from harness.data.units import UnitSpace
from harness.records.record import Record


@dataclass(frozen=True, eq=False)
class UnitDamage:
    """The mean change of every metric when one unit alone is ablated.

    ``task``: subject, batch and intervention; ``examples``: those that the mean is over, in words. By metric:
    ``changes`` [units], NaN where a unit cannot be ablated alone or was not measured; ``baseline``: the mean without
    ablation; ``damage``: the sign of a change for the worse.
    """

    task: str
    examples: str
    units: UnitSpace
    baseline: Mapping[str, float]
    damage: Mapping[str, int]
    changes: Mapping[str, Float[np.ndarray, " units"]]

    @classmethod
    def measure(cls, inputs: Inputs) -> UnitDamage:
        """Ablate every unit alone, on the examples and in the way of the cell's closure test.

        The outcomes are cached: a test of the same cell does not compute them again.
        """
        cell, subject, batch = inputs.cell, inputs.subject, inputs.test_half
        assert batch is not None
        metrics, names = cell.stages["metric"], [method.name for method in cell.methods["metric"]]
        alone = [(unit,) for unit in range(len(subject.units)) if subject.units.allows((unit,))]
        what = f"{len(alone)} units, {len(batch)} examples"
        with inputs.progress.step("map", what, (1 + len(alone)) * len(batch)) as tick:
            values = inputs.evaluate(
                batch, [(), *alone], cell.stages["intervention"], metrics, tick, inputs.proposal_half
            ).mean(axis=2)
        changes = np.full((len(metrics), len(subject.units)), np.nan)
        changes[:, [unit for (unit,) in alone]] = values[:, 1:] - values[:, :1]
        return cls(
            task=f"{subject.label} · {cell.describe('batch')} · {cell.describe('intervention')}",
            examples=_examples(len(batch), cell.config),
            units=subject.units,
            baseline=dict(zip(names, values[:, 0].tolist(), strict=True)),
            damage={name: metric.damage for name, metric in zip(names, metrics, strict=True)},
            changes=dict(zip(names, changes, strict=True)),
        )

    @classmethod
    def of(cls, record: Record) -> UnitDamage | None:
        """The damage that a record holds, of the units that its test ablated alone; None if there are none."""
        if not record.unit_damage or not record.closure:
            return None
        report, cell, labels = record.closure[0], record.cell, record.units
        signs = {name: effect.damage for name, effect in report.effects.items() if name in record.unit_damage}
        of_units = {name: [record.unit_damage[name].get(label, np.nan) for label in labels] for name in signs}
        return cls(
            task=f"{cell.subject} · {cell.batch} · {cell.intervention}",
            examples=_examples(report.n_tested or report.n_examples, record.config),
            units=record.unit_space,
            baseline={name: report.effects[name].baseline for name in signs if report.scope == "all"},
            damage=signs,
            changes={name: sign * np.array(of_units[name]) for name, sign in signs.items()},
        )

    @property
    def complete(self) -> bool:
        """Whether every unit was measured."""
        return not any(np.isnan(change).any() for change in self.changes.values())

    @property
    def strongest(self) -> list[int]:
        """The measured units by damage to the first metric, the largest first."""
        first = next(iter(self.changes))
        damage = self.damage[first] * self.changes[first]
        return [unit for unit in np.argsort(-damage, kind="stable").tolist() if not np.isnan(damage[unit])]


def _examples(n: int, config: Mapping[str, Any]) -> str:
    """Which examples a cell's closure test is on."""
    return f"all {n} examples" if tests_on_all(config) else f"the test half: {n} examples"
