"""Units: the components of a subject that can be recorded and ablated, in a fixed order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int

from harness.util.digest import digest
from harness.util.errors import HarnessError

_LABEL = re.compile(r"L(\d+)([A-Z])(\d+)")


@dataclass(frozen=True, order=True)
class Unit:
    """One component: its layer, its index in the layer, and a letter for its kind (``H``: attention head)."""

    layer: int
    index: int
    kind: str = "H"

    @property
    def label(self) -> str:
        """The usual name: ``L3H5``."""
        return f"L{self.layer}{self.kind}{self.index}"

    @classmethod
    def parse(cls, label: str) -> Unit:
        """``"L3H5"`` -> ``Unit(3, 5, "H")``."""
        match = _LABEL.fullmatch(label.strip())
        if match is None:
            raise HarnessError(f"unit '{label}' is not of the form L<layer>H<index>.", "Example: L5H0,L5H1")
        return cls(int(match[1]), int(match[3]), match[2])


@dataclass(frozen=True)
class UnitSpace:
    """The ordered units of a subject. Everything that has one entry per unit follows this order."""

    units: tuple[Unit, ...]

    def __post_init__(self) -> None:
        if not self.units:
            raise HarnessError("a unit space needs at least one unit.", "Example: UnitSpace.heads([12, 12])")
        if len(set(self.units)) != len(self.units):
            raise HarnessError("a unit space names a unit twice.", "Give every unit its own layer and index.")

    @classmethod
    def heads(cls, heads_per_layer: Iterable[int]) -> UnitSpace:
        """Attention heads, layer by layer: position = heads in earlier layers + head."""
        return cls(tuple(Unit(layer, head) for layer, n in enumerate(heads_per_layer) for head in range(n)))

    @classmethod
    def parse(cls, labels: Iterable[str]) -> UnitSpace:
        """The units with these labels, in this order. Errors: a malformed label, a unit named twice."""
        return cls(tuple(map(Unit.parse, labels)))

    def __len__(self) -> int:
        return len(self.units)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The label of every unit, in order."""
        return tuple(unit.label for unit in self.units)

    @cached_property
    def digest(self) -> str:
        """Digest of the labels, in order."""
        return digest(self.labels)

    @cached_property
    def layers(self) -> Int[np.ndarray, " units"]:
        """The layer of every unit, in order."""
        return np.array([unit.layer for unit in self.units])

    @cached_property
    def canonical(self) -> Int[np.ndarray, " units"]:
        """Positions sorted by layer and index: an order that does not depend on the order of the units."""
        return np.array(sorted(range(len(self)), key=self.units.__getitem__))

    @cached_property
    def _position(self) -> dict[Unit, int]:
        return {unit: position for position, unit in enumerate(self.units)}

    def find(self, labels: Iterable[str]) -> tuple[int, ...]:
        """Positions of the named units, ascending.

        Errors: a label that is malformed, named twice, or not a unit of this subject.
        """
        positions = []
        for label in labels:
            unit = Unit.parse(label)
            if unit not in self._position:
                raise HarnessError(
                    f"unit '{unit.label}' is not a unit of this subject.",
                    f"It has {len(self)} units: {self.labels[0]} .. {self.labels[-1]}",
                )
            positions.append(self._position[unit])
        if len(set(positions)) != len(positions):
            raise HarnessError(f"a unit is named twice in '{','.join(labels)}'.", "Name each unit once.")
        return tuple(sorted(positions))

    def names(self, positions: Iterable[SupportsIndex]) -> list[str]:
        """Labels of the units at these positions."""
        return [self.labels[position] for position in positions]

    def in_layers(self, layers: Iterable[int]) -> tuple[int, ...]:
        """Positions of all units of these layers."""
        return tuple(np.flatnonzero(np.isin(self.layers, list(layers))).tolist())
