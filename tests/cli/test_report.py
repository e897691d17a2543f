"""`harness report`: a page about a cell, from its record and the files beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.board.figures.affinity import affinity_figure
from harness.board.figures.report import necessity, spectrum
from harness.board.figures.units import unit_map
from harness.board.report import report
from harness.data.grouping import Affinity, Partition
from harness.data.units import UnitSpace
from harness.records.record import ExampleRecord, Status
from harness.records.workspace import Workspace

Make = Callable[..., Any]
CELL = (
    "subject=planted", "batch=planted", "batch.n=64", "labels=truth", "binarizer=none", "affinity=pearson",
    "partitioner=leiden", "selector.count=1", "controls.n=19", "reruns=1", "tracking=none",
)  # fmt: skip
FIGURES = ("Necessity", "Effect and controls", "Leave-one-out", "Examples", "Groups and labels", "Correlation",
           "Layers", "Damage of single units", "Affinity", "Spectrum")  # fmt: skip


def test_a_report_has_a_card_figures_and_provenance(harness: Callable[..., Any]) -> None:
    assert harness("run", *CELL).code == 0
    (folder,) = Path("runs/records").iterdir()
    answer = harness("report", folder.name[:4])
    path = Path("runs/reports") / f"{folder.name}.html"
    assert (answer.code, answer.out.strip()) == (0, f"report: {path.absolute()}")
    page = path.read_text()
    assert len(re.findall(r'<svg role="img"', page)) == len(FIGURES)
    assert all(f"<h3>{title}</h3>" in page for title in FIGURES)
    texts = ("harness run subject=planted", "numpy <b>", "record (SHA-256)", "that is lost", "resampled examples")
    assert all(text in page for text in texts)
    assert not re.search(r"""(src|href)=["']https?:|@import|url\(["']?(https?:)?//""", page)

    (folder / "affinity.safetensors").unlink()
    (folder / "deltas.safetensors").unlink()
    (folder / "quality.safetensors").unlink()
    assert harness("report", folder.name).code == 0
    page = path.read_text()
    assert len(re.findall(r'<svg role="img"', page)) == len(FIGURES) - 4
    assert "has no deltas.safetensors" in page
    assert "affinity.safetensors is missing beside the record" in page
    assert "quality.safetensors is missing beside the record" in page


def test_a_report_of_several_cells_has_a_table_and_a_figure_for_each(make_record: Make, tmp_path: Path) -> None:
    records = [
        make_record(cell="aa", method="<script>x</script>"),
        make_record(cell="ab", status=Status.FAILED),
        make_record(cell="ac", partition=None),
    ]
    page = report(records, Workspace.at(tmp_path))
    assert len(re.findall(r'<svg role="img"', page)) == 2  # nothing was tested in the one that failed
    assert all(f'<a href="#{record.cell.id}">' in page for record in records)
    assert "FAILED  no reason" in page
    assert "<script>x" not in page


@pytest.mark.parametrize("changes", [{"status": Status.FAILED}, {"status": Status.SKIPPED}, {"partition": None}])
def test_a_cell_with_few_results_has_a_report(make_record: Make, tmp_path: Path, changes: Any) -> None:
    record = make_record(**changes)
    bare = replace(record, candidates=(), classes=(None,) * 5)
    assert "Provenance" in report([bare], Workspace.at(tmp_path))


def test_a_report_of_several_candidates_has_figures_for_each(make_record: Make, tmp_path: Path) -> None:
    record = make_record()
    page = report([replace(record, closure=record.closure * 2)], Workspace.at(tmp_path))
    assert "Effect and controls, candidate 1" in page
    assert "Effect and controls, candidate 2" in page


@pytest.mark.parametrize("blocks", [2, 3, 5])
def test_the_widest_gap_of_equal_blocks_is_at_their_number(blocks: int) -> None:
    """Each block is a component: as many eigenvalues are 0, and the next is m / (m - 1)."""
    matrix = np.kron(np.eye(blocks), np.ones((4, 4)))
    np.fill_diagonal(matrix, 0.0)
    drawn = spectrum(Affinity(matrix, UnitSpace.heads([4] * blocks)), range(blocks + 1))
    assert f"widest gap: {blocks} groups" in drawn
    assert f"this partition: {blocks + 1}" in drawn


def test_the_gap_of_a_component_is_after_its_groups() -> None:
    """Two components, of two blocks each that a weak link joins: in each, two eigenvalues are far below the others."""
    matrix = np.kron(np.eye(4), np.ones((4, 4)))
    for one, other in ((3, 4), (11, 12)):
        matrix[one, other] = matrix[other, one] = 0.01
    np.fill_diagonal(matrix, 0.0)
    drawn = spectrum(Affinity(matrix, UnitSpace.heads([4] * 4)), [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4, inside=True)
    assert drawn.count("8 units in 2 groups, gap 1.3") == 2  # nearly 4 / 3, of blocks that nothing joins
    assert "2 components" in drawn


def test_figures_are_reproducible_and_take_the_colour_of_the_page(make_record: Make) -> None:
    record = make_record()
    drawn = unit_map(record, {"group": record.partitions[1].labels, "label": record.classes})
    assert drawn == unit_map(record, {"group": record.partitions[1].labels, "label": record.classes})
    assert "currentColor" in drawn
    assert "induction" in drawn


def test_the_report_of_a_group_named_by_hand_has_a_map_of_units_and_predictions(harness: Callable[..., Any]) -> None:
    cell = harness("close", "L0H0,L0H7,L1H2", "subject=tiny", "batch.n=16", "batch.length=48", "controls.n=19",
                   "intervention=mean", "tracking=none", "--json").data["cell"]["id"]  # fmt: skip
    assert harness("report", cell).code == 0
    page = (Path("runs/reports") / f"{cell}.html").read_text()
    assert "<h3>Damage of single units</h3>" in page
    table = page[page.index("Predictions without and with ablation") :]
    assert table[: table.index("</table>")].count("<tr>") == 1 + 7
    assert not re.search(r"affinity <b>|signal <b>", page)


def test_predictions_are_escaped_and_the_right_ones_marked(make_record: Make, tmp_path: Path) -> None:
    record = make_record(metric={"loss": {"name": "loss"}})
    example = ExampleRecord(3, "<script>x</script>", "b", "b", "c", 0.5)
    candidate = replace(record.candidates[0], examples=(example,))
    page = report([replace(record, candidates=(candidate,))], Workspace.at(tmp_path))
    assert "<td>&lt;script&gt;x&lt;/script&gt;</td>" in page
    assert page.count('<td class="right">b</td>') == 2
    assert "<td>c</td>" in page


def test_damage_of_single_units_is_drawn_where_it_was_measured(make_record: Make, tmp_path: Path) -> None:
    record = make_record()
    damage = {"target_logit": dict.fromkeys(record.units, 1.0)}
    page = report([replace(record, unit_damage=damage)], Workspace.at(tmp_path))
    assert "<h3>Damage of single units</h3>" in page
    assert "Damage of single units" not in report([record], Workspace.at(tmp_path))
    by_hand = replace(record, partitions=(), classes=())
    assert "Filled: the candidate" in report([by_hand], Workspace.at(tmp_path))


@pytest.mark.parametrize(("sizes", "named"), [([20, 12], "L0H31"), ([60, 3, 1], "group 0"), ([700, 700], "group 1")])
def test_few_units_are_named_on_an_affinity_and_groups_of_many(sizes: list[int], named: str) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    affinity = Affinity((labels[:, None] == labels) - np.eye(len(labels)), UnitSpace.heads([len(labels)]))
    axes = affinity_figure(affinity, Partition(len(sizes), labels), ()).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert named in names
    assert len(names) <= 32
    assert "group 2" not in names, "one unit of 64 has no room for a name"


def test_rows_of_a_table_are_not_wrapped_and_sentences_are(make_record: Make, tmp_path: Path) -> None:
    page = report([make_record()], Workspace.at(tmp_path))
    rows = re.findall(r'<span class="columns">(.*?)</span>', page)
    assert [row.split()[0] for row in rows] == ["baseline", "target"]


def test_necessity_is_drawn_for_deciding_metrics_of_the_exact_test(make_record: Make, make_effect: Make) -> None:
    effects = {
        "accuracy": make_effect(statistic=0.75, statistics=(0.0, None, 0.5)),
        "loss": make_effect(statistic=1.0, statistics=(0.0, 0.5, 0.5), decides=False),
    }
    drawn = necessity(make_record(effects=effects).closure[0])
    assert drawn is not None
    assert "accuracy" in drawn
    assert "loss" not in drawn
    assert necessity(make_record().closure[0]) is None, "the former test has no such statistic"
