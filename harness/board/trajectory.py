"""Classes of units through training, from records: what each is like at a checkpoint, and what its ablation does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.board.emergence import FUNCTION, RICH, SELECTIVE, Crossing, Figure, decoupled, first, half_risen
from harness.board.equal_weights import equal_weights, sentence
from harness.cells.settings import NEUTRAL
from harness.closure.report import ClosureReport
from harness.closure.verdict import Verdict, decision_order
from harness.data.grouping import UNCLASSIFIED
from harness.records.record import FIGURES, FINISHED, Record
from harness.util.digest import digest
from harness.util.errors import HarnessError

RICHNESS = "participation_ratio"
"""The signal whose score is the participation ratio."""
_OF_TIME = frozenset({"checkpoint", "revision", "history", "device", "device_map", "memory"})
"""Parameters of a subject that say which checkpoint it is, or that change no result."""


@dataclass(frozen=True)
class Point:
    """A class at one checkpoint.

    ``selectivity``: for its own class; ``score``: of the signal; both are means over its units. ``damage``: the change
    of the first metric by its ablation, positive for the worse. ``necessity``: T. ``accuracy``: of the model.
    ``other``: the controls of its cell, where they are not those of the trajectory, because the class fills its sites.
    """

    step: int
    cell: str
    verdict: Verdict
    damage: Figure
    necessity: float | None
    selectivity: Figure | None
    score: Figure | None
    accuracy: float | None
    other: str = ""

    @property
    def decoupled(self) -> str:
        """Form without function, or function without form; empty otherwise."""
        return decoupled(self.selectivity, self.verdict)


@dataclass(frozen=True)
class Course:
    """One class through training: its units, which are the same at every step, and a point for each checkpoint."""

    name: str
    units: tuple[str, ...]
    points: tuple[Point, ...]

    @property
    def steps(self) -> list[int]:
        """The steps of its points."""
        return [point.step for point in self.points]

    @property
    def selective(self) -> Crossing | None:
        """The first step with a mean selectivity of at least 30."""
        return first(self.steps, [bool(p.selectivity and p.selectivity.value >= SELECTIVE) for p in self.points])

    @property
    def rich(self) -> Crossing | None:
        """The first step with a mean participation ratio of at least 15."""
        return first(self.steps, [bool(p.score and p.score.value >= RICH) for p in self.points])

    @property
    def needed(self) -> Crossing | None:
        """The first step at which the group passes."""
        return first(self.steps, [point.verdict in FUNCTION for point in self.points])

    @property
    def score_risen(self) -> Crossing | None:
        """The first step at which its score has made half of its rise."""
        scores = [(point.step, point.score.value) for point in self.points if point.score]
        return half_risen([step for step, _ in scores], [value for _, value in scores]) if scores else None


@dataclass(frozen=True)
class Trajectory:
    """The classes of one model on one task. ``signal``: of the scores; ``metric``: of the damage; ``nobody``: classes
    of the batch that no unit has at the last checkpoint."""

    subject: str
    batch: str
    intervention: str
    signal: str
    metric: str
    courses: tuple[Course, ...]
    nobody: tuple[str, ...]

    @property
    def steps(self) -> list[int]:
        """The steps of all classes."""
        return sorted({step for course in self.courses for step in course.steps})

    @property
    def accuracy(self) -> dict[int, float]:
        """The accuracy of the model without ablation, by step; empty where it is not measured."""
        return {p.step: p.accuracy for course in self.courses for p in course.points if p.accuracy is not None}

    @property
    def accuracy_risen(self) -> Crossing | None:
        """The first step at which the accuracy has made half of its rise."""
        found = sorted(self.accuracy.items())
        return half_risen([step for step, _ in found], [value for _, value in found]) if found else None


def trajectories_of(records: Sequence[Record]) -> list[Trajectory]:
    """One trajectory for each model and task whose records follow classes through training.

    Errors: no such record; one checkpoint only; checkpoints of different units or classes, or with equal weights.
    """
    by_model: dict[str, list[Record]] = {}
    for record in records:
        if follows_classes(record):
            by_model.setdefault(_model_and_task(record), []).append(record)
    if not by_model:
        raise HarnessError(
            f"none of the {len(records)} records follows classes through training.",
            "Run: harness sweep experiment=trajectory",
        )
    return sorted((_trajectory(cells) for cells in by_model.values()), key=lambda t: (t.subject, t.batch))


def follows_classes(record: Record) -> bool:
    """Whether a record is a point of a trajectory."""
    return record.status in FINISHED and FIGURES in record.diagnostics and "step" in record.provenance


def _trajectory(records: Sequence[Record]) -> Trajectory:
    ordered = sorted(records, key=lambda record: (_step(record), _width(record), str(record.provenance.get("started"))))
    _check(ordered)
    latest = ordered[-1]
    profile = str(ordered[0].config["controls"]["name"])
    chosen: dict[tuple[str, int], tuple[Record, ClosureReport]] = {}
    for record in ordered:
        for closure in record.closure:
            name = _class_of(closure, record)
            if name is None:
                continue
            place = (name, _step(record))
            had = chosen.get(place)
            if had is None or _width(had[0]) == _width(record) or had[1].verdict is Verdict.UNDERPOWERED:
                chosen[place] = (record, closure)
    names = sorted({name for name, _ in chosen})
    figures = next(iter(latest.diagnostics[FIGURES].values()))
    courses = []
    for name in names:
        cells = [chosen[place] for place in sorted(chosen) if place[0] == name]
        points = tuple(_point(name, *cell, profile) for cell in cells)
        courses.append(Course(name, cells[0][1].units, points))
    return Trajectory(
        subject=latest.cell.subject.split("@")[0],
        batch=latest.cell.batch,
        intervention=latest.cell.intervention,
        signal=str(figures["signal"]),
        metric=decision_order(latest.closure[0].effects)[0],
        courses=tuple(courses),
        nobody=tuple(name for name in figures["selectivity"] if name not in names),
    )


def _check(records: Sequence[Record]) -> None:
    """Refuse records that are not checkpoints of one model."""
    subject, steps = records[0].cell.subject.split("@")[0], {_step(record) for record in records}
    if len(steps) == 1:
        raise HarnessError(
            f"{subject}: there is one checkpoint only, step {_step(records[0])}.",
            "Sweep several: subject.checkpoint=0,800,final (on the hub: subject.revision=step1000,step143000)",
        )
    if pair := next(equal_weights(records), None):
        raise HarnessError(sentence(pair), "Leave one of them out: remove its folder in records/.")
    for record in records:
        for what, mine, others in (
            ("units", record.units, records[0].units),
            ("classes at the last checkpoint", record.classes, records[0].classes),
        ):
            if mine != others:
                raise HarnessError(
                    f"{subject}: cells {records[0].cell.id} (step {_step(records[0])}) and {record.cell.id} (step "
                    f"{_step(record)}) have other {what}, so that their groups cannot be compared.",
                    "Use a workspace of its own for each model, and run the cells again with --force.",
                )


def _point(name: str, record: Record, closure: ClosureReport, profile: str) -> Point:
    effects, found = closure.effects, record.diagnostics[FIGURES][" ".join(closure.units)]
    effect = effects[decision_order(effects)[0]]
    ends = sorted(effect.damage * end for end in effect.interval) if effect.interval else None
    own = found["selectivity"].get(name)
    controls = str(record.config["controls"]["name"])
    return Point(
        step=_step(record),
        cell=record.cell.id,
        verdict=closure.verdict,
        damage=Figure(effect.damage * effect.delta, (ends[0], ends[1]) if ends else None),
        necessity=effect.statistic,
        selectivity=_figure(own) if own else None,
        score=_figure(found["score"]),
        accuracy=effects["accuracy"].baseline if "accuracy" in effects else None,
        other="" if controls == profile else controls,
    )


def _figure(stored: Sequence[float]) -> Figure:
    return Figure(stored[0], (stored[1], stored[2]))


def _class_of(closure: ClosureReport, record: Record) -> str | None:
    """The class whose units these are, all of them. None: another group."""
    classes = dict(zip(record.units, record.classes, strict=True))
    name = classes[closure.units[0]]
    everyone = {unit for unit, each in classes.items() if each == name}
    return name if name not in (None, UNCLASSIFIED) and everyone == set(closure.units) else None


def _step(record: Record) -> int:
    return int(record.provenance["step"])


def _width(record: Record) -> int:
    """The order in which profiles are preferred: groups of the same sites first."""
    return 0 if record.config["controls"]["name"] == "layer_matched" else 1


def _model_and_task(record: Record) -> str:
    """Identity of all but the checkpoint and the profile of the groups."""
    config: dict[str, Any] = {k: v for k, v in record.config.items() if k not in {*NEUTRAL, "controls"}}
    subject: Mapping[str, Any] = config.pop("subject")
    return digest({k: v for k, v in subject.items() if k not in _OF_TIME}, config)
