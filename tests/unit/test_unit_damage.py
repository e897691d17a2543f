"""Maps of single units: measured on planted worlds, read from records, written as text, data and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.board.damage_map import STRONGEST, as_data, as_text, write
from harness.board.figures.units import in_grid
from harness.cells.cell import Cell
from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.cells.unit_damage import UnitDamage
from harness.data.tokens import tokens_of
from harness.data.units import UnitSpace
from harness.records.record import Record
from harness.registry.config import registry, resolve
from harness.util.cache import Cache, Memo
from harness.util.errors import HarnessError

EFFECT = 2.0  # of a planted circuit, the default
PLANTED = ("subject=planted", "subject.noise=0", "batch=planted", "batch.n=64", "tracking=none")


def gathered(*overrides: str, memo: Memo | None = None) -> Inputs:
    cell = Cell.of(resolve([*PLANTED, *overrides], registry()), registry())
    return Inputs.gather(cell, memo or Memo(), Progress(quiet=True), test=True)


def test_the_map_of_a_planted_world_is_its_planted_damage() -> None:
    """The world's closed form: how often a circuit is active times what one unit of it carries."""
    inputs = gathered("metric=[target_logit]")
    damage = UnitDamage.measure(inputs)
    assert inputs.test_half is not None
    active = (tokens_of(inputs.test_half, "test").tokens[:, 2:6] % 2).mean(axis=0)  # the tokens that switch circuits
    change = damage.changes["target_logit"]
    alone = {"serial": -active[0], "parallel": -active[1] / 4, "redundant_pair": 0.0, "bystander": 0.0, "position": 0.0}
    for kind, expected in alone.items():
        for unit in inputs.subject.groups[kind][0]:  # type: ignore[attr-defined]  # of planted subjects
            assert change[unit] == pytest.approx(EFFECT * expected, abs=1e-6), kind
    assert damage.damage == {"target_logit": -1}
    assert damage.examples == "the test half: 32 examples"
    assert set(damage.strongest[:4]) == set(inputs.subject.groups["serial"][0])  # type: ignore[attr-defined]


def test_a_later_test_finds_the_outcomes_of_a_map_in_the_cache(tmp_path: Path) -> None:
    memo = Memo(disk=Cache(tmp_path, 10**9))
    UnitDamage.measure(gathered(memo=memo))
    again = gathered(memo=memo)
    UnitDamage.measure(again)
    assert again.progress.cost["computed"] == 0
    assert again.progress.cost["conditions"] == 1 + len(again.subject.units)


def test_a_cell_that_proposes_and_tests_on_the_same_examples_is_mapped_on_all() -> None:
    assert UnitDamage.measure(gathered("split=none")).examples == "all 64 examples"


UNITS = UnitSpace.heads([2, 3])


def small(**changes: object) -> UnitDamage:
    """Five heads of two layers; the third was not measured."""
    change = np.array([-0.5, 0.25, np.nan, -3.0, 0.0])
    made = UnitDamage(
        "tiny · text · zero",
        "all 9 examples",
        UNITS,
        {"accuracy": 0.75, "loss": 1.0},
        {"accuracy": -1, "loss": 1},
        {"accuracy": change, "loss": -2 * change},
    )
    return replace(made, **changes)


def test_units_are_listed_by_damage_and_shown_by_site() -> None:
    text = as_text(small(), 120)
    lines = [line.split() for line in text.splitlines()]
    assert ["L1H1", "-3.00", "+6.00"] in lines
    names = [words[0] for words in lines if words and words[0].startswith(("L0H", "L1H"))]
    assert names == ["L1H1", "L0H0", "L1H2", "L0H1"]
    assert ["L0.attn", "-0.50", "+0.25"] in lines
    assert ["L1.attn", "-3.00", "+0.00"] in lines  # L1H0 is blank
    assert "L0.attn" not in as_text(small(), 20)


def test_only_the_strongest_of_many_units_are_listed() -> None:
    n = STRONGEST + 3
    many = UnitDamage("t", "e", UnitSpace.heads([n]), {}, {"loss": 1}, {"loss": np.arange(n, dtype=float)})
    text = as_text(many, 60)
    assert f"L0H{n - 1} " in text
    assert "L0H2 " not in text
    assert "and 3 units with less damage to loss ↑" in text


@pytest.mark.parametrize("form", ["png", "svg", "csv", "json"])
def test_files_hold_every_unit(tmp_path: Path, form: str) -> None:
    path = tmp_path / "new" / f"map.{form}"
    write(small(), path)
    if form == "csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert [row["unit"] for row in rows] == list(UNITS.labels)
        assert (rows[3]["site"], rows[3]["loss"], rows[2]["loss"]) == ("L1.attn", "6.0", "")
    elif form == "json":
        assert json.loads(path.read_text()) == as_data(small())
        assert as_data(small())["units"][2] == {"unit": "L1H0", "site": "L1.attn", "accuracy": None, "loss": None}
    else:
        assert path.read_bytes().startswith(b"\x89PNG" if form == "png" else b"<?xml")


def test_a_file_that_cannot_be_written_is_an_error_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="cannot be written") as caught:
        write(small(), tmp_path / "file" / "map.png")
    assert "another file" in caught.value.fix


def test_a_record_gives_its_damage_back_as_changes(make_record: Callable[..., Record]) -> None:
    record = make_record()
    assert UnitDamage.of(record) is None
    held = replace(record, unit_damage={"target_logit": {"L0H0": 1.5, "L1H1": -0.5}})
    damage = UnitDamage.of(held)
    assert damage is not None
    np.testing.assert_array_equal(damage.changes["target_logit"], [-1.5, np.nan, np.nan, 0.5, np.nan])
    assert damage.strongest == [0, 3]


def test_rows_of_the_grid_are_sites() -> None:
    shuffled = UNITS.reordered([4, 0, 2, 1, 3])  # L1H2 L0H0 L1H0 L0H1 L1H1
    grid = in_grid(shuffled, np.array([12.0, 0.0, 10.0, 1.0, 11.0]), np.nan)
    np.testing.assert_array_equal(grid, [[0, 1, np.nan], [10, 11, 12]])
