"""Cells that differ only in their seed: one row, its means, and how far the seeds are apart."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from harness.board.board import Board
from harness.board.columns import COLUMNS
from harness.board.lineage import Lineage
from harness.board.seeds import Spread
from harness.board.table import build
from harness.board.write import as_csv, as_json
from harness.closure.verdict import Verdict
from harness.records.record import Record, Status

Make = Callable[..., Any]
SEEDS = next(column for column in COLUMNS if column.head == "seeds")


@pytest.fixture
def repeated(make_record: Make, make_effect: Make) -> Callable[..., Record]:
    """A cell of a method with a seed, whose candidate changes the metric by ``change``."""

    def make(method: str, seed: int, change: float, subject: str = "tiny", **more: Any) -> Record:
        effect = make_effect(delta=change, interval=(change - 0.5, change + 0.5))
        name = f"{method}/{subject}/{seed}"
        config = {"affinity": {"name": method}, "alpha": 0.1, "seed": seed, **more}
        return make_record(method=method, subject=subject, cell=name, effect=effect, **config)

    return make


def one(records: list[Record]) -> Board:
    (board,) = build(records)
    return board


def test_seeds_share_a_row_with_their_means_and_ranges(repeated: Make) -> None:
    verdicts = {0: Verdict.PASS, 1: Verdict.NULL, 2: Verdict.PASS, 3: Verdict.PASS}
    records = [
        repeated("ising", seed, -1.0 - seed, verdict=verdict, subject=subject)
        for seed, verdict in verdicts.items()
        for subject in ("a", "b")
    ]
    row = one(records).rows[0]
    assert (row.passed, row.tests, row.score) == (6, 8, pytest.approx(0.98))  # 1 - 2p, p = .01 in every cell
    assert row.effect == pytest.approx(-2.5)
    assert row.spread == Spread(4, 4, (0.0, 1.0), (-4.0, -1.0))
    assert SEEDS.text(row) == "4 [passed 0.00 .. 1.00, effect -4.00 .. -1.00]"
    result = next(iter(row.results.values()))
    assert result.effect_interval == pytest.approx((-3.0, -2.0))
    assert result.command == "harness sweep subject=a affinity=ising partitioner=spectral alpha=0.1 seed=0,1,2,3"
    assert len(row.cells) == 8


def test_the_board_names_its_seeds_and_methods_may_have_different_ones(repeated: Make) -> None:
    board = one([*(repeated("ising", seed, -2.0) for seed in (2, 0, 1)), repeated("pearson", 0, -1.0)])
    assert board.settings["seed"] == "0, 1, 2"
    spreads = {row.method: row.spread for row in board.rows if row.cells}
    assert spreads == {"ising": Spread(3, 3, (1.0, 1.0), (-2.0, -2.0)), "pearson": None}
    assert [row.rank for row in board.rows if row.cells] == [1, 1]


def test_a_seed_that_failed_is_counted_as_started(repeated: Make) -> None:
    records = [repeated("ising", seed, -1.0 - seed) for seed in (0, 1)]
    row = one([*records, repeated("ising", 2, 0.0, status=Status.FAILED)]).rows[0]
    assert SEEDS.text(row).startswith("2 of 3 [")
    assert (row.effect, row.complete) == (-1.5, True)


def test_files_of_a_board_have_columns_for_seeds_only_where_there_are_several(repeated: Make) -> None:
    single, several = (one([repeated("ising", seed, -1.0 - seed) for seed in range(n)]) for n in (1, 3))
    assert "seed_effect_low" not in as_csv([single])
    assert "spread" not in as_json([single], Lineage.of([], ""))
    line = next(csv.DictReader(io.StringIO(as_csv([several]))))
    assert (line["seeds"], line["seed_effect_low"], line["seed_effect_high"]) == ("3", "-3.0", "-1.0")
    (board,) = json.loads(as_json([several], Lineage.of([], "")))["boards"]
    assert board["rows"][0]["spread"]["effect"] == [-3.0, -1.0]
    assert all("spread" not in row for row in board["rows"][1:])


def test_commands_for_missing_results_take_the_first_seed(repeated: Make) -> None:
    board = one([repeated("ising", seed, -1.0) for seed in (3, 0, 2)])
    missing = [missing.command for row in board.rows for missing in row.missing]
    assert missing
    assert not any("seed=" in command for command in missing)
