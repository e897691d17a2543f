"""`harness screen`: the capability screen beside rankings of equal size, over the records of a workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.board.screen import as_markdown, screened
from harness.closure.verdict import Verdict
from harness.records.workspace import Workspace

Run = Callable[..., Any]
SWEEP = (
    "experiment=screen", "subject=tiny", "signal=selectivity,participation_ratio", "batch.n=48", "controls.n=19",
    "tracking=none", "workspace=w",
)  # fmt: skip


def test_the_table_has_the_screen_and_as_many_units_of_other_rankings(harness: Run) -> None:
    assert harness("sweep", *SWEEP, "partitioner.at=10,100,1e9").code == 0
    answer = harness("screen", "workspace=w")
    assert answer.code == 0
    data = harness("screen", "workspace=w", "--json").data
    records, _ = Workspace(Path("w")).records()
    assert as_markdown(screened(records)) == as_markdown(screened(records[::-1])) == answer.out.rstrip("\n") + "\n"
    assert [(row["at"], row["ranked_by"]) for row in data["sets"]] == [
        (at, signal) for at in (10, 100, 1e9) for signal in ("target_selectivity", "participation_ratio")
    ]
    rows = {(row["at"], row["ranked_by"]): row for row in data["sets"]}
    for record in records:
        row = rows[record.config["partitioner"]["at"], record.config["signal"]["name"]]
        assert (row["subject"], row["of"]) == ("tiny", "induction")
        if record.closure:
            (closure,) = record.closure
            first = closure.effects["logit_difference"]
            assert (row["units"], row["verdict"]) == (list(closure.units), closure.verdict.value)
            assert (row["effect"], row["T"], row["p"]) == (first.delta, first.statistic, first.p)
        else:
            assert record.config["partitioner"]["at"] == 1e9
            assert record.status.value == "skipped"
            assert "no unit is in a group" in record.reason
            assert (row["units"], row["verdict"], row["p"]) == ([], "not tested: no units reach it", None)
    for at in (10, 100):
        screen, picks = (rows[at, signal]["units"] for signal in ("target_selectivity", "participation_ratio"))
        assert len(screen) == len(picks)
        assert rows[at, "participation_ratio"]["shared"] == len(set(screen) & set(picks))
    passed = sum(rows[at, "target_selectivity"]["verdict"] == Verdict.PASS for at in (10, 100))
    assert f"- tiny, induction: the units that reach a threshold pass at {passed} of 2 tested thresholds" in answer.out


def test_the_screen_is_every_unit_whose_surveyed_selectivity_reaches_the_threshold(harness: Run) -> None:
    """The survey, on the half of the examples that groups are proposed on: with split=none, on all of them."""
    words = ("subject=tiny", "batch.n=32", "split=none", "tracking=none", "workspace=w")
    surveyed = harness("survey", *words[:2], "workspace=w", "--json").data["units"]
    selectivity = np.array([row["selectivity"]["induction"] for row in surveyed])
    method = ("signal=target_selectivity", "partitioner=threshold", "partitioner.at=2", "chooser=fixed", "chooser.k=1")
    proposed = harness("propose", *words, *method, "selector=every_group", "--json").data["candidates"][0]["units"]
    assert proposed == [row["unit"] for row, reach in zip(surveyed, selectivity >= 2, strict=True) if reach]


def test_a_workspace_without_a_screen_is_refused_with_the_command_that_makes_one(harness: Run, planted: Any) -> None:
    assert harness("run", *planted, "workspace=w").code == 0
    answer = harness("screen", "workspace=w")
    assert (answer.code, answer.out) == (2, "")
    assert "no finished cell is part of a capability screen" in answer.err
    assert "harness sweep experiment=screen" in answer.err


@pytest.mark.slow  # one pass at each checkpoint, and two closure tests among 99 groups
def test_trajectories_find_the_heads_before_those_that_attend_to_the_target(harness: Run) -> None:
    """Induction heads need heads of an earlier layer, which do not attend to the target (Olsson et al. 2022).

    The screen of `tiny` has heads of one layer only, and is no circuit by itself; a ranking by PR over training has
    both.
    """
    words = ("experiment=screen", "subject=tiny", "signal=selectivity,pr_trajectory", "partitioner.at=10")
    assert harness("sweep", *words, "tracking=none", "workspace=w").code == 0
    rows = {row["ranked_by"]: row for row in harness("screen", "workspace=w", "--json").data["sets"]}
    screen, picks = rows["target_selectivity"], rows["pr_trajectory"]
    assert {unit[:2] for unit in screen["units"]} == {"L1"}
    assert {unit[:2] for unit in picks["units"]} == {"L0", "L1"}
    assert (screen["verdict"], picks["verdict"]) == (Verdict.NOT_SPECIFIC, Verdict.PASS)
