"""The contract suite finds signals, transforms, binarizers, partitioners, choosers and selectors that violate it."""

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
    """The largest attention weight."""

    name: ClassVar[str] = "signal"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values.max(axis=2)

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


class RelativeToPart(Signal):
    """Compares an example with the others of its micro-batch."""

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values.max(axis=2) / rows.values.max(axis=2).mean(axis=0)


@dataclass(frozen=True)
class Whispering(Signal):
    """Reads a source that no subject of the harness has."""

    source: ClassVar[Any] = "gossip"


class Averaging(Signal):
    """Averages over all heads."""

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values.max(axis=2).mean(axis=1, keepdims=True)


class Overflowing(Signal):
    """Is infinite for zero attention."""

    def read(self, rows: Rows) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return -np.log(rows.values.min(axis=2))


SIGNALS = {
    RelativeToPart: ("does not depend on micro batches", "depends on the micro-batches"),
    Averaging: (ANSWERS, "shape|observations units|examples heads"),
    Overflowing: (ANSWERS, "NaN or infinite"),
}


class Transform:
    """Doubles the activity."""

    name: ClassVar[str] = "transform"

    def __call__(self, activity: Activity) -> Any:
        return Activity(2 * activity.values, activity.units)


class Bare(Transform):
    """Returns values without their units."""

    def __call__(self, activity: Activity) -> np.ndarray:
        return activity.values


class Neighbourly(Transform):
    """Subtracts the previous unit."""

    def __call__(self, activity: Activity) -> Activity:
        return Activity(activity.values - np.roll(activity.values, 1, axis=1), activity.units)


class Normalising(Transform):
    """Divides by a standard deviation that can be zero."""

    def __call__(self, activity: Activity) -> Activity:
        with np.errstate(invalid="ignore", divide="ignore"):
            return Activity((activity.values - activity.values.mean(0)) / activity.values.std(0), activity.units)


TRANSFORMS = {
    Bare: (ANSWERS, "ndarray, not Activity"),
    Neighbourly: ("transforms permuted units alike", "units are permuted"),
    Normalising: ("transforms constant activity", "NaN"),
}


class Binarizer:
    """The spin is up above the mean."""

    name: ClassVar[str] = "binarizer"

    def __call__(self, activity: Activity) -> Any:
        up = activity.values > activity.values.mean(axis=0)
        return Spins(np.where(up, 1, -1).astype(np.int8), activity.units)


class UpsideDown(Binarizer):
    """The spin is down above the mean."""

    def __call__(self, activity: Activity) -> Spins:
        return Spins(-super().__call__(activity).values, activity.units)


class ZeroOne(Binarizer):
    """Codes the down spin as zero."""

    def __call__(self, activity: Activity) -> Spins:
        return Spins((activity.values > 0).astype(np.int8), activity.units)


class Dropping(Binarizer):
    """Omits the last observation."""

    def __call__(self, activity: Activity) -> Spins:
        return Spins(super().__call__(activity).values[:-1], activity.units)


class Sorting(Binarizer):
    """Sorts its input in place."""

    def __call__(self, activity: Activity) -> Spins:
        activity.values.sort(axis=0)
        return super().__call__(activity)


class Trembling(Binarizer):
    """Returns varying spins for a constant unit."""

    def __call__(self, activity: Activity) -> Spins:
        up = activity.values > activity.values.mean(axis=0)
        up[0] = ~up[1]
        return Spins(np.where(up, 1, -1).astype(np.int8), activity.units)


class Scaling(Binarizer):
    """Divides by a standard deviation that can be zero."""

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
    """Assigns units to groups in turn."""

    name: ClassVar[str] = "partitioner"
    k: tuple[int, ...] = field(default=(2, 3), metadata={"help": "numbers of groups"})

    def __call__(self, affinity: Affinity) -> Any:
        return [Partition(k, np.arange(len(affinity.units)) % k) for k in self.k]


class TooMany(Partitioner):
    """Returns one group more than requested."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [Partition(k, np.arange(len(affinity.units)) % (k + 1)) for k in self.k]


class Lazy(Partitioner):
    """Uses only the first number of groups."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return super().__call__(affinity)[:1]


class Short(Partitioner):
    """Omits a unit."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [replace(partition, labels=partition.labels[1:]) for partition in super().__call__(affinity)]


class Shuffling(Partitioner):
    """Uses the global random state."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [Partition(k, np.random.permutation(len(affinity.units)) % k) for k in self.k]


class Fragile(Partitioner):
    """Returns labels of a wrong shape for three units."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [Partition(k, np.arange(24)[: len(affinity.units) // 8 * 8] % k) for k in self.k]


class Together(Partitioner):
    """Puts all units into one group."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [Partition(k, np.zeros(len(affinity.units), dtype=np.int64)) for k in self.k]


class Counting(Partitioner):
    """Labels units in no group with -2."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        return [replace(partition, labels=partition.labels - 2) for partition in super().__call__(affinity)]


class Storing(Partitioner):
    """Depends on the number of stored entries of an affinity."""

    def __call__(self, affinity: Affinity) -> list[Partition]:
        missing = affinity.matrix.size < len(affinity.units) ** 2
        return [Partition(k, np.arange(len(affinity.units)) % (k - missing)) for k in self.k]


class Mute(Partitioner):
    """Refuses an affinity of zeros without a message."""

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
    """Prefers many groups."""

    name: ClassVar[str] = "chooser"

    def __call__(self, partitions: Sequence[Partition]) -> Any:
        return [float(partition.k) for partition in partitions]


class Hasty(Chooser):
    """Scores only the first partitions."""

    def __call__(self, partitions: Sequence[Partition]) -> list[float]:
        return [float(partition.k) for partition in partitions[:2]]


class Boundless(Chooser):
    """Divides by a number that can be zero."""

    def __call__(self, partitions: Sequence[Partition]) -> list[float]:
        return [float("inf") for _ in partitions]


class Speechless(Chooser):
    """Never returns a score."""

    def __call__(self, partitions: Sequence[Partition]) -> list[None]:
        return [None for _ in partitions]


class Ordinal(Chooser):
    """Scores a partition by its place in the list."""

    def __call__(self, partitions: Sequence[Partition]) -> list[float]:
        return [float(place) for place, _ in enumerate(partitions)]


CHOOSERS = {
    Hasty: (ANSWERS, "returns 2 scores, but there are 4 partitions"),
    Boundless: (ANSWERS, "a score is inf"),
    Speechless: ("scores ordinary partitions", "all scores are None"),
    Ordinal: ("does not depend on the order of partitions", "its place in the list"),
}


class Selector:
    """Selects the first group."""

    name: ClassVar[str] = "selector"

    def __call__(self, partition: Partition, labels: Labels) -> Any:
        return [Candidate(partition.groups()[0])]


class Inventing(Selector):
    """Selects a unit that does not exist."""

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        return [Candidate((0, 24))]


class Hollow(Selector):
    """Returns an empty candidate."""

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        return [Candidate(())]


class Single(Selector):
    """Returns a candidate instead of a list."""

    def __call__(self, partition: Partition, labels: Labels) -> Candidate:
        return Candidate(partition.groups()[0])


class Labelled(Selector):
    """Fails without labels."""

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        return [Candidate((int(labels.known[0]),))]


class Oversized(Selector):
    """Violates its own size limits."""

    max_size: int = field(default=2, metadata={"help": "largest group"})

    def __call__(self, partition: Partition, labels: Labels) -> list[Candidate]:
        return [Candidate((0, 1, 2))]


class Sweeping(Selector):
    """Treats units in no group as a group."""

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

CORRECT = {
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
for frozen in (*CORRECT.values(), *(cls for classes in OFFENDERS.values() for cls in classes)):
    dataclass(frozen=True)(frozen)


def test_the_correct_versions_of_the_offenders_pass(
    stage: str, cls: type, findings: Callable[[str, type], list[Finding]]
) -> None:
    assert [finding for finding in findings(stage, cls) if finding.outcome == "failed"] == []


def test_an_offender_fails_the_expected_check(
    stage: str, cls: type, check: str, reason: str, assert_fails: Callable[[str, type, str, str], None]
) -> None:
    assert_fails(stage, cls, check, reason)


def test_a_signal_of_a_source_that_the_checks_do_not_know_is_skipped(
    findings: Callable[[str, type], list[Finding]],
) -> None:
    """Subjects of third parties can have sources of their own."""
    (found,) = [finding for finding in findings("signal", Whispering) if finding.check == ANSWERS]
    assert found.outcome == "skipped"
    assert found.reason.startswith("it reads 'gossip'; the checks know attention,")
