"""The contract suite catches who breaks it: one plugin per way of being wrong, and the finding that says so."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from harness.batch import Batch
from harness.errors import HarnessError
from harness.groups import Affinity, Candidate, Labels, Partition
from harness.recording import Activity, Recording, Rows, Source, Spins
from harness.registry import Method
from harness.stages import ControlSets, Selection
from harness.testing import examples
from harness.testing.contracts import Finding, check_method
from harness.units import UnitSpace

ANSWERS = "answers ordinary input"
TWICE = "gives the same twice"
UNTOUCHED = "leaves its input as it was"
GLOBAL = "keeps out of global random state"


def findings(stage: str, cls: type) -> list[Finding]:
    return check_method(Method(stage, "offender", cls, "tests"))


# ----------------------------------------------------------------------------------------------------------------------
# One that keeps every contract: what the offenders below differ from
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fine:
    """Products of spins, averaged."""

    name: ClassVar[str] = "fine"
    scale: float = field(default=1.0, metadata={"help": "of everything"})

    def __call__(self, spins: Spins) -> Affinity:
        values = spins.values.astype(np.float64)
        matrix = np.abs(values.T @ values) / len(values) * self.scale
        np.fill_diagonal(matrix, 0.0)
        return Affinity(matrix, spins.units)


def test_a_plugin_that_keeps_its_contract_passes_every_check() -> None:
    found = findings("affinity", Fine)
    assert {finding.outcome for finding in found} == {"passed"}
    assert len(found) == 11


# ----------------------------------------------------------------------------------------------------------------------
# Affinities
# ----------------------------------------------------------------------------------------------------------------------


class Offender(Fine):
    """An affinity that goes wrong after it has been right."""

    def __call__(self, spins: Spins) -> Any:
        return self.spoil(super().__call__(spins), spins)

    def spoil(self, right: Affinity, spins: Spins) -> Any:
        raise NotImplementedError


class Asymmetric(Offender):
    """Looks one way more than the other."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        return Affinity(np.triu(right.matrix), spins.units)


class SecretlyAsymmetric(Offender):
    """Turns so once nobody looks."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        right.matrix[0, 1] += 1.0
        return right


class NotANumber(Offender):
    """Divides by zero."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        return Affinity(np.full_like(right.matrix, np.nan), spins.units)


class SelfLoving(Offender):
    """Fills its diagonal once nobody looks."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        np.fill_diagonal(right.matrix, 1.0)
        return right


class Bare(Offender):
    """Returns the matrix alone."""

    def spoil(self, right: Affinity, spins: Spins) -> np.ndarray:
        return right.matrix


class Raising(Offender):
    """Breaks."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        raise ZeroDivisionError("no")


class Ordered(Offender):
    """Cares which unit comes first."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        matrix = right.matrix.copy()
        matrix[0, 1:] += 1e-6
        matrix[1:, 0] += 1e-6
        return Affinity(matrix, spins.units)


class Mutating(Offender):
    """Works in place."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        spins.values[:, 0] *= -1
        return right


class Noting(Offender):
    """Leaves a note on what it was given."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        spins.diagnostics["seen"] = True  # type: ignore[index]
        return right


class Unseeded(Offender):
    """Rolls dice of its own."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        return Affinity(right.matrix * (1 + np.random.default_rng().random()), spins.units)


class GloballyRandom(Offender):
    """Rolls everybody's dice."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        return Affinity(right.matrix * (1 + np.random.random()), spins.units)


class Reseeding(Offender):
    """Turns everybody's dice back."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        np.random.seed(0)
        return right


class TorchSeeding(Offender):
    """The same, in torch."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        torch.manual_seed(0)
        return right


class Correlation(Offender):
    """Has no answer for a unit that never changes."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = np.corrcoef(spins.values.T)
        np.fill_diagonal(matrix, 0.0)
        return Affinity((matrix + matrix.T) / 2, spins.units)


class Crowd(Offender):
    """Needs three units."""

    def spoil(self, right: Affinity, spins: Spins) -> Affinity:
        right.matrix[2, 2] = 0.0
        return right


AFFINITIES = {
    Asymmetric: (ANSWERS, "not symmetric"),
    SecretlyAsymmetric: (ANSWERS, "not symmetric"),
    NotANumber: (ANSWERS, "NaN"),
    SelfLoving: (ANSWERS, "diagonal is not zero"),
    Bare: (ANSWERS, "returns ndarray, not Affinity"),
    Raising: (ANSWERS, "ZeroDivisionError: no"),
    Ordered: ("does not depend on the order of units", "when units change places"),
    Mutating: (UNTOUCHED, "changed its input"),
    Noting: (UNTOUCHED, "changed its input"),
    Unseeded: (TWICE, "two calls with the same input differ"),
    GloballyRandom: (GLOBAL, "moved a global random state"),
    Reseeding: (GLOBAL, "moved a global random state"),
    TorchSeeding: (GLOBAL, "moved a global random state"),
    Correlation: ("answers on units that never change", "NaN"),
    Crowd: ("answers on two units", "IndexError"),
}

# ----------------------------------------------------------------------------------------------------------------------
# What holds for every stage
# ----------------------------------------------------------------------------------------------------------------------


@dataclass
class Soft:
    """Can be changed after it is built."""

    name: ClassVar[str] = "soft"
    scale: float = field(default=1.0, metadata={"help": "of everything"})
    __call__ = Fine.__call__


class Mumbling(Fine):
    """no sentence"""


class Confused(Fine):
    """Has a default that is not of its type."""

    times: int = field(default="3", metadata={"help": "how often"})  # type: ignore[assignment]


class Stuck(Fine):
    """Cannot travel to another process."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class Forgetful(Fine):
    """Arrives in another process as somebody else."""

    def __reduce__(self) -> Any:
        return type(self), (7.0,)


EVERY_STAGE = {
    Soft: ("is frozen", "can be changed"),
    Mumbling: ("describes itself", "no sentence"),
    Confused: ("builds from its parameters", "a configuration with its defaults gives"),
    Stuck: ("can be pickled", "cannot be pickled"),
    Forgetful: ("can be pickled", "not the same after pickling"),
}

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

# ----------------------------------------------------------------------------------------------------------------------
# Interventions, controls, metrics
# ----------------------------------------------------------------------------------------------------------------------


class Intervention:
    """Silence."""

    name: ClassVar[str] = "intervention"

    def __call__(self, output: torch.Tensor) -> Any:
        return torch.zeros_like(output)


class InPlace(Intervention):
    """Silences the original as well."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.zero_()


class Widening(Intervention):
    """Answers in single precision, whatever it is asked in."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.mean(dim=0).float()


class Misshapen(Intervention):
    """One number per row, on the wrong side."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(len(output))


class Noisy(Intervention):
    """Writes noise from everybody's dice."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return torch.randn_like(output)


INTERVENTIONS = {
    InPlace: (UNTOUCHED, "changed its input"),
    Widening: ("keeps the dtype", "turns torch.bfloat16 into torch.float32"),
    Misshapen: (ANSWERS, r"shape \(3,\) does not broadcast"),
    Noisy: (GLOBAL, "moved a global random state"),
}


class Controls:
    """Random groups."""

    name: ClassVar[str] = "controls"
    n: int = field(default=9, metadata={"help": "how many"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        rest = [unit for unit in range(len(units)) if unit not in candidate]
        if len(rest) < len(candidate):
            return ControlSets(())
        rng = np.random.default_rng(self.seed)
        drawn = {tuple(sorted(rng.choice(rest, len(candidate), replace=False).tolist())) for _ in range(self.n)}
        return ControlSets(self.spoil(tuple(sorted(drawn)), candidate))

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return groups


class Overlapping(Controls):
    """Takes a unit of the candidate into a control."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], (candidate[0], *groups[0][1:]))


class Repeating(Controls):
    """Draws one control twice, in another order."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], tuple(reversed(groups[1])))


class Smaller(Controls):
    """Draws a control that is too small."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], groups[0][1:])


class Fixed(Controls):
    """Takes a seed and ignores it."""

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        return Controls.__call__(replace(self, seed=0), candidate, units)  # type: ignore[type-var]


class Demanding(Controls):
    """Has no answer where nothing is left."""

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        if len(candidate) == len(units):
            raise ValueError("nothing left")
        return super().__call__(candidate, units)


CONTROLS = {
    Overlapping: (ANSWERS, "shares a unit with the candidate"),
    Repeating: (ANSWERS, "drawn twice"),
    Smaller: (ANSWERS, "has not the candidate's 4 units"),
    Fixed: ("draws others with another seed", "the seed changes nothing"),
    Demanding: ("draws none where nothing is left", "ValueError"),
}


class Metric:
    """The logit of the target."""

    name: ClassVar[str] = "metric"
    damage: ClassVar[int] = -1

    def __call__(self, prediction: Any) -> torch.Tensor:
        return prediction.logits.gather(1, prediction.target[:, None])[:, 0]


class Backwards(Metric):
    """Calls an improvement damage."""

    damage: ClassVar[int] = 1


class Undirected(Metric):
    """Does not say which way damage points."""

    damage: ClassVar[int] = 0


class Summary(Metric):
    """One number for all rows."""

    def __call__(self, prediction: Any) -> torch.Tensor:
        return super().__call__(prediction).mean()


class Competitive(Metric):
    """Measures a row against the others."""

    def __call__(self, prediction: Any) -> torch.Tensor:
        values = super().__call__(prediction)
        return values - 0.5 * values.mean()


METRICS = {
    Backwards: ("says which way damage points", "moves it the other way"),
    Undirected: (ANSWERS, "its damage is 0"),
    Summary: (ANSWERS, "not one number per row"),
    Competitive: ("measures each row by itself", "depends on the other rows"),
}

# ----------------------------------------------------------------------------------------------------------------------
# Batches, labels, subjects
# ----------------------------------------------------------------------------------------------------------------------


class BatchOf:
    """Random tokens."""

    name: ClassVar[str] = "batch"
    n: int = field(default=8, metadata={"help": "examples"})

    def __call__(self, vocabulary: Any) -> Batch:
        made = examples.batch(self.n, vocabulary.vocab_size)
        return self.spoil(made, vocabulary)

    def spoil(self, made: Batch, vocabulary: Any) -> Batch:
        return made


class Foreign(BatchOf):
    """Uses tokens the subject does not have."""

    def spoil(self, made: Batch, vocabulary: Any) -> Batch:
        return replace(made, tokens=made.tokens + vocabulary.vocab_size)


class Stingy(BatchOf):
    """Gives fewer examples than asked for."""

    def spoil(self, made: Batch, vocabulary: Any) -> Batch:
        return made.take(np.arange(3))


class Fresh(BatchOf):
    """Other examples at every call."""

    def spoil(self, made: Batch, vocabulary: Any) -> Batch:
        return replace(made, target=np.random.default_rng().integers(0, vocabulary.vocab_size, self.n))


class Wide(BatchOf):
    """Takes a large vocabulary for granted."""

    def spoil(self, made: Batch, vocabulary: Any) -> Batch:
        return replace(made, target=np.full(self.n, 100))


BATCHES = {
    Foreign: (ANSWERS, "outside the subject's vocabulary"),
    Stingy: (ANSWERS, "8 examples were asked for, 3 came"),
    Fresh: (TWICE, "two calls with the same input differ"),
    Wide: ("answers or explains itself on a small vocabulary", "target 100 is outside"),
}


class LabelsOf:
    """Where a head looks."""

    name: ClassVar[str] = "labels"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values[:, :, :1]

    def __call__(self, recording: Recording) -> Labels:
        first = recording.readings["labels"].mean(axis=(0, 2))
        return Labels(tuple("first" if share > 0.02 else None for share in first), recording.units)


class Forgetting(LabelsOf):
    """Has no class for the last unit."""

    def __call__(self, recording: Recording) -> Labels:
        return Labels(super().__call__(recording).classes[:-1], recording.units)


class Numbering(LabelsOf):
    """Classes are numbers."""

    def __call__(self, recording: Recording) -> Any:
        labels = super().__call__(recording)
        object.__setattr__(labels, "classes", tuple(range(len(recording.units))))
        return labels


class PartLabels(LabelsOf):
    """Compares an example with those that happen to come along."""

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values[:, :, :1] * (len(rows.batch) > 4)


LABELS = {
    Forgetting: (ANSWERS, "23 classes for 24 units"),
    Numbering: (ANSWERS, "classes are names or None"),
    PartLabels: ("reads a batch in parts as it does at once", "cut into parts"),
}


@dataclass
class Toy:
    """A subject of four units, each with a weight on the sum of the tokens."""

    label: str = "toy"
    units: Any = field(default_factory=lambda: UnitSpace.heads([2, 2]))
    about: Mapping[str, Any] = field(default_factory=dict)
    vocab_size: int = 60
    context: int = 64
    encode: Any = None
    leak: int = 0
    shape: tuple[int, ...] | None = None

    def record(self, batch: Batch, readers: Mapping[str, Any], tick: Any) -> Recording:
        keys = batch.tokens.shape[1]
        seen = np.arange(keys) <= batch.query[:, None] + self.leak
        values = np.repeat((seen / seen.sum(axis=1, keepdims=True))[:, None, :], 2, axis=1)
        every = np.arange(len(batch))
        readings = {
            name: np.concatenate(
                [reader.read(Rows("attention", layer, values, batch, batch, every)) for layer in (0, 1)], axis=1
            )
            for name, reader in readers.items()
        }
        return Recording(batch, self.units, readings)

    def evaluate(self, batch: Batch, conditions: Any, intervention: Any, metrics: Any, tick: Any) -> np.ndarray:
        seen = np.arange(batch.tokens.shape[1]) <= batch.query[:, None] + self.leak
        total = (batch.tokens * seen).sum(axis=1) / 100
        values = np.array([[total * (4 - len(condition)) for condition in conditions] for _ in metrics])
        return values.reshape(self.shape) if self.shape else values


class SubjectOf:
    """A toy."""

    name: ClassVar[str] = "subject"

    def __call__(self) -> Any:
        return Toy()


class Leaking(SubjectOf):
    """Sees the future."""

    def __call__(self) -> Toy:
        return Toy(leak=2)


class Nameless(SubjectOf):
    """Has no units to speak of."""

    def __call__(self) -> Toy:
        return Toy(units=["L0H0"])


class Flat(SubjectOf):
    """Loses an axis."""

    def __call__(self) -> Toy:
        return Toy(shape=(5, -1))


SUBJECTS = {
    Leaking: ("does not see past the query", "after the query changes the answer"),
    Nameless: ("loads and names its units", "no UnitSpace"),
    Flat: ("evaluates every condition on every example", "shape"),
}

OFFENDERS = [
    (stage, cls, *expected)
    for stage, group in {
        "affinity": AFFINITIES | EVERY_STAGE,
        "signal": SIGNALS,
        "binarizer": BINARIZERS,
        "partitioner": PARTITIONERS,
        "selector": SELECTORS,
        "intervention": INTERVENTIONS,
        "controls": CONTROLS,
        "metric": METRICS,
        "batch": BATCHES,
        "labels": LABELS,
        "subject": SUBJECTS,
    }.items()
    for cls, expected in group.items()
]
INNOCENT = {
    "signal": Signal,
    "binarizer": Binarizer,
    "partitioner": Partitioner,
    "selector": Selector,
    "intervention": Intervention,
    "controls": Controls,
    "metric": Metric,
    "batch": BatchOf,
    "labels": LabelsOf,
    "subject": SubjectOf,
}
for frozen in (*INNOCENT.values(), *(cls for _, cls, *_ in OFFENDERS if cls is not Soft)):
    dataclass(frozen=True)(frozen)


@pytest.mark.parametrize(("stage", "cls"), INNOCENT.items())
def test_what_the_offenders_differ_from_is_innocent(stage: str, cls: type) -> None:
    assert [finding for finding in findings(stage, cls) if finding.outcome == "failed"] == []


@pytest.mark.parametrize(
    ("stage", "cls", "check", "reason"), OFFENDERS, ids=[f"{stage}-{cls.__name__}" for stage, cls, *_ in OFFENDERS]
)
@pytest.mark.usefixtures("unchecked")
def test_an_offender_is_found_out(stage: str, cls: type, check: str, reason: str) -> None:
    found = findings(stage, cls)
    failed = {finding.check: finding.reason for finding in found if finding.outcome == "failed"}
    assert check in failed
    assert re.search(reason, failed[check]), failed[check]


def test_one_that_does_not_answer_at_all_is_asked_nothing_more() -> None:
    assert findings("affinity", Raising)[-1] == Finding(ANSWERS, "failed", "ZeroDivisionError: no")


class Homeless(SubjectOf):
    """Needs a path."""

    def __call__(self) -> Toy:
        raise HarnessError("subject.path is empty: which model?")


class Particular:
    """Cannot be built from nothing."""

    name: ClassVar[str] = "particular"
    path: str = field(default="", metadata={"help": "of a matrix"})

    def __post_init__(self) -> None:
        if not self.path:
            raise HarnessError("affinity.path is empty: which matrix?")

    def __call__(self, spins: Spins) -> Affinity:
        raise NotImplementedError


for frozen in (Homeless, Particular):
    dataclass(frozen=True)(frozen)


def test_what_needs_parameters_is_skipped_with_its_own_reason() -> None:
    last = findings("subject", Homeless)[-1]
    assert (last.outcome, "subject.path is empty" in last.reason) == ("skipped", True)
    last = findings("affinity", Particular)[-1]
    assert (last.outcome, "affinity.path is empty" in last.reason) == ("skipped", True)


@pytest.mark.usefixtures("unchecked")  # runtime checks of types roll Python's dice
def test_checking_leaves_the_global_dice_where_they_were() -> None:
    np.random.seed(3)
    random.seed(3)
    torch.manual_seed(3)
    expected = np.random.random(), random.random(), float(torch.rand(1))
    np.random.seed(3)
    random.seed(3)
    torch.manual_seed(3)
    findings("affinity", Fine)
    assert (np.random.random(), random.random(), float(torch.rand(1))) == expected
