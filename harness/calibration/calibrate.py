"""Calibration: the verdicts of the harness on planted groups, whose kind is known, and the error rates of its tests.

A planted subject has ``groups`` (the units of each planted group, by kind) and ``expected`` (by kind, the verdicts that
are correct without noise and overlap). Its plugin has the parameters ``seed``, ``noise`` and ``effect``.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.calibration.questions import coverage, level, power, several_candidates
from harness.calibration.share import Share
from harness.calibration.trained import TINY, trained_level
from harness.cells.cell import Cell
from harness.cells.inputs import Inputs, load_subject
from harness.cells.progress import Progress
from harness.closure.paper import paper_verdict
from harness.closure.report import ClosureReport, judge
from harness.closure.statistics import wilson_interval
from harness.closure.verdict import Verdict
from harness.data.contracts import Subject, reseeded
from harness.data.grouping import best_overlap
from harness.pipeline import dispose, propose, run_cell
from harness.registry.config import resolve
from harness.registry.registry import Registry
from harness.util.cache import Memo
from harness.util.errors import HarnessError

PASSED = (Verdict.PASS, Verdict.WEAK_PASS)
EFFECTS = (0.25, 0.5, 1.0)  # in logits; the default is 2
CONTROLS = (19, 39)  # the default is 199
WEAK = 0.5  # effect at which numbers of groups are compared: where power is neither 0 nor 1


class PlantedSubject(Subject, typing.Protocol):
    """A subject with planted groups."""

    groups: Mapping[str, tuple[tuple[int, ...], ...]]
    expected: Mapping[str, tuple[Verdict, ...]]


@dataclass(frozen=True)
class Protocol:
    """A test protocol: overrides of the configuration, and how a report becomes a verdict."""

    words: tuple[str, ...]
    verdict: Callable[[ClosureReport], Verdict]


def as_reported(report: ClosureReport) -> Verdict:
    """The harness's own verdict."""
    return report.verdict


def as_published(report: ClosureReport) -> Verdict:
    """The closure paper's verdict."""
    return paper_verdict(report.effects)[0]


OWN, FORMER = "default", "disjoint"
PROTOCOLS: Mapping[str, Protocol] = {
    OWN: Protocol((), as_reported),
    FORMER: Protocol(("test=disjoint",), as_reported),
    "paper": Protocol(("preset=paper", "labels=truth", "metric=[target_logit,accuracy,loss]"), as_published),
}
PLANTED = ("subject=planted", "batch=planted", "labels=truth", "reruns=0")
METHODS: Mapping[str, tuple[str, ...]] = {
    "random groups": ("affinity=pearson", "partitioner=random", "partitioner.k=[24]"),
    "ising + spectral": ("affinity=ising", "partitioner=spectral"),
    "mutual_information + spectral": ("affinity=mutual_information", "partitioner=spectral"),
    "pearson_knn + leiden": ("affinity=pearson_knn", "partitioner=leiden"),
    "the truth itself": ("affinity=pearson", "partitioner=oracle"),
}
"""Proposal methods that are run end to end. Where groups do not depend on the affinity, it chooses k."""
Answer = Callable[[int, Mapping[str, Any], Registry], Iterable[Share]]
QUESTIONS: Mapping[str, Answer] = {
    "level on random groups": lambda worlds, stages, _: level(10 * worlds, stages),
    "level on groups of a trained model": lambda _worlds, _stages, registry: trained_level(
        Cell.of(resolve(TINY, registry), registry)
    ),
    "power": lambda worlds, stages, _: power(50 * worlds, stages),
    "several candidates": lambda worlds, stages, _: several_candidates(50 * worlds, stages),
    "coverage of intervals": lambda worlds, _stages, _: coverage(20 * worlds),
}
"""Questions that are answered without planted subjects. Synthetic worlds cost little, so there are more of them."""
SAME_CHOICE = ("chooser=silhouette", "selector=size_range", "selector.min_size=3")  # independent of labels


@dataclass(frozen=True)
class Ruling:
    """One verdict on one group.

    ``part``: its part of the calibration: ``kinds``, ``effect``, ``controls``, or the name of a proposal method.
    ``controls``: how many groups it could be compared with. ``kind``: the planted kind, or for proposed groups
    ``circuit``, ``part of one`` or ``none``. ``expected``: whether this verdict is correct for the kind; None for
    proposed groups.
    """

    part: str
    protocol: str
    world: int
    noise: float
    effect: float
    controls: int
    kind: str
    verdict: str
    expected: bool | None

    @property
    def passed(self) -> bool:
        """Whether the verdict is a pass."""
        return self.verdict in PASSED


@dataclass(frozen=True)
class Calibration:
    """All verdicts of a calibration, the correct ones of each kind, and the shares that answer the other questions."""

    rulings: tuple[Ruling, ...]
    expected: Mapping[str, tuple[Verdict, ...]]
    shares: tuple[Share, ...] = ()

    @property
    def circuits(self) -> tuple[str, ...]:
        """The kinds that should pass."""
        return tuple(kind for kind, verdicts in self.expected.items() if set(verdicts) & set(PASSED))

    @property
    def decoys(self) -> tuple[str, ...]:
        """The kinds that should not pass."""
        return tuple(kind for kind in self.expected if kind not in self.circuits)

    @property
    def noises(self) -> tuple[float, ...]:
        """The noise levels at which all kinds were tested, ascending: zero, and that of the configuration."""
        return tuple(sorted({ruling.noise for ruling in self.rulings if ruling.part == "kinds"}))

    def of(self, **wanted: Any) -> list[Ruling]:
        """The rulings with these values of their fields."""
        return [r for r in self.rulings if all(getattr(r, key) == value for key, value in wanted.items())]

    def by_effect(self, protocol: str) -> list[Ruling]:
        """Rulings on circuits with effects of every size."""
        usual = self.of(part="kinds", protocol=protocol, noise=self.noises[-1])
        return self.of(part="effect", protocol=protocol) + [r for r in usual if r.kind in self.circuits]

    def by_controls(self) -> list[Ruling]:
        """Rulings on weak circuits with every number of compared groups, under the harness's own protocol."""
        return self.of(part="controls") + self.of(part="effect", protocol=OWN, effect=WEAK)


def calibrate(worlds: int, overrides: Sequence[str], registry: Registry, say: Callable[[str], None]) -> Calibration:
    """Test every planted group, and the proposals of a few methods, under every protocol in every world; then answer
    the other questions.

    Errors: no worlds; a subject without planted groups.
    """
    if worlds < 1:
        raise HarnessError(f"worlds={worlds}: at least one world is needed.", "Example: worlds=20")
    words = (*PLANTED, *overrides)
    memo, rulings = Memo(), list[Ruling]()
    for name, protocol in PROTOCOLS.items():
        cell = Cell.of(resolve([*words, *protocol.words], registry), registry)
        subject = _planted(cell, memo)
        methods = {
            method: Cell.of(resolve([*words, *protocol.words, *overrides_of_method, *SAME_CHOICE], registry), registry)
            for method, overrides_of_method in METHODS.items()
        }
        for world in range(worlds):
            rulings += _one_world(name, cell, methods, world, memo)
            say(f"  {name:<8} world {world + 1} of {worlds}")
    shares = list[Share]()
    stages = Cell.of(resolve(words, registry), registry).stages
    for question, answer in QUESTIONS.items():
        shares += answer(worlds, stages, registry)
        say(f"  {question}")
    return Calibration(tuple(rulings), subject.expected, tuple(shares))


def put_to_test(cell: Cell, group: tuple[int, ...], memo: Memo) -> ClosureReport:
    """The closure test of one group on all examples, with the settings of the cell."""
    names = tuple(load_subject(cell, memo, Progress(quiet=True)).units.names(group))
    by_hand = dataclasses.replace(cell, settings=dataclasses.replace(cell.settings, group=names))
    inputs = Inputs.gather(by_hand, memo, Progress(quiet=True), test=True)
    return judge(dispose(inputs, propose(inputs)), cell.settings.alpha)[0].report


def rulings_on(
    part: str, protocol: str, cell: Cell, world: int, memo: Memo, kinds: Sequence[str] = ()
) -> Iterator[Ruling]:
    """A verdict on every planted group of a world, or on the groups of some kinds."""
    subject = _planted(cell, memo)
    for kind, groups in subject.groups.items():
        for group in groups if not kinds or kind in kinds else ():
            report = put_to_test(cell, group, memo)
            yield _ruling(part, protocol, cell, world, kind, report, subject.expected[kind])


def in_world(cell: Cell, world: int, controls: int | None = None, **subject: Any) -> Cell:
    """The same cell in another world, with other examples and other controls; ``subject``: its other parameters."""
    stages = dict(cell.stages)
    stages["subject"] = dataclasses.replace(stages["subject"], seed=world, **subject)
    stages["batch"], stages["controls"] = reseeded(stages["batch"], world), reseeded(stages["controls"], world)
    if controls is not None:
        stages["controls"] = dataclasses.replace(stages["controls"], n=controls)
    return dataclasses.replace(cell, stages=stages)


def _one_world(protocol: str, cell: Cell, methods: Mapping[str, Cell], world: int, memo: Memo) -> Iterator[Ruling]:
    here = in_world(cell, world)
    subject = _planted(here, memo)
    circuits = Calibration((), subject.expected).circuits
    yield from rulings_on("kinds", protocol, in_world(cell, world, noise=0.0), world, memo)
    yield from rulings_on("kinds", protocol, here, world, memo)
    if protocol == FORMER:  # power and level of this test are measured on synthetic worlds
        return
    for effect in EFFECTS:
        yield from rulings_on("effect", protocol, in_world(cell, world, effect=effect), world, memo, circuits)
    for n in CONTROLS if protocol == OWN else ():
        yield from rulings_on(
            "controls", protocol, in_world(cell, world, controls=n, effect=WEAK), world, memo, circuits
        )
    for method, method_cell in methods.items():
        chosen = in_world(method_cell, world)
        record = run_cell(chosen, memo, Progress(quiet=True)).record
        for report in record.closure:
            found = _found(subject, report.units, circuits)
            yield _ruling(method, protocol, chosen, world, found, report, None)


def _planted(cell: Cell, memo: Memo) -> PlantedSubject:
    """The cell's subject. Errors: it has no planted groups."""
    subject = load_subject(cell, memo, Progress(quiet=True))
    if not hasattr(subject, "groups") or not hasattr(subject, "expected"):
        raise HarnessError(
            f"calibrate needs a subject with planted groups, and {subject.label} has none.", "Use subject=planted."
        )
    return typing.cast(PlantedSubject, subject)


def _found(subject: PlantedSubject, names: Sequence[str], circuits: Sequence[str]) -> str:
    """The kind of a proposed group: a circuit (Jaccard overlap of at least 0.5), a part of one, or none."""
    group = set(subject.units.find(names))
    planted = [set(members) for kind in circuits for members in subject.groups[kind]]
    if best_overlap(group, planted) >= 0.5:
        return "circuit"
    return "part of one" if any(group & members for members in planted) else "none"


def _ruling(
    part: str,
    protocol: str,
    cell: Cell,
    world: int,
    kind: str,
    report: ClosureReport,
    expected: Sequence[Verdict] | None,
) -> Ruling:
    subject, verdict = cell.stages["subject"], PROTOCOLS[protocol].verdict(report)
    correct = None if expected is None else verdict in expected
    groups = report.comparable or report.n_controls
    return Ruling(part, protocol, world, subject.noise, subject.effect, groups, kind, str(verdict.value), correct)


def rate(rulings: Sequence[Ruling]) -> tuple[int, int, float, float]:
    """Number of passes, number of rulings, and the 95 % interval of the share."""
    passed = sum(ruling.passed for ruling in rulings)
    return passed, len(rulings), *(wilson_interval(passed, len(rulings)) if rulings else (0.0, 1.0))
