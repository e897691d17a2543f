"""Two methods on all tasks of both: under one protocol, on the metrics that all tasks have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.board.compare_cells import compare_cells
from harness.board.compare_groups import compare_groups
from harness.board.compare_methods import compare_methods, methods_text
from harness.board.found import called, left_out
from harness.board.table import build
from harness.cli.compare import records_of_method
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError

Judged = Callable[..., Record]


@pytest.fixture
def judged(tmp_path: Path, make_record: Callable[..., Record]) -> Judged:
    """A record with the changes of its 20 examples."""

    def make(method: str, protocol: str, subject: str = "tiny", change: float = -2.0, **changes: Any) -> Record:
        cell = f"{method}-{protocol}-{subject}"
        record = make_record(method=method, protocol=protocol, subject=subject, cell=cell, seed=0, **changes)
        (tmp_path / "records" / cell).mkdir(parents=True)
        deltas = np.full((len(record.closure[0].effects), 2, 20), change, dtype=np.float32)
        save_file({"candidate.0": deltas}, tmp_path / "records" / cell / "deltas.safetensors")
        return replace(record, provenance={**record.provenance, "batch": {"digest": subject}})

    return make


def test_the_protocol_with_most_tasks_is_compared(judged: Judged, tmp_path: Path) -> None:
    methods = [
        [
            *(judged(method, "wide", subject, change) for subject in ("tiny", "small")),
            judged(method, "narrow", "tiny", 9 * change, started="2027-01-01T00:00:00+00:00"),
        ]
        for method, change in (("ising", -2.0), ("pearson", -1.0))
    ]
    found = compare_methods(*methods, Workspace(tmp_path))
    assert (found.protocol, found.tasks, found.left_out, found.passed) == ("wide", 2, 1, (2, 2))
    assert len(found.pairs) == 2
    assert found.together["target_logit"].mean == 1.0  # a logit that falls by 2 instead of by 1
    assert found.together["target_logit"].n == 40
    assert "protocol wide; tasks under other protocols or seeds are left out: 1 (" in methods_text(found)


def test_the_last_protocol_is_compared_if_the_numbers_of_tasks_are_equal(judged: Judged, tmp_path: Path) -> None:
    years = {"a": 2026, "b": 2028, "c": 2027}
    methods = [
        [judged(method, protocol, started=f"{year}-01-01T00:00:00+00:00") for protocol, year in years.items()]
        for method in ("ising", "pearson")
    ]
    found = compare_methods(*methods, Workspace(tmp_path))
    assert (found.protocol, found.tasks, found.left_out) == ("b", 1, 2)


def test_a_single_protocol_is_not_mentioned(judged: Judged, tmp_path: Path) -> None:
    found = compare_methods([judged("ising", "only")], [judged("pearson", "only")], Workspace(tmp_path))
    assert found.left_out == 0
    assert "protocol" not in methods_text(found)


def test_tasks_without_a_common_metric_are_refused(
    judged: Judged, make_effect: Callable[..., Any], tmp_path: Path
) -> None:
    metrics = {"tiny": "loss", "small": "accuracy"}
    methods = [
        [judged(method, "only", subject, effects={name: make_effect()}) for subject, name in metrics.items()]
        for method in ("ising", "pearson")
    ]
    with pytest.raises(HarnessError, match=r"'ising' and 'pearson' share no metric .* \(2\)") as refused:
        compare_methods(*methods, Workspace(tmp_path))
    assert "--force" in refused.value.fix


# ----------------------------------------------------------------------------------------------------------------------
# Names are no identities
# ----------------------------------------------------------------------------------------------------------------------


def of_model(record: Record, weights: str, path: str = "run/checkpoint-100", name: str = "checkpoint-100") -> Record:
    """The record of a model with these weights, at a path, under a name."""
    return replace(
        record,
        cell=replace(record.cell, subject=name),
        config={**record.config, "subject": {"name": "hf", "path": path, "device": "auto"}},
        provenance={**record.provenance, "subject": {"weights": weights}, "batch": {"digest": "same", "n": 20}},
    )


def test_models_of_one_name_are_two_tasks(judged: Judged, tmp_path: Path) -> None:
    """Also at one path, where the file was replaced."""
    methods = [
        [of_model(judged(method, "only", weights), weights) for weights in ("w3", "w4")]
        for method in ("ising", "pearson")
    ]
    found = compare_methods(*methods, Workspace(tmp_path))
    assert (found.tasks, len(found.pairs)) == (2, 2)
    assert len({pair.task for pair in found.pairs}) == 2
    assert all(pair.task.startswith("checkpoint-100 \u00b7") and " #" in pair.task for pair in found.pairs)
    crossed = compare_methods(methods[0], methods[1][:1], Workspace(tmp_path))
    assert (crossed.tasks, crossed.only) == (1, (1, 0))
    assert "left out: 1 task that only A was tested on" in methods_text(crossed)
    with pytest.raises(HarnessError, match="no task on which both proposed a group"):
        compare_methods(methods[0][:1], methods[1][1:], Workspace(tmp_path))


def test_one_model_at_two_places_is_one_task(judged: Judged, tmp_path: Path) -> None:
    here = of_model(judged("ising", "only", "here"), "w", path="/me/model", name="model")
    there = of_model(judged("pearson", "only", "there"), "w", path="/you/copy", name="copy")
    assert compare_methods([here], [there], Workspace(tmp_path)).tasks == 1
    (board,) = build([here, there])
    (task,) = board.tasks
    assert called(task).startswith("copy \u00b7")
    assert "(also called model \u00b7" in called(task)


def test_an_older_record_of_the_same_method_and_task_is_left_out_and_counted(judged: Judged, tmp_path: Path) -> None:
    old, new = (
        of_model(judged("ising", "only", day, started=f"2026-01-{day}T00:00:00+00:00"), "w") for day in ("01", "02")
    )
    other = of_model(judged("pearson", "only"), "w")
    found = compare_methods([new, old], [other], Workspace(tmp_path))
    assert (found.tasks, found.older, found.pairs[0].cells[0]) == (1, 1, new.cell.id)
    assert "left out: 1 record with a newer one" in methods_text(found)
    (board,) = build([new, old, other])
    assert board.left_out == (old.cell.id,)
    assert old.cell.id in left_out(board)


def test_cells_of_models_of_one_name_are_not_compared(judged: Judged, tmp_path: Path) -> None:
    cells = [
        of_model(judged(method, "only", weights), weights) for method, weights in (("ising", "a"), ("pearson", "b"))
    ]
    with pytest.raises(HarnessError, match="were not tested on the same examples in the same way"):
        compare_cells(*cells, Workspace(tmp_path))
    assert compare_groups(*cells).differ[0] == "subject"


def test_methods_of_one_name_are_told_apart(judged: Judged, tmp_path: Path) -> None:
    """Of two files of one name, for example."""
    one = judged("precomputed(path=J.npy)", "only")
    other = replace(one, cell=replace(one.cell, id="b", row="another"))
    (board,) = build([one, other])
    names = [row.method for row in board.rows if row.cells]
    assert len(set(names)) == 2
    assert all(name.startswith("precomputed(path=J.npy) #") for name in names)
    with pytest.raises(HarnessError, match="has several: precomputed"):
        records_of_method(Workspace(tmp_path), [one, other], "precomputed(path=J.npy)")
    assert records_of_method(Workspace(tmp_path), [one, other], names[0]) in ([one], [other])


@pytest.mark.parametrize("shape", [(1, 2, 19), (2, 2, 20), (1, 20), (1, 0, 20)])
def test_changes_that_do_not_agree_with_the_record_are_refused(
    judged: Judged, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    cells = [judged(method, "only") for method in ("ising", "pearson")]
    folder = tmp_path / "records" / cells[0].cell.id
    save_file({"candidate.0": np.zeros(shape, dtype=np.float32)}, folder / "deltas.safetensors")
    with pytest.raises(HarnessError, match=r"does not agree with its deltas\.safetensors"):
        compare_cells(*cells, Workspace(tmp_path))
