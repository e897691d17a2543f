"""Classes through training, as sentences, tables, data, and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.board.emergence import FORM_ONLY, FUNCTION_ONLY, RICH, SELECTIVE, Crossing, Figure
from harness.board.markdown import plain, table
from harness.board.strata import number_or_dash
from harness.board.trajectory import RICHNESS, Course, Point, Trajectory
from harness.closure.verdict import spaced
from harness.records.workspace import atomically, write_atomically

MEANING = f"""\
- **selectivity**: attention of the class's units on its target, as a ratio to other positions, at this checkpoint; the
  mean over units with a 95 % interval over examples (jackknife). From {SELECTIVE:g} a unit has a class.
- **PR** (or another signal): the same of the signal's score. Participation ratio: the number of directions that a
  head's outputs span; from {RICH:g} a head has emerged (published for heads of 64 dimensions; it is at most the width).
- **damage**: by ablating all units of the class, on the metric that decides first; positive is worse, with a 95 %
  interval. **T**: the necessity of its units. **verdict**: of the closure test at this checkpoint.
- **{FORM_ONLY}**: the whole interval of the selectivity is at or above {SELECTIVE:g}, and the verdict is null,
  wrong_direction or task_not_done. **{FUNCTION_ONLY}**: the whole interval is below {SELECTIVE:g}, and the verdict is
  pass, weak_pass or redundant. Other verdicts leave open whether the model needs the class.
- **half risen**: the first checkpoint after the minimum at which a figure has made half of its rise to the maximum.
  **lead**: that step of the accuracy minus that step of the score; positive: the score rises first.
- The units of a class are those that have it at the last checkpoint. Where a class fills the sites of its groups, its
  verdict is of groups of a wider profile, if the workspace has such cells (controls=depth_band controls.bands=2);
  otherwise it is underpowered.
"""
NAMES = {RICHNESS: "PR"}


def as_markdown(trajectories: Sequence[Trajectory], figures: Sequence[str] = ()) -> str:
    """Of every trajectory: what was found, first crossings, a table for each class. ``figures``: files to show."""
    parts = ["# Classes through training\n"]
    if between := list(across(trajectories)):
        parts.append("\n".join(f"- {plain(sentence)}" for sentence in between) + "\n")
    for place, trajectory in enumerate(trajectories):
        parts.append(f"## {plain(title(trajectory))}\n")
        parts.append("\n".join(f"- {plain(sentence)}" for sentence in sentences(trajectory)) + "\n")
        parts += [f"![{plain(title(trajectory))}]({name})\n" for name in figures[place : place + 1]]
        parts.append(table(crossings(trajectory)))
        for course in trajectory.courses:
            parts.append(f"### {plain(course.name)}: {plain(' '.join(course.units))}\n")
            parts.append(table(rows(course, trajectory)))
    return "\n".join([*parts, MEANING])


def as_data(trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """The same as data."""
    return [
        {
            **dataclasses.asdict(trajectory),
            "found": list(sentences(trajectory)),
            "crossings": [dict(zip(head, row, strict=True)) for head, *body in [crossings(trajectory)] for row in body],
            "decoupled": [
                {"class": course.name, "step": point.step, "what": point.decoupled}
                for course in trajectory.courses
                for point in course.points
                if point.decoupled
            ],
        }
        for trajectory in trajectories
    ]


def write(trajectories: Sequence[Trajectory], folder: Path) -> str:
    """Write ``trajectory.md``, ``trajectory.html`` and a picture for each trajectory. Returns the Markdown."""
    from harness.board.figures.trajectory import classes_figure, save
    from harness.board.page import environment

    names = [f"trajectory-{place}.png" for place in range(1, len(trajectories) + 1)]
    for trajectory, name in zip(trajectories, names, strict=True):
        with atomically(folder / name) as beside:
            save(trajectory, beside)
    text = as_markdown(trajectories, names)
    write_atomically(folder / "trajectory.md", text)
    stories = [
        {
            "title": title(trajectory),
            "sentences": list(sentences(trajectory)),
            "figure": classes_figure(trajectory),
            "crossings": crossings(trajectory),
            "courses": [
                (course.name, " ".join(course.units), rows(course, trajectory)) for course in trajectory.courses
            ],
        }
        for trajectory in trajectories
    ]
    between = list(across(trajectories))
    meaning = [" ".join(item.split()) for item in MEANING.removeprefix("- ").replace("**", "").split("\n- ")]
    html = environment().get_template("trajectory.html").render(stories=stories, between=between, meaning=meaning)
    write_atomically(folder / "trajectory.html", html)
    return text


def title(trajectory: Trajectory) -> str:
    """The model and the task."""
    return f"{trajectory.subject} · {trajectory.batch} · {trajectory.intervention} ablation"


def sentences(trajectory: Trajectory) -> Iterator[str]:
    """What came first, which classes decouple, whether the score leads the accuracy, and which classes nobody has."""
    for what, attribute in (("attention of their class", "selective"), ("function", "needed")):
        firsts = [(getattr(course, attribute), course.name) for course in trajectory.courses]
        order = sorted(((at.step, name) for at, name in firsts if at), key=lambda pair: pair)
        never = [name for at, name in firsts if at is None]
        came = ", ".join(f"{name} at {step}" for step, name in order) or "no class"
        yield f"First {what}: {came}{'; never: ' + ', '.join(never) if never and order else ''}."
    for what in (FORM_ONLY, FUNCTION_ONLY):
        found = [
            f"{course.name} at {', '.join(str(point.step) for point in points)}"
            for course in trajectory.courses
            if (points := [point for point in course.points if point.decoupled == what])
        ]
        yield f"{what[:1].upper()}{what[1:]}: {'; '.join(found) or 'at no checkpoint'}."
    leads = [
        f"{course.name} {lead:+d}" for course in trajectory.courses if (lead := _lead(course, trajectory)) is not None
    ]
    if leads:
        risen = trajectory.accuracy_risen
        yield f"{_signal(trajectory)} leads accuracy (half risen at {risen}) by steps: {', '.join(leads)}."
    underpowered = [
        course.name for course in trajectory.courses if all(p.verdict.value == "underpowered" for p in course.points)
    ]
    if underpowered:
        yield (
            f"Underpowered: {', '.join(underpowered)}: there are too few groups like them, because they fill their "
            "sites. Also run: harness sweep experiment=trajectory controls=depth_band controls.bands=2"
        )
    if trajectory.nobody:
        yield f"No unit has these classes at the last checkpoint: {', '.join(trajectory.nobody)}."


def across(trajectories: Sequence[Trajectory]) -> Iterator[str]:
    """For each class of several models: in how many its attention comes before its function. None of one model."""
    if len(trajectories) < 2:
        return
    courses = [course for trajectory in trajectories for course in trajectory.courses]
    for name in sorted({course.name for course in courses}):
        pairs = [(course.selective, course.needed) for course in courses if course.name == name]
        both = [function.step - form.step for form, function in pairs if form and function]
        counts = (sum(lag > 0 for lag in both), sum(lag == 0 for lag in both), sum(lag < 0 for lag in both))
        alone = sum(form is not None and function is None for form, function in pairs)
        yield (
            f"{name}, in {len(pairs)} of {len(trajectories)} trajectories: attention before function {counts[0]}, at "
            f"the same checkpoint {counts[1]}, after it {counts[2]}; attention only {alone}."
        )


def crossings(trajectory: Trajectory) -> list[list[str]]:
    """A row for each class, in the order in which they get their attention; the first row is the head."""
    signal = _signal(trajectory)
    rich = trajectory.signal == RICHNESS
    head = ["class", "units", f"selectivity {SELECTIVE:g}", *([f"PR {RICH:g}"] if rich else [])]
    found = [[*head, f"{signal} half risen", "first pass", "lead over accuracy"]]
    late = max(trajectory.steps) + 1

    def order(course: Course) -> tuple[int, str]:
        return (course.selective.step if course.selective else late, course.name)

    for course in sorted(trajectory.courses, key=order):
        lead = _lead(course, trajectory)
        led = "-" if lead is None else f"{lead:+d}"
        cells = [_step(course.selective), *([_step(course.rich)] if rich else []), _step(course.score_risen)]
        found.append([course.name, str(len(course.units)), *cells, _step(course.needed), led])
    return found


def rows(course: Course, trajectory: Trajectory) -> list[list[str]]:
    """A row for each checkpoint; the first row is the head."""
    head = ["step", "selectivity", _signal(trajectory), f"damage ({spaced(trajectory.metric)})", "T", "accuracy"]
    return [[*head, "verdict", ""], *(_row(point) for point in course.points)]


def _row(point: Point) -> list[str]:
    return [
        str(point.step),
        _shown(point.selectivity, ".3g"),
        _shown(point.score, ".1f"),
        _shown(point.damage, "+.2f"),
        number_or_dash(point.necessity, "+.2f"),
        number_or_dash(point.accuracy, ".2f"),
        point.verdict.value + (f" ({point.other})" if point.other else ""),
        point.decoupled,
    ]


def _shown(figure: Figure | None, form: str) -> str:
    if figure is None:
        return "-"
    ends = f" [{figure.low:{form}}, {figure.high:{form}}]" if figure.interval else ""
    return f"{figure.value:{form}}{ends}"


def _step(crossing: Crossing | None) -> str:
    return "never" if crossing is None else str(crossing)


def _lead(course: Course, trajectory: Trajectory) -> int | None:
    score, accuracy = course.score_risen, trajectory.accuracy_risen
    return accuracy.step - score.step if score and accuracy else None


def _signal(trajectory: Trajectory) -> str:
    return NAMES.get(trajectory.signal, spaced(trajectory.signal))
