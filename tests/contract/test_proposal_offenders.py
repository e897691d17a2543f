"""The contract suite finds signals, transforms, binarizers, partitioners, choosers and selectors that break it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from harness.data.grouping import Affinity, Candidate, Labels, Partition
from harness.data.recording import Activity, Recording, Rows, Source, Spins
from harness.testing.contracts import Finding

ANSWERS = "answers ordinary input"
UNCHANGED = "does not change its input"
GLOBAL = "does not use global random state"

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
    RelativeToPart: ("does not depend on micro batches", "depends on the micro-batches"),
    Whispering: (ANSWERS, "AttributeError|shape|gossip"),
    Averaging: (ANSWERS, "shape|observations units|examples heads"),
    Overflowing: (ANSWERS, "NaN or infinite"),
}


class Transform:
    """Twice as much."""

    name: ClassVar[str] = "transform"

    def __call__(self, activity: Activity) -> Any:
        return Activity(2 * activity.values, activity.units)


class Bare(Transform):
    """Forgets whose numbers they are."""

    def __call__(self, activity: Activity) -> np.ndarray:
        return activity.values


class Neighbourly(Transform):
    """Takes the unit before it away."""

    def __call__(self, activity: Activity) -> Activity:
        return Activity(activity.values - np.roll(activity.values, 1, axis=1), activity.units)


class Normalising(Transform):
    """Divides by a spread that may be zero."""

    def __call__(self, activity: Activity) -> Activity:
        with np.errstate(invalid="ignore", divide="ignore"):
            return Activity((activity.values - activity.values.mean(0)) / activity.values.std(0), activity.units)


TRANSFORMS = {
    Bare: (ANSWERS, "ndarray, not Activity"),
    Neighbourly: ("transforms permuted units alike", "units are permuted"),
    Normalising: ("transforms constant activity", "NaN"),
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


class Trembling(Binarizer):
    """Has up and down observations of a unit that never changes."""

    def __call__(self, activity: Activity) -> Spins:
        up = activity.values > activity.values.mean(axis=0)
        up[0] = ~up[1]
        return Spins(np.where(up, 1, -1).astype(np.int8), activity.units)


class Scaling(Binarizer):
    """Divides by a spread that may be zero."""

    def __call__(self, activity: Activity) -> Activity:
        with np.errstate(invalid="ignore", divide="ignore"):
            return Activity((activity.values - activity.values.mean(0)) / activity.values.std(0), activity.units)


BINARIZERS = {
    UpsideDown: ("is monotone in the activity of each unit", "more activity has a lower spin"),
    ZeroOne: (ANSWERS, "-1 or"),
    Dropping: (ANSWERS, "not .observations, units"),
    Sorting: (UNCHANGED, "changed its input"),
    Scaling: ("answers on constant activity", "NaN"),
    Trembling: ("answers on constant activity", "has spins that change"),
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


class Together(Partitioner):
    """Keeps everybody together."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [Partition(k, np.zeros(len(affinity.units), dtype=np.int64)) for k in self.k]


class Counting(Partitioner):
    """Counts those in no group from -2."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [replace(partition, labels=partition.labels - 2) for partition in super().__call__(affinity)]


class Storing(Partitioner):
    """Counts what is stored of an affinity."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        missing = affinity.matrix.size < len(affinity.units) ** 2
        return [Partition(k, np.arange(len(affinity.units)) % (k - missing)) for k in self.k]


class Mute(Partitioner):
    """Has no words for an affinity of nothing."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        assert affinity.matrix.any()
        return super().__call__(affinity)


PARTITIONERS = {
    Together: ("finds groups where there are some", "no partition separates any units"),
    Counting: (ANSWERS, "a label is -2"),
    Storing: ("treats sparse and dense affinities alike", "another result"),
    Mute: ("answers or refuses an affinity of zeros", "AssertionError"),
    TooMany: (ANSWERS, "finds 3 groups, more than k=2"),
    Lazy: (ANSWERS, r"k=\[2\], not the requested k=\[2, 3\]"),
    Short: (ANSWERS, "labels have shape"),
    Shuffling: (GLOBAL, "changed a global random state"),
    Fragile: ("answers or refuses three units", "labels have shape"),
}


class Chooser:
    """Many groups are better than few."""

    name: ClassVar[str] = "chooser"

    def __call__(self, partitions: Sequence[Partition]) -> Any:
        return [float(partition.k) for partition in partitions]


class Hasty(Chooser):
    """Looks at the first ones only."""

    def __call__(self, partitions: Sequence[Partition]) -> list[float]:
        return [float(partition.k) for partition in partitions[:2]]


class Boundless(Chooser):
    """Divides by what may be zero."""

    def __call__(self, partitions: Sequence[Partition]) -> list[float]:
        return [float("inf") for _ in partitions]


class Speechless(Chooser):
    """Has no opinion, ever."""

    def __call__(self, partitions: Sequence[Partition]) -> list[None]:
        return [None for _ in partitions]


class Ordinal(Chooser):
    """Likes what comes late."""

    def __call__(self, partitions: Sequence[Partition]) -> list[float]:
        return [float(place) for place, _ in enumerate(partitions)]


CHOOSERS = {
    Hasty: (ANSWERS, "returns 2 scores, but there are 4 partitions"),
    Boundless: (ANSWERS, "a score is inf"),
    Speechless: ("scores ordinary partitions", "all scores are None"),
    Ordinal: ("does not depend on the order of partitions", "its place in the list"),
}


class Selector:
    """The first group."""

    name: ClassVar[str] = "selector"

    def __call__(self, partition: Partition, labels: Labels) -> Any:
        return [Candidate(partition.groups()[0])]


class Inventing(Selector):
    """Selects a unit that is not there."""

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        return [Candidate((0, 24))]


class Hollow(Selector):
    """Selects nobody, and calls it a candidate."""

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        return [Candidate(())]


class Single(Selector):
    """Gives the candidate, and no list of it."""

    def __call__(self, partition: Partition, labels: Labels) -> Candidate:
        return Candidate(partition.groups()[0])


class Labelled(Selector):
    """Cannot do without labels."""

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        return [Candidate((int(labels.known[0]),))]


class Oversized(Selector):
    """Does not keep to its own sizes."""

    max_size: int = field(default=2, metadata={"help": "largest group"})

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        return [Candidate((0, 1, 2))]


class Sweeping(Selector):
    """Takes those in no group for a group."""

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        found = np.unique(partition.labels)
        return [Candidate(tuple(np.flatnonzero(partition.labels == label).tolist())) for label in found]


SELECTORS = {
    Inventing: (ANSWERS, "members that are not positions of units"),
    Hollow: (ANSWERS, "a candidate is empty"),
    Single: (ANSWERS, "returns Candidate, not a list"),
    Labelled: ("answers without labels", "IndexError"),
    Oversized: (ANSWERS, "a candidate has 3 units, not 1 to 2"),
    Sweeping: ("ignores units without a group", "in no group"),
}

INNOCENT = {
    "signal": Signal,
    "transform": Transform,
    "binarizer": Binarizer,
    "partitioner": Partitioner,
    "chooser": Chooser,
    "selector": Selector,
}
OFFENDERS = {
    "signal": SIGNALS,
    "transform": TRANSFORMS,
    "binarizer": BINARIZERS,
    "partitioner": PARTITIONERS,
    "chooser": CHOOSERS,
    "selector": SELECTORS,
}
for frozen in (*INNOCENT.values(), *(cls for classes in OFFENDERS.values() for cls in classes)):
    dataclass(frozen=True)(frozen)


def test_the_correct_versions_of_the_offenders_pass(
    stage: str, cls: type, findings: Callable[[str, type], list[Finding]]
) -> None:
    assert [finding for finding in findings(stage, cls) if finding.outcome == "failed"] == []


def test_an_offender_fails_the_expected_check(
    stage: str, cls: type, check: str, reason: str, found_out: Callable[[str, type, str, str], None]
) -> None:
    found_out(stage, cls, check, reason)
