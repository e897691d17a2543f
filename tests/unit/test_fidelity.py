"""`harness fidelity`: decompositions at several penalties, with their groups, from records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.board.fidelity import points_of
from harness.board.fidelity_page import as_data, as_markdown, sentences, write
from harness.board.figures.fidelity import fidelity_figure
from harness.records.record import Record
from harness.util.errors import HarnessError

Make = Callable[..., Any]


def decomposed(record: Record, penalty: float, masked: float, circuits: dict[str, list[str]]) -> Record:
    """A record whose units come from a decomposition at this penalty."""
    about = {
        "penalty": {"penalty": "smooth_l0", "minimality": penalty, "frequency": penalty / 2},
        "error masked": masked, "error stochastic": masked / 2, "l0 a": 1.5, "l0 b": 2.0, "alive a": 3.0, "exact": 4.0,
        "alive": {"a": 3, "b": 2}, "dead": {"a": 0, "b": 0},
    }  # fmt: skip
    subject = {**record.provenance.get("subject", {}), "circuits": circuits, "decomposition": about}
    return replace(record, provenance={**record.provenance, "subject": subject})


@pytest.fixture
def records(make_record: Make) -> list[Record]:
    """Two penalties: at the lower one the candidate is a mechanism, at the higher one half of a mechanism."""
    record = make_record()
    units = list(record.candidates[0].units)
    others = [unit for unit in record.units if unit not in units]
    whole, wider = {"one": units}, {"one": [*units, *others[: len(units)]]}
    return [decomposed(record, 1e-2, 0.5, wider), decomposed(record, 1e-4, 0.1, whole), record]


def test_points_are_in_order_of_the_penalty_and_other_records_are_left_out(records: list[Record]) -> None:
    low, high = points_of(records)
    assert (low.penalty, low.frequency, low.masked, low.l0, low.alive, low.exact) == (1e-4, 5e-5, 0.1, 3.5, 5, 4)
    assert low.F == 1
    size, other = len(records[0].candidates[0].units), len(records[0].provenance["subject"]["circuits"]["one"])
    assert pytest.approx(2 * size / (size + other)) == high.F  # F1 of the one pair, which is precision and recall
    assert low.passed is not None
    assert low.share == low.passed[0] / low.passed[1]
    (sentence,) = sentences([low, high])
    assert "F is highest (1.00) at the penalty 0.0001, with an error (masked) of 1.0e-01" in sentence
    assert as_data([low, high])["points"][1]["penalty"] == 1e-2
    assert as_markdown([low, high]).count("| 0.0001 ") == 1


def test_the_picture_has_errors_counts_and_groups(records: list[Record], tmp_path: Path) -> None:
    points = points_of(records)
    errors, sparsity, groups = fidelity_figure(points).axes
    assert [line.get_label() for line in errors.lines] == ["masked", "stochastic"]
    assert [line.get_label() for line in sparsity.lines] == ["L0", "exact features", "alive"]
    assert groups.lines[0].get_ydata().tolist() == [point.F for point in points]
    text = write(points, tmp_path)
    assert "fidelity-1.png" in text
    assert (tmp_path / "fidelity-1.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "fidelity.md").read_text() == text


def test_records_of_no_decomposition_are_refused(make_record: Make) -> None:
    with pytest.raises(HarnessError, match="none of 1 records is of a trained decomposition") as caught:
        points_of([make_record()])
    assert "experiment=spd_penalty" in caught.value.fix
