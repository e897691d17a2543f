"""`harness compare`: two cells or two methods; and cells under other protocols."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from harness.cli.main import main
from tests.cli.conftest import SMALL as SMALLEST

Run = Callable[..., Any]
SMALL = (*SMALLEST, "selector.max_size=4")  # of larger groups, all others of their profile may share a unit with them


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on two tasks; a third task of one of them; and a method on other examples."""
    root = tmp_path_factory.mktemp("compared") / "runs"
    assert main(["sweep", *SMALL, "affinity=ising,pearson", "intervention=zero,mean", f"workspace={root}"]) == 0
    assert main(["run", *SMALL, "affinity=ising", "intervention=patching", f"workspace={root}"]) == 0
    assert main(["run", *SMALL, "affinity=cosine", "batch.seed=7", f"workspace={root}"]) == 0
    return root


@pytest.fixture
def swept(harness: Run, workspace: Path) -> Run:
    """Commands in a folder that has those results as its workspace ``runs``."""
    shutil.copytree(workspace, "runs")
    return harness


def cell_of(harness: Run, *words: str) -> str:
    """The identity of a cell."""
    (row,) = harness("plan", *SMALL, *words, "--json").data
    assert row["status"] == "ok"
    found: str = row["cell"]
    return found


def test_the_papers_protocol_is_a_preset(harness: Run, small: Any) -> None:
    words = [word for word in small if not word.startswith("controls.n")]
    record = harness("run", *words, "preset=paper", "--json").data
    (closure,) = record["closure"]
    assert closure["n_controls"] == 5
    assert record["config"]["split"] == "none"
    assert closure["n_examples"] == 16
    effect = closure["effects"]["loss"]
    deviation = np.std(effect["controls"])  # ddof 0
    assert effect["z"] == pytest.approx((effect["delta"] - np.mean(effect["controls"])) / deviation)
    assert closure["verdict"] == "underpowered"  # p cannot go below 1/6
    assert record["cell"]["protocol"] != harness("run", *small, "--json").data["cell"]["protocol"]


def test_a_group_tested_on_the_examples_it_was_chosen_on_is_compared_with_permuted_data(
    harness: Run, small: Any
) -> None:
    record = harness("run", *small, "split=none", "null_proposals=9", "affinity=mutual_information", "--json").data
    p = record["closure"][0]["selection_p"]
    assert p is not None
    assert p * 10 == pytest.approx(round(p * 10))  # one of nine, and itself
    apart = harness("run", *small, "affinity=mutual_information", "--json").data
    assert apart["closure"][0]["selection_p"] is None


def test_damage_on_a_contrast_batch_is_reported(harness: Run, small: Any) -> None:
    words = (*small, "batch@contrast=natural_text", "contrast.n=6", "contrast.length=48")
    record = harness("run", *words, "--json").data
    for inside in record["closure"][0]["anatomy"].values():
        delta, (low, high) = inside["contrast"]
        assert low <= delta <= high
    assert "contrast batch" in harness("run", *words).out
    assert "batch@contrast=natural_text" in record["provenance"]["command"]
    assert record["cell"]["id"] != harness("plan", *small, "--json").data[0]["cell"]


def test_an_unknown_contrast_batch_is_refused(harness: Run, small: Any) -> None:
    answer = harness("run", *small, "batch@contrast=natural_test")
    assert answer.code == 2
    assert "natural_text" in answer.err


def test_two_methods_are_compared_on_the_same_examples(swept: Run, tmp_path: Path) -> None:
    cells = [cell_of(swept, f"affinity={name}") for name in ("ising", "pearson")]
    answer = swept("compare", *cells, "--json")
    assert answer.code == 0, answer.err
    found = answer.data["differences"]["logit_difference"]
    deltas = [load_file(tmp_path / "runs" / "records" / cell / "deltas.safetensors")["candidate.0"] for cell in cells]
    assert found["n"] == 8
    assert found["mean"] == pytest.approx(
        float((deltas[1][0, 0] - deltas[0][0, 0]).mean()), abs=1e-4
    )  # a falling difference
    beyond = []
    for cell, delta in zip(cells, deltas, strict=True):  # beyond the groups that share no unit with the candidate
        record = json.loads((tmp_path / "runs" / "records" / cell / "record.json").read_text())
        own = {record["units"].index(unit) for unit in record["closure"][0]["units"]}
        apart = [own.isdisjoint(group) for group in record["closure"][0]["groups"]]
        assert 0 < sum(apart) < len(apart)
        beyond.append(-(delta[0, 0] - delta[0, 1:][apart].mean(axis=0)))
    found_beyond = answer.data["beyond_controls"]["logit_difference"]["mean"]
    assert found_beyond == pytest.approx(float((beyond[0] - beyond[1]).mean()), abs=1e-4)
    backward = swept("compare", cells[1][:6], cells[0][:6], "--json").data["differences"]["logit_difference"]
    assert backward["mean"] == pytest.approx(-found["mean"])
    out = swept("compare", *cells).out
    assert "damage, A - B" in out
    assert answer.data["groups"]["differ"] == ["method"]
    assert "partitions: A k = " in out


def test_two_methods_are_compared_on_all_tasks_of_both(swept: Run, tmp_path: Path) -> None:
    answer = swept("compare", "pearson", "ising", "--json")
    assert answer.code == 0, answer.err
    comparison = answer.data
    assert (comparison["tasks"], len(comparison["pairs"])) == (2, 2)
    records = {record["cell"]["id"]: record for record in answered(tmp_path)}
    first, second = ([pair["cells"][side] for pair in comparison["pairs"]] for side in (0, 1))
    assert {records[cell]["config"]["affinity"]["name"] for cell in first} == {"pearson"}
    verdicts = [[records[cell]["closure"][0]["verdict"] for cell in side] for side in (first, second)]
    assert comparison["passed"] == [side.count("pass") for side in verdicts]
    a, b = (
        np.mean([deltas(tmp_path, cell)[0, 0] for cell in side], axis=0, dtype=np.float64) for side in (first, second)
    )
    found = comparison["together"]["logit_difference"]
    assert found["mean"] == pytest.approx(float((b - a).mean()), abs=1e-4)  # a falling difference
    assert found["mean"] == pytest.approx(
        np.mean([p["differences"]["logit_difference"]["mean"] for p in comparison["pairs"]])
    )
    signs = np.array(list(itertools.product((-1, 1), repeat=8)))  # of examples: both tasks are on the same eight
    as_far = np.abs(signs @ (b - a)) >= abs((b - a).sum()) - 1e-6
    assert found["p"] == pytest.approx(as_far.mean())
    assert found["n"] == 8
    assert "mean over 2 tasks" in swept("compare", "pearson", "ising").out


def test_tasks_of_different_batches_have_equal_weight(harness: Run, tmp_path: Path) -> None:
    few = [word for word in SMALL if not word.startswith("batch.n=")]
    for n in (16, 24):
        harness("sweep", *few, f"batch.n={n}", "affinity=ising,pearson")
    comparison = harness("compare", "ising", "pearson", "--json").data
    means = [pair["differences"]["loss"]["mean"] for pair in comparison["pairs"]]
    assert comparison["together"]["loss"]["mean"] == pytest.approx(np.mean(means))
    assert comparison["together"]["loss"]["n"] == 8 + 12


def test_methods_that_cannot_be_compared_are_named(swept: Run) -> None:
    for words, says in {
        ("ising", "nonsense"): "has no such cell or method; it has: ",
        ("spectral", "ising"): "has several: ",
        ("ising", "cosine"): "no task on which both proposed a group (of 0 ",
    }.items():
        answer = swept("compare", *words)
        assert answer.code == 2
        assert says in answer.err


def answered(folder: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in folder.glob("runs/records/*/record.json")]


def deltas(folder: Path, cell: str) -> Any:
    return load_file(folder / "runs" / "records" / cell / "deltas.safetensors")["candidate.0"]


def test_damage_beyond_controls_is_left_out_where_all_groups_share_units(swept: Run) -> None:
    wide = swept("run", *SMALLEST, "selector.min_size=20", "selector.max_size=30", "partitioner.k=[2]", "--json").data
    assert wide["closure"][0]["effects"]["logit_difference"]["disjoint"] == 0
    answer = swept("compare", wide["cell"]["id"], cell_of(swept, "affinity=ising"), "--json")
    assert (answer.code, answer.data["beyond_controls"]) == (0, {})
    out = swept("compare", wide["cell"]["id"], wide["cell"]["id"]).out
    assert "beyond controls, A - B: not compared; all groups" in out


def test_groups_are_compared_where_damage_cannot_be_and_the_reason_is_given(swept: Run, tmp_path: Path) -> None:
    one, other = cell_of(swept, "affinity=ising"), cell_of(swept, "affinity=cosine", "batch.seed=7")
    skipped = swept("run", *SMALL, "selector.min_size=31", "selector.max_size=31", "--json").data["cell"]["id"]
    for words, says in {
        (one, other): "were not tested on the same examples in the same way",
        (one, skipped): "no tested candidate",
    }.items():
        answer = swept("compare", *words)
        assert answer.code == 0
        assert f"damage: not compared: cell{'s' if says[0] == 'w' else ''} " in answer.out
        assert says in answer.out
        assert "differences" not in swept("compare", *words, "--json").data
    labels = [
        next(p["labels"] for p in record["partitions"] if p["chosen"])
        for record in (
            json.loads((tmp_path / "runs/records" / cell / "record.json").read_text()) for cell in (one, other)
        )
    ]
    groups = swept("compare", one, other, "--json").data["groups"]
    assert groups["ari"] == pytest.approx(adjusted_rand_score(*labels))
    assert groups["nmi"] == pytest.approx(normalized_mutual_info_score(*labels))
    assert groups["differ"] == ["batch", "method"]
    (tmp_path / "runs" / "records" / one / "deltas.safetensors").unlink()
    assert "--force" in swept("compare", one, one).out


def test_an_impossible_comparison_is_refused_with_a_reason(swept: Run) -> None:
    one, present = cell_of(swept, "affinity=ising"), set(Path("runs/records").iterdir())
    assert swept("run", *SMALL, "group=[L9H9]", "--json").code == 2
    (other,) = (path.name for path in Path("runs/records").iterdir() if path not in present)
    for words, says in {
        (one, other): f"cell {other} has no groups: invalid",
        (one, "zzzz"): "is no cell",
        (one,): "compare takes two cells",
    }.items():
        answer = swept("compare", *words)
        assert answer.code == 2
        assert says in answer.err
