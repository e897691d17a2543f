"""Which unit has which role: groups of every kind, assigned to layers, and the verdict that each kind should get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness import HarnessError, UnitSpace, Verdict

Group = tuple[int, ...]

CIRCUITS = ("serial", "parallel", "redundant_pair", "routed")  # they raise the answer; each has layers of its own
OTHERS = ("cancelling", "bystander", "position")  # anywhere in the layers of the circuits
DECOYS = ("early", "late")  # in the first and the last layers, where ablating any unit does damage

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
"""The verdicts that a correct closure test can give to each kind of group without noise and overlap."""


@dataclass(frozen=True)
class Roles:
    """The planted groups, by kind. A unit in no group is filler. ``bands``: the layers of each circuit and decoy.

    ``circuits``: the kinds that raise the answer; ``others``: the kinds without layers of their own.
    """

    units: UnitSpace
    groups: Mapping[str, tuple[Group, ...]]
    bands: Mapping[str, tuple[int, ...]]
    circuits: tuple[str, ...] = CIRCUITS
    others: tuple[str, ...] = OTHERS

    @classmethod
    def assign(
        cls,
        layers: int,
        width: int,
        size: int,
        shared: int,
        rng: np.random.Generator,
        circuits: tuple[str, ...] = CIRCUITS,
        others: tuple[str, ...] = OTHERS,
    ) -> Roles:
        """Assign units to groups at random.

        Each decoy and each circuit has a band of layers of its own. Otherwise a control could contain a unit of another
        serial circuit by chance, and do as much damage as the whole circuit. Each circuit shares ``shared`` units with
        the circuit before it.

        Errors: too few units in a band.
        """
        kinds = (DECOYS[0], *circuits, DECOYS[1])
        if 2 * size > width * (layers // len(kinds)):
            raise HarnessError(
                f"subject.width={width}: groups of subject.group_size={size} leave too few units in their layers for "
                "controls.",
                f"Use subject.width={2 * size} or more.",
            )
        bands = dict(zip(kinds, np.array_split(np.arange(layers), len(kinds)), strict=True))
        free = [[layer * width + int(i) for i in rng.permutation(width)] for layer in range(layers)]
        groups: dict[str, tuple[Group, ...]] = {}
        previous: list[int] = []
        for kind, band in bands.items():
            shared_units = previous[len(previous) - shared :] if previous and kind in circuits else []
            new_units = [free[band[i % len(band)]].pop() for i in range(size - len(shared_units))]
            group = shared_units + new_units
            previous = group if kind in circuits else []
            groups[kind] = (tuple(sorted(group)),)
            if kind == "redundant_pair":
                groups["redundant_half"] = (tuple(sorted(group[: size // 2])), tuple(sorted(group[size // 2 :])))
        remaining = [unit for kind in circuits for layer in bands[kind] for unit in free[layer]]
        chosen = rng.permutation(remaining)[: len(others) * size].reshape(len(others), size)
        for kind, members in zip(others, chosen, strict=True):
            groups[kind] = (tuple(sorted(members.tolist())),)
        return cls(
            UnitSpace.heads([width] * layers),
            {kind: groups[kind] for kind in (*circuits, "redundant_half", *others, *DECOYS) if kind in groups},
            {kind: tuple(band.tolist()) for kind, band in bands.items()},
            circuits,
            others,
        )

    @property
    def answering(self) -> Group:
        """The units that write the answer: those of circuits, and others that act like one."""
        return tuple(unit for kind in self.groups if kind not in ("position", *DECOYS) for unit in self.members(kind))

    @property
    def classes(self) -> tuple[str | None, ...]:
        """The kind of every unit, the first one if groups share it; None: filler."""
        kinds: dict[int, str] = {}
        for kind in (*self.circuits, *self.others, *DECOYS):
            for unit in self.members(kind):
                kinds.setdefault(unit, kind)
        return tuple(kinds.get(unit) for unit in range(len(self.units)))

    def members(self, kind: str) -> Group:
        """The units of the only group of a kind."""
        return self.groups[kind][0]
