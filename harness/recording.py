"""What one pass of a batch through a subject yields, and what signals make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Int8, Shaped

from harness.batch import Batch
from harness.errors import HarnessError
from harness.units import UnitSpace

Source = Literal["attention", "head_output"]


@dataclass(frozen=True)
class Rows:
    """What a subject computed at the query position: one layer of one micro-batch.

    ``values`` is, by ``source``: ``attention``: the attention row [examples, heads, keys], exactly zero at keys the
    query cannot see; ``head_output``: what each head hands to the output projection [examples, heads, head_dim].
    ``batch`` holds the same examples, with their query positions and anchors; they are ``examples`` of ``whole``.
    """

    source: Source
    layer: int
    values: Float[np.ndarray, "examples heads _"]
    batch: Batch
    whole: Batch
    examples: Int[np.ndarray, " examples"]


@runtime_checkable
class Reader(Protocol):
    """Reduces rows while a batch streams through a subject, so that nothing of size [examples, units, keys] is kept."""

    source: ClassVar[Source]

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads *rest"]:
        """One layer of one micro-batch, reduced per example and head."""


@dataclass(frozen=True)
class Recording:
    """One pass of a batch: each reader's reductions, joined over layers and examples.

    Errors: NaN or infinite readings, which would otherwise turn into plausible classes and spins.
    """

    batch: Batch
    units: UnitSpace
    readings: Mapping[str, Float[np.ndarray, "examples units *_"]]

    def __post_init__(self) -> None:
        for name, values in self.readings.items():
            _finite(f"recording of {name}", values, self.units)


@dataclass(frozen=True)
class Activity:
    """One number per observation and unit: ``values`` [observations, units].

    Errors: NaN or infinite values, which would otherwise turn into plausible spins.
    """

    values: Float[np.ndarray, "observations units"]
    units: UnitSpace

    def __post_init__(self) -> None:
        _finite("activity", self.values, self.units)


@dataclass(frozen=True)
class Spins:
    """Activity coded as -1 / +1 [observations, units]; ``constant`` names the units that carry no information.

    A constant unit has the same spin in every observation (always on, or dead): no affinity can be estimated for it.
    """

    values: Int8[np.ndarray, "observations units"]
    units: UnitSpace
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not np.isin(self.values, (-1, 1)).all():
            raise HarnessError("spins must be -1 or +1.")

    @property
    def constant(self) -> tuple[int, ...]:
        """Positions of the units whose spin never changes."""
        return tuple(np.flatnonzero(self.values.min(axis=0) == self.values.max(axis=0)).tolist())


def _finite(what: str, values: Shaped[np.ndarray, "observations units *_"], units: UnitSpace) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=(0, *range(2, values.ndim))))
    if len(bad):
        raise HarnessError(
            f"{what} is NaN or infinite for {', '.join(units.names(bad[:5]))}{' ...' if len(bad) > 5 else ''}.",
            "Half precision overflows on real checkpoints: try subject.dtype=float32.",
        )
