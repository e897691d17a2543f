"""`harness groups`: what the groups of cells are like before ablation, from their records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.board.groups import about_cell, as_markdown, described
from harness.records.record import QUALITY
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError

CELL = (
    "subject=spd",
    "batch.n=512",
    "affinity.threshold=0.5",
    "selector=largest",
    "controls.n=19",
    "reruns=0",
    "tracking=none",
)


def test_the_groups_of_an_exact_decomposition_are_its_features(harness: Callable[..., Any]) -> None:
    """Each pair has the correlation 1, the same examples and one feature; the report draws it."""
    assert harness("run", *CELL).code == 0
    (cell,) = harness("groups", "--json").data
    assert (cell["n_groups"], cell["alone"], cell["sizes"], cell["layers"]) == (20, 0, {"2": 20}, {"2": 20})
    assert [cell[name] for name in ("within_correlation", "agreement", "cosine")] == pytest.approx([1, 1, 1])
    assert cell["links_inside"] == 1
    assert abs(cell["between_correlation"]) < 0.01
    assert {row["module"]: (row["alive"], row["expected"]) for row in cell["modules"]} == {
        "linear1": ("20", "20"), "linear2": ("20", "20"),
    }  # fmt: skip
    (record,), _ = Workspace.at("runs").records()
    circuits = {frozenset(units): name for name, units in record.provenance["subject"]["circuits"].items()}
    for group in cell["groups"]:
        assert circuits[frozenset(group["units"])] == f"feature {group['inputs'][0][0][1:]}"
    answer = harness("groups", cell["cell"][:5])
    assert answer.code == 0
    assert "### Groups and the inputs that activate them most" in answer.out
    assert harness("report", cell["cell"]).code == 0
    page = (Path("runs/reports") / f"{cell['cell']}.html").read_text()
    for title in ("Correlation", "Layers", "Importances", "Importance against input", "Subcomponents by module"):
        assert f"<h3>{title}</h3>" in page
    assert "20 (100 %)" in page


def test_the_groups_of_heads_have_tokens(harness: Callable[..., Any], small: tuple[str, ...]) -> None:
    assert harness("run", *small).code == 0
    (record,), _ = Workspace.at("runs").records()
    (cell,) = harness("groups", "--json").data
    assert cell["modules"] == []
    assert cell["n_groups"] == record.partition.groups  # type: ignore[union-attr]  # it has one
    assert {"agreement", "cosine", "within_correlation"} <= cell.keys()
    assert sum(len(group["units"]) for group in cell["groups"]) == len(record.units)


def test_records_without_groups_are_left_out(make_record: Callable[..., Any]) -> None:
    record = make_record()
    with pytest.raises(HarnessError, match="none of 1 records has groups that were described") as caught:
        described([record])
    assert "--force" in caught.value.fix
    quality = {"n_groups": 2, "alone": 0, "sizes": {"3": 1, "2": 1}, "layers": {"1": 1, "2": 1}, "groups": []}
    whole = replace(record, diagnostics={QUALITY: quality})
    assert described([record, whole]) == [whole]
    row = as_markdown([whole]).splitlines()[2]
    assert "| 1 × 3, 1 × 2 " in row
    assert "| 0.50 " in row
    assert "2 smaller groups are not shown." in about_cell(whole)
