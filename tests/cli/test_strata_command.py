"""`harness strata`: what groups do inside and outside their strata, over the records of a workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.board.strata_settings import as_markdown, p_outside, settings_of
from harness.closure.outside import Outside
from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict
from harness.records.workspace import Workspace
from harness.registry.config import expand, registry, resolve_all

Run = Callable[..., Any]
WORLD = ("subject=planted_routes", "subject.layers=6", "subject.width=8", "batch.n=800", "controls.n=39", "reruns=1")
METHOD = ("affinity=mutual_information", "partitioner=agglomerative", "selector.count=1", "tracking=none")


def test_one_sweep_has_proposals_on_all_examples_and_on_three_kinds_of_strata() -> None:
    methods = registry()
    configs = resolve_all(expand(["experiment=moe_routes"], methods), methods)
    kinds = [(str(c["subject"]["name"]), str(c["batch"]["name"]), str(c["stratifier"]["name"])) for c in configs]
    assert sorted(kinds) == sorted(
        (subject, batch, stratifier)
        for subject, batch in (("tiny_moe", "domains"), ("planted_routes", "planted"))
        for stratifier in ("none", "routes", "random", "groups")
    )


def test_the_table_says_what_holds_under_all_settings(harness: Run) -> None:
    sweep = ("stratifier=none,routes,random", "intervention=zero,mean", "scope=stratum", "workspace=w")
    assert harness("sweep", *WORLD, *METHOD, *sweep).code == 0
    answer = harness("strata", "workspace=w")
    assert answer.code == 0
    assert answer.out.splitlines()[:3] == [
        "- planted_routes, without strata: under 0 of 2 settings, a group passes.",
        "- planted_routes, strata by random: under 0 of 2 settings, a group passes inside its stratum and not outside.",
        "- planted_routes, strata by routes: under all 2 settings, a group passes inside its stratum and not outside.",
    ]
    data = harness("strata", "workspace=w", "--json").data
    rows = {(row["kind"][1], row["named"][2]): row for row in data["settings"]}
    assert len(rows) == 6
    records, _ = Workspace(Path("w")).records()
    for record in records:
        row = rows[record.config["stratifier"]["name"], record.cell.intervention]
        assert row["candidates"] == len(record.closure)
        assert row["passed"] == sum(report.verdict is Verdict.PASS for report in record.closure)
        assert row["inside"] == (record.config["stratifier"]["name"] != "none")
        if row["inside"]:
            entropies = [stratum.routing_entropy for stratum in record.strata]
            assert min(entropies) <= row["entropy"] <= max(entropies)
        else:
            assert row["entropy"] is row["also_outside"] is row["gap_p"] is row["null_p"] is None
    assert as_markdown(settings_of(records)) == as_markdown(settings_of(records[::-1]))


def test_a_cell_without_a_result_is_named(harness: Run) -> None:
    """A model that nothing was trained into has no classes, so that the null of strata is not defined."""
    cell = ("subject=tiny_moe", "subject.checkpoint=0", "batch.n=60", "stratifier=random", "strata_null=9")
    assert harness("run", *cell, *METHOD, "workspace=w").code == 2
    answer = harness("strata", "workspace=w")
    assert "left out: " in answer.err
    assert "invalid." in answer.err


def test_an_empty_workspace_is_refused(harness: Run) -> None:
    answer = harness("strata", "workspace=nothing")
    assert (answer.code, answer.out) == (2, "")
    assert "holds no records" in answer.err


@pytest.mark.parametrize(("change", "p"), [(-4.0, 1 / 4), (-2.0, 2 / 4), (0.5, 3 / 4), (1.0, 4 / 4)])
def test_p_outside_counts_the_groups_that_do_as_much_damage_there(
    make_effect: Callable[..., Effect], change: float, p: float
) -> None:
    """Of three groups, damage inside is 5, 1 and 0 and the gap 2, 1 and 1, so damage outside is 3, 0 and -1."""
    effect = make_effect(damage=-1, controls=(-5.0, -1.0, 0.0))
    outside = Outside(0.0, change, None, 0.0, (2.0, 1.0, 1.0), None, None)
    assert p_outside(effect, outside) == p
