"""harness matrix: cells of models and groups are run once, and the matrix is made from their records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.board.card import card
from harness.cli.main import main
from harness.records.workspace import Workspace

WORDS = (
    *(
        "subject=planted",
        "subject.layers=6",
        "batch=planted",
        "batch.n=64",
        "labels=none",
        "signal=output_norm",
        "partitioner=top_k",
    ),
    *("partitioner.sizes=[4]", "selector=largest", "reruns=0", "controls.n=39", "tracking=none"),
)
SEEDS = "subject.seed=0,1,2"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


def run(workspace: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    code = main(["matrix", *WORDS, *words, f"workspace={workspace}", "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out), err


def test_every_group_is_tested_on_every_model_and_a_second_call_runs_nothing(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = run(workspace, capsys, SEEDS)
    own = [model["group"] for model in found["models"]]
    assert all(len(group) == 4 for group in own)
    sites = {entry["name"] for entry in found["entries"] if entry["owner"] is None}
    columns = len({tuple(group) for group in own}) + len(sites)
    assert len(found["entries"]) == 3 * columns
    cells = sorted((workspace / "records").iterdir())
    assert len(cells) == 3 + 3 * columns
    record = Workspace(workspace).find(found["entries"][0]["cell"])
    assert record is not None
    assert record.config["split"] == "test_half"
    assert record.closure[0].n_tested == 32  # the half that the group was not proposed on
    assert "tested on the test half: 32 examples" in card(record)
    assert Path(found["saved"]).is_file()
    again, said = run(workspace, capsys, SEEDS)
    assert again == found
    assert "cells to run" not in said
    assert sorted((workspace / "records").iterdir()) == cells


def test_the_own_group_on_its_model_has_the_numbers_of_the_cell_that_proposed_it(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = run(workspace, capsys, SEEDS)
    for entry in found["entries"]:
        if entry["owner"] == entry["model"]:
            proposed = found["models"][entry["model"]]["proposed"]
            record = json.loads((workspace / "records" / proposed / "record.json").read_text())
            effects = record["closure"][0]["effects"]
            for name, change in entry["changes"].items():
                assert change["ablated"] == effects[name]["ablated"]
                assert change["compared"] == effects[name]["controls"]


def test_on_says_where_groups_are_tested(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = run(workspace, capsys, SEEDS, "on.batch.seed=1")
    proposed = {model["proposed"] for model in found["models"]}
    seeds = {
        json.loads((workspace / "records" / cell / "record.json").read_text())["config"]["batch"]["seed"]
        for cell in {entry["cell"] for entry in found["entries"]}
    }
    assert seeds == {1}
    assert proposed == {model["proposed"] for model in run(workspace, capsys, SEEDS)[0]["models"]}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("subject.seed=0",), "matrix compares models, and these overrides describe one."),
        ((SEEDS, "batch.seed=0,1"), "matrix compares models: these cells differ in batch as well."),
        ((SEEDS, "on.subject.seed=0"), "not one for each of 3 models"),
        ((SEEDS, "on.batch.lenght=3"), "lenght"),
        ((SEEDS, "on=3"), "'on=3' names no key of the tests."),
        ((SEEDS, "out=matrix.txt"), "matrix writes .png, .svg, .json"),
        (("subject.seed=0", "subject.layers=6,7"), "has 60 units (L0H0 to L5H9)"),
    ],
)
def test_bad_input_is_a_sentence(
    words: tuple[str, ...], sentence: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", *WORDS, *words, f"workspace={workspace}"]) == 2
    assert sentence in capsys.readouterr().err


def test_a_cell_that_cannot_be_run_is_reported_with_its_reason(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", *WORDS, SEEDS, "partitioner.sizes=[60]", f"workspace={workspace}"]) == 2
    assert "60 of 60 units are not a selection" in capsys.readouterr().err
