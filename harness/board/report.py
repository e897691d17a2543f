"""Reports: one page about a cell, or about several, with cards, figures and provenance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from harness.board.card import card
from harness.board.compare_cells import deltas_of
from harness.board.figures import groups as draw_groups
from harness.board.figures import report as draw
from harness.board.figures.units import candidate_of, damage_svg, unit_map
from harness.board.groups import MEANING, decomposition_of, facts, groups_of, left_out, modules_of
from harness.board.page import environment
from harness.board.references import command
from harness.cells.group_quality import FILE as QUALITY_FILE
from harness.cells.unit_damage import UnitDamage
from harness.closure.report import ClosureReport
from harness.records.record import QUALITY, Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption; or, without a drawing, the reason (``lacking``)."""

    title: str
    caption: str
    drawn: Markup | None = None
    lacking: str = ""


@dataclass(frozen=True)
class Story:
    """One cell: its record, its card, its figures, the command that runs it again, and the digest of its record.

    ``tables``: about its groups before any ablation, each with a title and a note; the first row is the head.
    """

    record: Record
    card: str
    figures: tuple[Figure, ...]
    command: str
    digest: str
    tables: tuple[tuple[str, list[list[str]], str], ...] = ()


def report(records: Sequence[Record], workspace: Workspace) -> str:
    """A page about one cell with all its figures; about several, a table, and the card and controls of each.

    Everything comes from the records and the files beside them; nothing is computed again.
    """
    whole = len(records) == 1
    stories = [
        Story(
            record, card(record), tuple(_figures(record, workspace, whole)), command(record, record), record.digest,
            tuple(_tables(record)) if whole else (),
        )
        for record in records
    ]  # fmt: skip
    return environment().get_template("report.html").render(stories=stories, whole=whole, workspace=workspace.root.name)


def _figures(record: Record, workspace: Workspace, whole: bool) -> Iterator[Figure]:
    for i, closure in enumerate(record.closure):
        suffix = f", candidate {i + 1}" if len(record.closure) > 1 else ""
        if drawn := draw.necessity(closure):
            yield Figure(
                f"Necessity{suffix}",
                "Each dot is a group of the same profile. T is the mean of what each unit adds to the group's damage, "
                "without the largest. p counts the dots at or beyond the candidate (diamond).",
                drawn,
            )
        yield Figure(f"Effect and controls{suffix}", _about_controls(closure), draw.cloud(closure))
        if whole:
            yield from _inside(record, i, suffix, workspace)
    if whole:
        yield from _units(record)
        yield from _groups(record, workspace)
        yield from _proposal(record, workspace)


def _about_controls(closure: ClosureReport) -> str:
    dots = "Each dot is a matched random group. The candidate (diamond) has a 95 % interval over examples. "
    if closure.test == "exact":
        return f"{dots}Groups may share units with the candidate, so some do as much; the verdict follows necessity."
    return f"{dots}A circuit lies beyond nearly all of them in the direction of damage (↓ or ↑)."


def _inside(record: Record, i: int, suffix: str, workspace: Workspace) -> Iterator[Figure]:
    closure = record.closure[i]
    yield Figure(
        f"Leave-one-out{suffix}",
        "The share of the group's effect that is lost when this unit is not ablated. A dispensable unit has 0 %.",
        draw.leave_one_out(closure),
        "not measured, because the group has one unit, is too large, or its test was stopped early.",
    )
    yield _attempt(
        f"Examples{suffix}",
        "Each dot is an example. On the line, the candidate changes the metric as much as its controls do on average.",
        lambda: draw.by_example(closure, np.stack([*deltas_of(record, workspace, i).values()])),
    )


def _units(record: Record) -> Iterator[Figure]:
    """The maps of all units: what they were grouped and labelled as, and what each does alone."""
    if not record.units:
        return
    candidate = candidate_of(record)
    partition = record.partition
    attributes: dict[str, Sequence[Any]] = {"group": partition.labels} if partition else {}
    attributes |= {"label": record.classes} if any(record.classes) else {}
    if attributes:
        caption = "Every unit at its site, with its group and its label. Outlined: the candidate."
        yield Figure("Groups and labels", caption, unit_map(record, attributes))
    damage = UnitDamage.of(record)
    if not attributes and damage is None and candidate:
        caption = "Every unit at its site. Filled: the candidate."
        kinds = ["candidate" if unit in candidate else "other units" for unit in range(len(record.units))]
        yield Figure("Units", caption, unit_map(record, {"units": kinds}))
    if damage:
        yield Figure(
            "Damage of single units",
            "Mean change of each metric when one unit alone is ablated. Red: for the worse. Outlined: the candidate. "
            "Grey: the test did not need this unit alone (harness map CELL measures all).",
            damage_svg(damage, candidate),
        )


def _proposal(record: Record, workspace: Workspace) -> Iterator[Figure]:
    partition = record.partition
    if partition is None:
        return
    try:
        arrays = workspace.arrays(record.cell.id, "affinity.safetensors")
        affinity = draw.affinity_of(record, arrays) if arrays else None
    except (HarnessError, ValueError, KeyError) as error:  # a file of anything, beside the record
        yield Figure("Affinity", "", None, f"affinity.safetensors does not hold the affinity of these units: {error}")
        return
    if affinity is None:
        lacking = "no method of this cell uses an affinity, or affinity.safetensors is missing beside the record."
        yield Figure("Affinity", "", None, lacking)
        return
    candidate = record.candidates[0].units if record.candidates else ()
    yield _attempt(
        "Affinity",
        "Similarity of units, ordered by group. A dense group is a dark square on the diagonal.",
        lambda: draw.ordered_affinity(affinity, partition, candidate),
    )
    yield _attempt(
        "Spectrum",
        "Lowest eigenvalues of the Laplacian of |affinity|. k separate groups give k eigenvalues near 0, then a gap. "
        "Where groups are sought inside connected components: those of each large component.",
        lambda: draw.spectrum(affinity, partition.labels, "components" in partition.diagnostics),
    )


def _tables(record: Record) -> Iterator[tuple[str, list[list[str]], str]]:
    """What the groups are like before any ablation."""
    if QUALITY not in record.diagnostics:
        return
    heads, values = zip(*facts(record), strict=True)
    yield "Quality of the groups", [list(heads), list(values)], MEANING.replace("**", "").replace("- ", "")
    if modules := modules_of(record):
        yield "Subcomponents by module", modules, "Expected: those of the known mechanisms."
    note = "Mean activity of the group over the examples that contain the input, and how many these are. "
    yield "Groups and the inputs that activate them most", groups_of(record), note + left_out(record)


def _groups(record: Record, workspace: Workspace) -> Iterator[Figure]:
    """What the units of groups have in common, before any ablation."""
    quality, about = record.diagnostics.get(QUALITY), decomposition_of(record)
    if quality is None or record.partition is None:
        return
    labels, units = record.partition.labels, record.unit_space
    try:
        arrays = workspace.arrays(record.cell.id, QUALITY_FILE)
        lacking = "" if arrays else f"{QUALITY_FILE} is missing beside the record."
    except HarnessError as error:
        arrays, lacking = {}, str(error)
    yield Figure(
        "Correlation",
        "Correlation of the activity of units, ordered by group. Good groups are dark squares on the diagonal, which "
        "is itself left out.",
        draw_groups.correlations(arrays["correlation"], arrays["units"], units, labels) if arrays else None,
        lacking,
    )
    if spans := quality.get("layers"):
        yield Figure("Layers", "Groups of two units or more, by the layers they span.", draw_groups.layer_spans(spans))
    if highest := about.get("highest"):
        yield Figure(
            "Importances",
            "The highest importance of every subcomponent on any example. To the right of the threshold: alive. A "
            "threshold separates well where few subcomponents are near it.",
            draw_groups.highest_importances(highest, record.config["subject"]["threshold"]),
        )
    if "alone" in arrays:
        yield Figure(
            "Importance against input",
            "Importance of every living subcomponent where only one feature is present. Where each feature has a "
            "subcomponent of its own, the squares form a diagonal; one that serves all features is a full column.",
            draw_groups.single_inputs(arrays["alone"], units),
        )


def _attempt(title: str, caption: str, figure: Callable[[], Markup]) -> Figure:
    try:
        return Figure(title, caption, figure())
    except HarnessError as error:
        return Figure(title, caption, None, str(error))
