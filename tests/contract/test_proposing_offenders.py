"""The contract suite catches signals, binarizers, partitioners and selectors that break it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from harness.groups import Affinity, Candidate, Labels, Partition
from harness.recording import Activity, Recording, Rows, Source, Spins
from harness.stages import Selection
from harness.testing.contracts import Finding

ANSWERS = "answers ordinary input"
UNTOUCHED = "leaves its input as it was"
GLOBAL = "keeps out of global random state"

# ----------------------------------------------------------------------------------------------------------------------
# Signals, binarizers
# ----------------------------------------------------------------------------------------------------------------------


class Signal:
    """The largest entry."""

    name: ClassVar[str] = "signal"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values.max(axis=2)

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


class RelativeToPart(Signal):
    """Compares an example with those that happen to come along."""

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values.max(axis=2) / rows.values.max(axis=2).mean(axis=0)


class Whispering(Signal):
    """Listens to something no subject says."""

    source: ClassVar[Any] = "gossip"


class Averaging(Signal):
    """Makes one number of all heads."""

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values.max(axis=2).mean(axis=1, keepdims=True)


class Overflowing(Signal):
    """Is infinite where attention is zero."""

    def read(self, rows: Rows) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return -np.log(rows.values.min(axis=2))


SIGNALS = {
    RelativeToPart: ("reads a batch in parts as it does at once", "cut into parts"),
    Whispering: (ANSWERS, "AttributeError|shape|gossip"),
    Averaging: (ANSWERS, "shape|observations units|examples heads"),
    Overflowing: (ANSWERS, "NaN or infinite"),
}


class Binarizer:
    """Above the mean is up."""

    name: ClassVar[str] = "binarizer"

    def __call__(self, activity: Activity) -> Any:
        up = activity.values > activity.values.mean(axis=0)
        return Spins(np.where(up, 1, -1).astype(np.int8), activity.units)


class UpsideDown(Binarizer):
    """Above the mean is down."""

    def __call__(self, activity: Activity) -> Spins:
        return Spins(-super().__call__(activity).values, activity.units)


class ZeroOne(Binarizer):
    """Codes down as zero."""

    def __call__(self, activity: Activity) -> Spins:
        return Spins((activity.values > 0).astype(np.int8), activity.units)


class Dropping(Binarizer):
    """Leaves the last observation out."""

    def __call__(self, activity: Activity) -> Spins:
        return Spins(super().__call__(activity).values[:-1], activity.units)


class Sorting(Binarizer):
    """Sorts what it was given."""

    def __call__(self, activity: Activity) -> Spins:
        activity.values.sort(axis=0)
        return super().__call__(activity)


class Scaling(Binarizer):
    """Divides by a spread that may be zero."""

    def __call__(self, activity: Activity) -> Activity:
        with np.errstate(invalid="ignore", divide="ignore"):
            return Activity((activity.values - activity.values.mean(0)) / activity.values.std(0), activity.units)


BINARIZERS = {
    UpsideDown: ("is monotone in the activity of each unit", "more activity has a lower spin"),
    ZeroOne: (ANSWERS, "-1 or"),
    Dropping: (ANSWERS, "not .observations, units"),
    Sorting: (UNTOUCHED, "changed its input"),
    Scaling: ("answers on constant activity", "NaN"),
}

# ----------------------------------------------------------------------------------------------------------------------
# Partitioners, selectors
# ----------------------------------------------------------------------------------------------------------------------


class Partitioner:
    """Units by turns."""

    name: ClassVar[str] = "partitioner"
    k: tuple[int, ...] = field(default=(2, 3), metadata={"help": "numbers of groups"})

    def __call__(self, affinity: Affinity) -> Any:
        return [Partition(k, np.arange(len(affinity.units)) % k) for k in self.k]


class TooMany(Partitioner):
    """A group more than asked for."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [Partition(k, np.arange(len(affinity.units)) % (k + 1)) for k in self.k]


class Lazy(Partitioner):
    """Only the first number of groups."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return super().__call__(affinity)[:1]


class Short(Partitioner):
    """Forgets a unit."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [replace(partition, labels=partition.labels[1:]) for partition in super().__call__(affinity)]


class Shuffling(Partitioner):
    """Groups by the global dice."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [Partition(k, np.random.permutation(len(affinity.units)) % k) for k in self.k]


class Fragile(Partitioner):
    """Has no words for three units."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [Partition(k, np.arange(24)[: len(affinity.units) // 8 * 8] % k) for k in self.k]


PARTITIONERS = {
    TooMany: (ANSWERS, "3 groups, 2 were asked for"),
    Lazy: (ANSWERS, r"k=\[2, 3\] was asked for, \[2\] came"),
    Short: (ANSWERS, "labels of shape"),
    Shuffling: (GLOBAL, "moved a global random state"),
    Fragile: ("answers or explains itself on three units", "labels of shape"),
}


class Selector:
    """The first group."""

    name: ClassVar[str] = "selector"

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity, labels: Labels) -> Any:
        return Selection((Candidate(partitions[0].groups()[0]),), partitions[0].k)


class Inventing(Selector):
    """Selects a unit that is not there."""

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity, labels: Labels) -> Selection:
        return Selection((Candidate((0, 24)),), None)


class Hollow(Selector):
    """Selects nobody, and calls it a candidate."""

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity, labels: Labels) -> Selection:
        return Selection((Candidate(()),), None)


class Elsewhere(Selector):
    """Says it took the group from a partition nobody made."""

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity, labels: Labels) -> Selection:
        return Selection((), 99)


class Labelled(Selector):
    """Cannot do without labels."""

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity, labels: Labels) -> Selection:
        return Selection((Candidate((int(labels.known[0]),)),), None)


class Oversized(Selector):
    """Does not keep to its own sizes."""

    max_size: int = field(default=2, metadata={"help": "largest group"})

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity, labels: Labels) -> Selection:
        return Selection((Candidate((0, 1, 2)),), None)


SELECTORS = {
    Inventing: (ANSWERS, "members that are no units"),
    Hollow: (ANSWERS, "a candidate is empty"),
    Elsewhere: (ANSWERS, "k=99 was not partitioned"),
    Labelled: ("answers where no unit has a class", "IndexError"),
    Oversized: (ANSWERS, "a candidate of 3 units; 1 to 2 were allowed"),
}

INNOCENT = {"signal": Signal, "binarizer": Binarizer, "partitioner": Partitioner, "selector": Selector}
OFFENDERS = {
    "signal": SIGNALS,
    "binarizer": BINARIZERS,
    "partitioner": PARTITIONERS,
    "selector": SELECTORS,
}
for frozen in (*INNOCENT.values(), *(cls for of in OFFENDERS.values() for cls in of)):
    dataclass(frozen=True)(frozen)


def test_what_the_offenders_differ_from_is_innocent(
    stage: str, cls: type, findings: Callable[[str, type], list[Finding]]
) -> None:
    assert [finding for finding in findings(stage, cls) if finding.outcome == "failed"] == []


def test_an_offender_is_found_out(
    stage: str, cls: type, check: str, reason: str, found_out: Callable[[str, type, str, str], None]
) -> None:
    found_out(stage, cls, check, reason)
