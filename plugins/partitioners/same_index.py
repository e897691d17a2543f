"""Units of the same index in different sites: the trivial pairing."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import HarnessError, Partition, Partitioner, UnitSpace, hookimpl


@dataclass(frozen=True)
class SameIndex(Partitioner):
    r"""One group per index: units that have the same index in different sites.

    .. math:: g(u) = \operatorname{index}(u)

    A baseline for subcomponents: where the decompositions of an encoder and of its decoder are tied, partners have the
    same index by construction, so a method that pairs them has found nothing. Without ties it is as good as random.

    The index is what follows the name of the site in a unit's label (``linear1:42``, of the site ``linear1``), so that
    it stays where other units of the site are left out. Units with other labels have their place in the site.

    Input: units. Output: one partition; a unit without a partner is in no group.
    Errors: no index occurs in two sites.
    Source: none; a baseline.
    """

    name: ClassVar[str] = "same_index"

    def __call__(self, units: UnitSpace) -> list[Partition]:
        by_index: dict[str, list[int]] = defaultdict(list)
        seen: Counter[str] = Counter()
        for place in units.canonical.tolist():
            unit = units.units[place]
            named = unit.label.startswith(unit.site)
            by_index[unit.label.removeprefix(unit.site) if named else f"place {seen[unit.site]}"].append(place)
            seen[unit.site] += 1
        groups = [members for members in by_index.values() if len(members) > 1]
        if not groups:
            raise HarnessError(
                f"partitioner same_index: no two of the {len(units)} units have the same index in different sites "
                f"(sites: {', '.join(units.sites[:4])}).",
                "Choose another partitioner (harness list partitioner).",
            )
        labels = np.full(len(units), -1, dtype=np.int64)
        for group, members in enumerate(groups):
            labels[members] = group
        return [Partition(len(groups), labels)]


@hookimpl
def harness_partitioners() -> list[type[SameIndex]]:
    return [SameIndex]
