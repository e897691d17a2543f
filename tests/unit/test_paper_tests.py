"""The closure paper's five tests beside ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.board.paper_tests import METRICS, PAPER_TESTS, our_tests, paper_data, paper_table
from harness.cells.cell import Cell
from harness.closure.paper import paper_verdict
from harness.closure.statistics import z_score
from harness.closure.verdict import Verdict
from harness.records.workspace import Workspace
from harness.registry.config import registry, resolve

Make = Callable[..., Any]


def test_each_test_says_what_it_needs_where_it_has_not_been_run(tmp_path: Path) -> None:
    text = paper_table(our_tests([], Workspace.at(tmp_path), registry()))
    assert text.count("not in this workspace") == 5
    assert "harness run experiment=paper_5" in text
    assert "(needs allenai/OLMoE-1B-7B-0924 from the hub)" in text


def test_the_newest_record_of_an_experiment_stands_beside_the_published_verdict(
    make_record: Make, make_effect: Make, tmp_path: Path
) -> None:
    cell = Cell.of(resolve(["experiment=paper_2"], registry()), registry())
    record = make_record(
        cell="aa", verdict=Verdict.WEAK_PASS, effects={"loss": make_effect(damage=1, delta=2.0, z=2.5)}
    )
    info = replace(record.cell, row=cell.row, protocol=cell.protocol)
    record = replace(record, cell=info, config=cell.config, provenance={"started": "2026-01-02T00:00:00"})
    older = replace(record, cell=replace(info, id="ab"), provenance={"started": "2026-01-01T00:00:00"})
    other = replace(record, cell=replace(info, id="ac"), config={**cell.config, "batch": {"name": "natural_text"}})
    found = our_tests([record, older, other], Workspace.at(tmp_path), registry())
    assert [ours.record.cell.id if ours.record else None for ours in found] == [None, "aa", None, None, None]
    text = paper_table(found)
    assert "   ours   weak pass            3 units   z +2.50 / - / -   by the paper's rule: " in text
    data = paper_data(found)[1]
    assert (data["verdict"], data["cell"], data["ours"][0]["verdict"]) == ("weak pass", "aa", "weak_pass")


def test_the_published_verdict_of_the_moe_test_follows_from_its_changes_by_the_papers_rule(make_effect: Make) -> None:
    """Changes of the candidate and its controls on stratum 1. By loss alone it is in the wrong direction."""
    changes = {
        "loss": (1, -0.6468, (-0.0515, 0.0153, -0.2324, 0.0156, -0.1669)),
        "accuracy": (-1, -0.0173, (-0.0204, -0.0078, 0.0063, -0.0361, -0.0126)),
        "target_logit": (-1, -1.5182, (-0.8350, -0.5897, -0.4643, -1.1859, -0.4854)),
    }
    effects = {name: make_effect(damage=d, delta=x, controls=c) for name, (d, x, c) in changes.items()}
    verdict, reason = paper_verdict(effects)
    assert (verdict, reason) == (Verdict.WRONG_DIRECTION, "loss not damaged")
    published = PAPER_TESTS[4].z
    for name, z in zip(METRICS, published, strict=True):
        _, delta, controls = changes[name]
        found = z_score(delta, controls, ddof=0)
        assert found is not None
        assert abs(found - z) < 0.02
