"""Reports: what one cell says, or all of them, as a page of words, figures and where it all comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from harness.board.card import card
from harness.board.figures import report as draw
from harness.board.page import environment
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Figure:
    """A picture and what it shows; or, instead of it, why there is none."""

    title: str
    caption: str
    drawn: Markup | None = None
    lacking: str = ""


@dataclass(frozen=True)
class Story:
    """One cell: its record, its card in words, its figures, and the digest of its record."""

    record: Record
    card: str
    figures: tuple[Figure, ...]
    digest: str


def report(records: Sequence[Record], workspace: Workspace) -> str:
    """The page of one cell with all its figures; of several, a table and for each what was tested.

    Made of the records and the files beside them; nothing is computed again.
    """
    whole = len(records) == 1
    stories = [
        Story(record, card(record), tuple(_figures(record, workspace, whole)), record.digest) for record in records
    ]
    return environment().get_template("report.html").render(stories=stories, whole=whole, workspace=workspace.root.name)


def _figures(record: Record, workspace: Workspace, whole: bool) -> Iterator[Figure]:
    for i, closure in enumerate(record.closure):
        of = f" of candidate {i + 1}" if len(record.closure) > 1 else ""
        yield Figure(
            f"Effect{of} against its controls",
            "Each dot is a matched random group. A circuit lies beyond nearly all of them, in the direction of damage "
            "(v: down, ^: up). The bar is the 95 % interval over examples.",
            draw.cloud(closure),
        )
        if whole:
            yield from _inside(record, i, of, workspace)
    if whole:
        yield from _proposal(record, workspace)


def _inside(record: Record, i: int, of: str, workspace: Workspace) -> Iterator[Figure]:
    closure = record.closure[i]
    yield Figure(
        f"Share of each unit{of}",
        "How much of the group's effect goes when this unit is left out of the ablation; an idle unit shows as 0 %.",
        draw.leave_one_out(closure),
        "the group was not taken apart: it has one unit, is too large, or was given up.",
    )
    deltas = _beside(record, "deltas.safetensors", workspace)
    yield Figure(
        f"Example by example{of}",
        "Every dot is an example; on the line, the candidate does what random groups do.",
        draw.by_example(closure, deltas[f"candidate.{i}"]) if deltas else None,
        "deltas.safetensors is not beside the record.",
    )


def _proposal(record: Record, workspace: Workspace) -> Iterator[Figure]:
    partition = record.partition
    if partition is None:
        return
    told = {"group": partition.labels} | ({"label": record.classes} if any(record.classes) else {})
    caption = "Every unit at its layer: its group, and what the labels say of it. Outlined: the candidate."
    yield Figure("Groups and labels", caption, draw.unit_map(record, told))
    arrays = _beside(record, "affinity.safetensors", workspace)
    lacking = "no method of this cell asked for an affinity, or its file is not beside the record."
    if not arrays:
        yield Figure("Affinity", "", None, lacking)
        return
    affinity = draw.affinity_of(record, arrays)
    candidate = record.candidates[0].units if record.candidates else ()
    yield _drawn(
        "Affinity",
        "How alike units behave, in the order of their groups; a group that hangs together is a dark square.",
        lambda: draw.ordered_affinity(affinity, partition, candidate),
    )
    yield _drawn(
        "Spectrum",
        "k groups that hang together leave k eigenvalues near 0, then a gap. Absolute affinities, all components.",
        lambda: draw.spectrum(affinity, partition.groups),
    )


def _drawn(title: str, caption: str, figure: Callable[[], Markup]) -> Figure:
    try:
        return Figure(title, caption, figure())
    except HarnessError as error:
        return Figure(title, caption, None, str(error))


def _beside(record: Record, name: str, workspace: Workspace) -> dict[str, np.ndarray]:
    """The arrays of a file beside the record; none where it is not there."""
    from safetensors.numpy import load_file

    path = workspace.folder(record.cell.id) / name
    return dict(load_file(path)) if path.is_file() else {}
