"""A record as an MLflow run: within MLflow's limits, with ordered curves, and never truncated silently."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from harness.records.record import Status
from harness.records.workspace import Workspace
from harness.tracking import run_view
from harness.tracking.address import address
from harness.util.errors import HarnessError

Make = Callable[..., Any]


def test_the_controls_are_a_rising_curve_and_the_candidate_is_at_its_rank(make_record: Make, make_effect: Make) -> None:
    controls = (0.5, -1.0, -3.0, 0.25)
    record = make_record(effect=make_effect(delta=-2.0, controls=controls))
    found = [(m.key, m.step, m.value) for m in run_view.metrics(record)]
    curve = [(step, value) for key, step, value in found if key == "closure.0.target_logit.controls"]
    assert curve == [(0, -3.0), (1, -1.0), (2, 0.25), (3, 0.5)]
    (candidate,) = [(step, value) for key, step, value in found if key == "closure.0.target_logit.candidate"]
    assert candidate == (1, -2.0), "one control lies below it"


def test_columns_are_those_of_the_first_candidate_and_the_chosen_partition(make_record: Make) -> None:
    found = {m.key: m.value for m in run_view.metrics(make_record()) if m.step == 0}
    assert (found["effect"], found["p"], found["z"]) == (-2.0, 0.01, -8.0)
    assert found["ari"] == 0.25  # not the other partition's -0.1
    assert found["seconds"] == 2.0
    assert found["seconds.closure"] == 1.5


def test_partitions_are_a_curve_over_their_number_of_groups(make_record: Make) -> None:
    found = [(m.step, m.value) for m in run_view.metrics(make_record()) if m.key == "partition.ari"]
    assert found == [(2, -0.1), (3, 0.25)]


def test_names_and_lengths_are_within_the_limits_of_mlflow(make_record: Make) -> None:
    long = make_record(method="x" * 9000, note="y" * 9000)
    long = replace(long, reason="z" * 9000)
    assert all(re.fullmatch(r"[\w\-. /:]{1,250}", m.key) for m in run_view.metrics(long))
    assert all(len(value) < 8000 for value in run_view.tags(long).values()), "MLflow cuts in silence"
    assert all(len(value) <= 500 for value in run_view.params(long).values())


def test_settings_that_do_not_change_results_are_not_parameters(make_record: Make) -> None:
    record = make_record(workspace="/home/me", tracking="postgresql://me:secret@host/db", force=True)
    found = run_view.params(record)
    assert found["partitioner.name"] == "spectral"
    assert not {"workspace", "tracking", "force"} & set(found)
    assert "secret" not in json.dumps([found, run_view.tags(record)])


@pytest.mark.parametrize(("commit", "expected"), [("abc", ("abc", "false")), ("abc+", ("abc", "true"))])
def test_a_modified_checkout_is_tagged(make_record: Make, commit: str, expected: tuple[str, str]) -> None:
    record = make_record()
    tags = run_view.tags(replace(record, provenance={**record.provenance, "commit": commit}))
    assert (tags["commit"], tags["dirty"]) == expected


def test_copying_twice_changes_nothing(make_record: Make) -> None:
    record = make_record()
    first, second = ([(m.key, m.step, m.value, m.timestamp) for m in run_view.metrics(record)] for _ in range(2))
    assert first == second
    assert len({entry[:2] for entry in first}) == len(first), "MLflow keeps one value per name and step"
    began, ended = run_view.times(record)
    assert ended - began == 2000  # 0.5 + 1.5 s


def test_a_failure_is_a_failed_run_with_its_reason_and_traceback(make_record: Make, tmp_path: Path) -> None:
    record = make_record(status=Status.FAILED)
    assert run_view.run_status(record) == "FAILED"
    assert run_view.tags(record)["reason"] == "no reason"
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "traceback.txt").write_text("Traceback")
    (tmp_path / "cell" / "affinity.safetensors").write_bytes(b"large")
    (tmp_path / "run").mkdir()
    run_view.write_files(record, tmp_path / "cell", tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"traceback.txt", "config.yaml", "card.txt"}
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").partitioner.name == "spectral"


@pytest.mark.parametrize(
    "tracking", ["mlruns", "file:///tmp/mlruns", "ftp://host/x", "http://", "none://x", "oracle://x"]
)
def test_an_address_that_mlflow_cannot_write_to_is_refused(tracking: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="not the address of a tracking server") as caught:
        address(tracking, Workspace(tmp_path))
    assert "tracking=local" in caught.value.fix


@pytest.mark.parametrize(
    ("tracking", "expected"),
    [("none", None), ("local", "sqlite:///{}/mlflow.db"), ("http://host:5000", "http://host:5000")],
)
def test_tracking_addresses_follow_from_the_setting(tracking: str, expected: str | None, tmp_path: Path) -> None:
    assert address(tracking, Workspace(tmp_path)) == (expected and expected.format(tmp_path))
