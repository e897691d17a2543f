"""Which unit plays what: groups of every kind, dealt over the layers, and the verdict that each kind deserves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness import HarnessError, UnitSpace, Verdict

Group = tuple[int, ...]

READ = ("serial", "parallel", "redundant_pair", "routed")  # what the answer rests on: each in layers of its own
BESIDE = ("cancelling", "bystander", "position")  # anywhere in those layers
DECOYS = ("early", "late")  # in the first and the last layers, where every unit carries general damage

EXPECTED: Mapping[str, tuple[Verdict, ...]] = {
    "serial": (Verdict.PASS,),
    "parallel": (Verdict.PASS,),
    "redundant_pair": (Verdict.PASS,),
    "routed": (Verdict.PASS, Verdict.WEAK_PASS),
    "redundant_half": (Verdict.NULL,),
    "cancelling": (Verdict.WRONG_DIRECTION,),
    "bystander": (Verdict.NULL,),
    "position": (Verdict.NULL,),
    "early": (Verdict.NOT_SPECIFIC,),
    "late": (Verdict.NOT_SPECIFIC,),
}
"""What a closure test that holds says of each kind of group, where there is neither noise nor overlap."""


@dataclass(frozen=True)
class Roles:
    """The groups planted, by kind; a unit in none of them is filler. ``bands``: the layers each part of them has."""

    units: UnitSpace
    groups: Mapping[str, tuple[Group, ...]]
    bands: Mapping[str, tuple[int, ...]]

    @classmethod
    def dealt(cls, layers: int, width: int, size: int, shared: int, rng: np.random.Generator) -> Roles:
        """Deal the roles out.

        Decoys and circuits have bands of layers of their own: a control that hits another serial circuit by chance
        would do as much damage as a whole one. Each circuit takes over ``shared`` units of the one before it.

        Errors: too few layers for the bands, too few units in them.
        """
        parts = (DECOYS[0], *READ, DECOYS[1])
        if layers < len(parts):
            raise HarnessError(f"subject.layers={layers}: what is planted needs {len(parts)} layers or more.")
        if 2 * size > width * (layers // len(parts)):
            raise HarnessError(
                f"subject.width={width}: groups of subject.group_size={size} leave too few units in their layers to "
                "hold them against.",
                f"Use subject.width={2 * size} or more.",
            )
        bands = dict(zip(parts, np.array_split(np.arange(layers), len(parts)), strict=True))
        free = [[layer * width + int(i) for i in rng.permutation(width)] for layer in range(layers)]
        groups: dict[str, tuple[Group, ...]] = {}
        before: list[int] = []
        for kind, band in bands.items():
            taken = before[len(before) - shared :] if before and kind in READ else []
            dealt = taken + [free[band[i % len(band)]].pop() for i in range(size - len(taken))]
            before = dealt if kind in READ else []
            groups[kind] = (tuple(sorted(dealt)),)
            if kind == "redundant_pair":
                groups["redundant_half"] = (tuple(sorted(dealt[: size // 2])), tuple(sorted(dealt[size // 2 :])))
        between = [unit for kind in READ for layer in bands[kind] for unit in free[layer]]
        chosen = rng.permutation(between)[: len(BESIDE) * size].reshape(len(BESIDE), size)
        for kind, members in zip(BESIDE, chosen, strict=True):
            groups[kind] = (tuple(sorted(members.tolist())),)
        return cls(
            UnitSpace.heads([width] * layers),
            {kind: groups[kind] for kind in EXPECTED},
            {kind: tuple(band.tolist()) for kind, band in bands.items()},
        )

    @property
    def classes(self) -> tuple[str | None, ...]:
        """The kind of every unit, the first of those that share it; None: filler."""
        found: dict[int, str] = {}
        for kind in (*READ, *BESIDE, *DECOYS):
            for unit in self.members(kind):
                found.setdefault(unit, kind)
        return tuple(found.get(unit) for unit in range(len(self.units)))

    def members(self, kind: str) -> Group:
        """The units of a kind's one group."""
        return self.groups[kind][0]
