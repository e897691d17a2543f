"""Two methods on all tasks of both: under one protocol, on the metrics that all tasks have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.board.compare_methods import compare_methods, methods_text
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
