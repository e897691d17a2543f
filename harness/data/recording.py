"""The results of one pass of a batch through a subject, and the values that signals and binarizers compute from
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, Int8, Shaped

from harness.data.batch import Batch
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError

Source = str
"""The name of values that readers may read. A subject lists those it has, in words (``Subject.sources``)."""
SOURCES: Mapping[str, str] = {
    "attention": "attention weights [examples, heads, keys], exactly zero at keys that are hidden from the query",
    "head_output": "input of the output projection, by head [examples, heads, head_dim]",
    "contribution": "what a unit adds to the residual stream, before any norm [examples, units, d_model]",
    "activation": "what a unit hands on [examples, units, width]",
    "first_order": "first-order estimate of the damage by ablating a unit [examples, units, 1]",
    "importance": "how much an example needs a subcomponent, in [0, 1] [examples, units, 1]",
    "router": "probability that a layer's router gives each of its experts [examples, experts, 1]",
}
"""The sources that several subjects have. A subject may have others."""
ROUTER: Source = "router"
"""The source that is read along experts: whatever the units are, a reader sees the router of every layer with experts,
from early to late."""


@dataclass(frozen=True)
class Rows:
    """The values that a subject computed at the query position: the units of one site on one micro-batch.

    ``values`` are those of the ``source`` (:data:`harness.data.recording.SOURCES`); of ``router``, those of the experts
    of one layer. ``batch``: the examples of
    this micro-batch, which are ``whole.take(examples)``.
    """

    source: Source
    site: str
    values: Float[np.ndarray, "examples units _"]
    batch: Batch
    whole: Batch
    examples: Int[np.ndarray, " examples"]


@runtime_checkable
class Reader(Protocol):
    """Reduces rows while a batch streams through a subject, so that no array [examples, units, keys] is kept."""

    if TYPE_CHECKING:

        @property
        def source(self) -> Source:
            """What it reads: a ``ClassVar``, or a parameter."""
    else:
        source: Source  # a property would become the default value of a parameter

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units *rest"]:
        """One site on one micro-batch, reduced to one entry per example and unit."""

    def fingerprint(self) -> str:
        """Digest of outside inputs, such as a file. Empty: there are none."""
        return ""


@dataclass(frozen=True)
class Norm(Reader):
    """The norm of a unit's values. Controls may be matched by its mean, or by how often it is not zero."""

    source: Source

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        """One number per example and unit."""
        norms: Float[np.ndarray, "examples units"] = np.linalg.norm(rows.values, axis=2)
        return norms


@dataclass(frozen=True)
class Recording:
    """One pass of a batch: the reductions of each reader, joined over sites and examples.

    A reading has a column for each unit, in the order of ``units``. That of a reader of ``router`` has one for each
    expert of every router.

    Errors: NaN or infinite readings, which would otherwise become plausible classes and spins.
    """

    batch: Batch
    units: UnitSpace
    readings: Mapping[str, Float[np.ndarray, "examples _ *_"]]

    def __post_init__(self) -> None:
        for name, values in self.readings.items():
            _finite(f"recording of {name}", values, self.units)

    def take(self, examples: Int[np.ndarray, " some"]) -> Recording:
        """The recording of some examples: every reading has one entry per example."""
        readings = {name: values[examples] for name, values in self.readings.items()}
        return Recording(self.batch.take(examples), self.units, readings)


@dataclass(frozen=True)
class Activity:
    """One number per observation and unit: ``values`` [observations, units].

    ``own_scores`` [units]: the signal's own summary of each unit, where it is better than the mean over observations.
    ``position`` [observations]: the (mean) query position of each observation, where observations are not examples.

    Errors: NaN or infinite values, which would otherwise become plausible spins.
    """

    values: Float[np.ndarray, "observations units"]
    units: UnitSpace
    own_scores: Float[np.ndarray, " units"] | None = None
    position: Float[np.ndarray, " observations"] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.units):
            raise HarnessError(
                f"activity has shape {list(self.values.shape)}; there are {len(self.units)} units.",
                "A signal gives one number per observation and unit: [observations, units].",
            )
        _finite("activity", self.values, self.units)
        if self.own_scores is not None:
            _finite("scores", self.own_scores[None], self.units)

    @property
    def constant(self) -> tuple[int, ...]:
        """Positions of the units whose activity never changes."""
        return tuple(np.flatnonzero(self.values.min(axis=0) == self.values.max(axis=0)).tolist())

    @property
    def diagnostics(self) -> dict[str, object]:
        """Units that no clustering can place, by label, where there are any.

        ``dead``: activity that is always 0. ``always_on``: always the same other number. ``aliases``: unit -> the first
        unit with exactly the same activity.
        """
        labels, first = self.units.labels, self.values[0]
        aliases: dict[str, str] = {}
        seen: dict[bytes, str] = {}
        varying = np.setdiff1d(np.arange(len(labels)), self.constant)
        for some in np.array_split(varying, 1 + len(varying) // 1024):  # a copy of all columns would be large
            for unit, column in zip(some.tolist(), np.ascontiguousarray(self.values[:, some].T), strict=True):
                original = seen.setdefault(blake2b(column, digest_size=16).digest(), labels[unit])
                if original != labels[unit]:
                    aliases[labels[unit]] = original
        found = {
            "dead": self.units.names(unit for unit in self.constant if first[unit] == 0),
            "always_on": self.units.names(unit for unit in self.constant if first[unit] != 0),
            "aliases": aliases,
        }
        return {name: units for name, units in found.items() if units}

    @property
    def scores(self) -> Scores:
        """One number per unit: the signal's own, or the mean over observations."""
        return Scores(self.values.mean(axis=0) if self.own_scores is None else self.own_scores, self.units)


@dataclass(frozen=True)
class Scores:
    """One number per unit [units], for ranking; higher is more."""

    values: Float[np.ndarray, " units"]
    units: UnitSpace


@dataclass(frozen=True)
class Spins:
    """Activity coded as -1 / +1 [observations, units].

    A ``constant`` unit has the same spin in every observation (always on, or dead). It carries no information, so that
    no affinity can be estimated for it.
    """

    values: Int8[np.ndarray, "observations units"]
    units: UnitSpace
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not np.isin(self.values, (-1, 1)).all():
            raise HarnessError("spins must be -1 or +1.", "Use np.where(up, 1, -1).astype(np.int8).")

    @classmethod
    def above(cls, activity: Activity, threshold: Float[np.ndarray, " units"]) -> Spins:
        """+1 where a unit's activity is strictly above its own threshold, else -1.

        Observations equal to the threshold are -1. If there are many (a saturated head), the split is uneven:
        ``diagnostics.tied`` counts them by unit, without the first. ``diagnostics.constant`` names the units whose spin
        never changes.
        """
        units = activity.units
        spins = cls(np.where(activity.values > threshold, 1, -1).astype(np.int8), units)
        tied = (activity.values == threshold).sum(axis=0) - 1
        named = {units.labels[i]: int(tied[i]) for i in np.flatnonzero(tied > 0)}
        return cls(spins.values, units, {"tied": named, "constant": units.names(spins.constant)})

    @property
    def constant(self) -> tuple[int, ...]:
        """Positions of the units whose spin never changes."""
        return tuple(np.flatnonzero(self.values.min(axis=0) == self.values.max(axis=0)).tolist())


def _finite(what: str, values: Shaped[np.ndarray, "observations columns *_"], units: UnitSpace) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=(0, *range(2, values.ndim))))
    if len(bad):
        of_units = values.shape[1] == len(units)
        names = units.names(bad[:5]) if of_units else [f"column {column}" for column in bad[:5]]
        raise HarnessError(
            f"{what} is NaN or infinite for {', '.join(names)}{' ...' if len(bad) > 5 else ''}.",
            "Half precision overflows on real checkpoints: try subject.dtype=float32.",
        )
