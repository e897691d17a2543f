"""The cross-model matrix: its arithmetic on records whose numbers are chosen by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.board.figures.matrix import heat_map
from harness.board.matrix import Matrix, groups_of
from harness.board.matrix_page import as_data, as_markdown, sentences, write
from harness.closure.report import Anatomy, ClosureReport
from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict
from harness.data.units import UnitSpace
from harness.records.record import CandidateRecord, CellInfo, Record, Status
from harness.util.errors import HarnessError

UNITS = UnitSpace.heads([4, 4])
OWN = (("L0H0", "L0H1"), ("L0H1", "L0H2"))
"""The groups of two models: they share one head."""
STRENGTH = {"L0H0": 4.0, "L0H1": 3.0, "L0H2": 1.0, "L0H3": 0.0}
"""What each head alone does to model 0; the damage of a group is the sum. On model 1, heads 0 and 2 change places."""


def record(model: int, group: tuple[str, ...] = (), batch: str = "probe", accuracy: float = 0.9) -> Record:
    """A cell that proposed the model's group, or that tested one. Damage of a group: the sum over its heads."""
    cell = f"{model}{''.join(group)}{batch}"
    return Record(
        status=Status.OK,
        reason="",
        cell=CellInfo(cell, "row", "protocol", cell, "m", f"model-{model}", batch, "word", "zero"),
        config={"subject": {"name": "s", "seed": model}, "batch": {"name": "probe"}, "contrast": {"name": "prose"}},
        provenance={"subject": {"weights": str(model)}},
        units=UNITS.labels,
        sites=UNITS.runs,
        candidates=(CandidateRecord(OWN[model], 2, ("L0.attn",), None, None, None),),
        closure=(closure(model, group, accuracy),) if group else (),
    )


def damage_of(model: int, group: tuple[str, ...]) -> float:
    swap = {"L0H0": "L0H2", "L0H2": "L0H0"} if model else {}
    return sum(STRENGTH[swap.get(head, head)] for head in group)


def closure(model: int, group: tuple[str, ...], accuracy: float) -> ClosureReport:
    heads = list(STRENGTH)
    compared = [c for c in combinations(heads, 2) if c != group] if len(group) == 2 else []
    shifts = tuple(-damage_of(model, c) for c in compared)

    def effect(baseline: float, scale: float) -> Effect:
        change = -scale * damage_of(model, group)
        controls = tuple(scale * shift for shift in shifts)
        return Effect(baseline, baseline + change, change, controls, None, 0.2, None, None, -1, harmed=change < 0)

    return ClosureReport(
        units=group,
        n_examples=8,
        n_controls=len(compared),
        shortfall={},
        effects={"logit_difference": effect(9.0, 1.0), "accuracy": effect(accuracy, 0.1)},
        site_ablation={},
        verdict=Verdict.PASS,
        reason="",
        anatomy={"loss": Anatomy(None, None, (), None, None, None, (0.25, None))},
        groups=tuple(UNITS.find(c) for c in compared),
    )


SITE = ("L0H0", "L0H1", "L0H2", "L0H3")


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    proposed = [record(0), record(1)]
    columns = list(groups_of(proposed))
    assert columns == [*OWN, SITE]
    tested = [[record(model, group) for group in columns] for model in (0, 1)]
    others = [record(0, OWN[0], "probe(gap=out)", 0.5), record(1, OWN[1], "probe(gap=out)", 0.8)]
    return Matrix.of(proposed, tested, others)


def test_every_group_is_ablated_on_every_model(matrix: Matrix) -> None:
    assert matrix.names == ("group of model-0", "group of model-1", "all of L0.attn")
    harms = [[matrix.entry(model, name).first.harm for name in matrix.names] for model in (0, 1)]
    assert harms == [[7, 4, 8], [4, 7, 8]]
    assert [[matrix.entry(model, name).shared for name in matrix.names] for model in (0, 1)] == [[2, 1, 2], [1, 2, 2]]
    assert [entry.own for entry in matrix.entries] == [True, False, False, False, True, False]
    assert {entry.text for entry in matrix.entries} == {0.25}
    own = matrix.entry(0, "group of model-0")
    assert own.changes["accuracy"].ablated == pytest.approx(0.2)


def test_p_of_damage_counts_groups_of_the_profile_and_those_with_the_same_overlap(matrix: Matrix) -> None:
    """Model 0, pairs of heads: 01: 7 (its own), 02: 5, 03: 4, 12: 4, 13: 3, 23: 1."""
    own, other = (matrix.entry(0, name) for name in matrix.names[:2])
    assert own.p_damage == pytest.approx(1 / 6)  # none of five does as much
    assert own.p_overlap is None  # no other group has both heads
    assert other.p_damage == pytest.approx(4 / 6)  # 7, 5 and 4 are as large as 4
    assert other.n_overlap == 3  # 02, 03 and 13 share one head with 01
    assert other.p_overlap == pytest.approx(3 / 4)  # 5 and 4
    whole = matrix.entry(0, "all of L0.attn")
    assert (whole.p_damage, whole.p_overlap) == (None, None)


def test_effect_against_shared_units(matrix: Matrix) -> None:
    """By symmetry both models have the same numbers. Sharing one: 5, 4, 4 and 3 of 7; none: 1 of 7."""
    rows = {row.shared: row for row in matrix.overlaps}
    assert rows[1].others == pytest.approx((4 / 7, 4 / 7))
    assert rows[1].random == pytest.approx((5 + 4 + 4 + 3) / 4 / 7)
    assert (rows[1].random_n, rows[0].random_n) == (8, 2)
    assert rows[0].random == pytest.approx(1 / 7)
    assert 2 not in rows  # no other pair of heads shares two with it


def test_shares_of_a_damage_that_is_not_certain_are_left_out(matrix: Matrix) -> None:
    proposed = [record(0), record(1)]
    tested = [[record(model, group) for group in groups_of(proposed)] for model in (0, 1)]
    own = tested[0][0].closure[0]
    unsure = {name: replace(effect, harmed=False) for name, effect in own.effects.items()}
    tested[0][0] = replace(tested[0][0], closure=(replace(own, effects=unsure),))
    rows = {row.shared: row for row in Matrix.of(proposed, tested, []).overlaps}
    assert (len(rows[1].others), rows[1].random_n) == (1, 4)  # those of model 1


def test_units_that_recur(matrix: Matrix) -> None:
    """Two pairs of four heads share one or more with probability 5/6, of eight heads with 1 - C(6,2)/C(8,2) = 13/28."""
    (pair,) = matrix.recurrence.pairs
    assert pair.shared == 1
    assert pair.in_sites == pytest.approx((1, 5 / 6))
    assert pair.anywhere == pytest.approx((0.5, 13 / 28))
    assert matrix.recurrence.times["L0H1"] == pytest.approx((2, 1 / 4))
    assert matrix.recurrence.times["L0H0"] == pytest.approx((1, 3 / 4))
    assert matrix.recurrence.p_in_sites == pytest.approx(5 / 6, abs=0.02)
    assert matrix.recurrence.p_anywhere == pytest.approx(13 / 28, abs=0.02)


def test_classes_and_accuracy(matrix: Matrix) -> None:
    assert [model.early for model in matrix.models] == [True, True]
    assert matrix.models[0].accuracy == {"probe": 0.9, "probe(gap=out)": 0.5}
    assert "the two classes cannot be compared" in list(sentences(matrix))[-1]
    late = replace(matrix, models=(matrix.models[0], replace(matrix.models[1], depth=1.0)))
    assert list(sentences(late))[-1] == (
        "Accuracy on probe(gap=out): 0.50 where the own group is early (models: 1), 0.80 where it is late (1)."
    )


def test_what_is_said(matrix: Matrix) -> None:
    said = list(sentences(matrix))
    assert said[0].startswith("On 2 of 2 models, the own group does more damage")
    assert said[1].startswith("0 of 0 other models' groups do more damage")
    assert said[1].endswith("2 have fewer than 19 such groups to compare with.")  # three cannot reach .05
    text = " ".join(as_markdown(matrix).split())
    assert "| model-0 | 9.00 / 0.90 | 2.00 / 0.20 (own) p 0.200 | 5.00 / 0.50 (1) p 0.200" in text


def test_groups_that_overlap_wholly_are_one_column() -> None:
    proposed = [record(0), replace(record(1), candidates=record(0).candidates)]
    columns = list(groups_of(proposed))
    assert columns == [OWN[0], SITE]
    found = Matrix.of(proposed, [[record(model, group) for group in columns] for model in (0, 1)], [])
    assert [entry.own for entry in found.entries] == [True, False, True, False]
    assert next(sentences(found)) == "Every model has the same group: there is no other model's group to compare with."
    assert as_data(found)["recurrence"]["pairs"][0]["shared"] == 2


def test_models_with_other_units_and_equal_models_are_refused() -> None:
    space = UnitSpace.heads([4])
    with pytest.raises(HarnessError, match=r"model-0 has 8 units \(L0H0 to L1H3\); model-1 has 4 \(L0H0 to L0H3\)"):
        groups_of([record(0), replace(record(1), units=space.labels, sites=space.runs)])
    same: dict[str, Any] = {"config": record(0).config, "provenance": record(0).provenance}
    with pytest.raises(HarnessError, match="model-0 and model-1 are the same model"):
        groups_of([record(0), replace(record(1), **same)])
    with pytest.raises(HarnessError, match="model-1 has no group of its own: no group qualified"):
        groups_of([record(0), replace(record(1), status=Status.SKIPPED, candidates=())])


def test_the_heat_map_has_a_panel_per_metric_and_outlines_own_groups(matrix: Matrix, tmp_path: Path) -> None:
    panels = [axes for axes in heat_map(matrix).axes if axes.images]
    assert len(panels) == 2
    assert all(len(axes.patches) == 2 for axes in panels)
    np.testing.assert_array_equal(np.asarray(panels[0].images[0].get_array()), [[0, 7, 4, 8], [0, 4, 7, 8]])
    for form in ("png", "svg", "json"):
        write(matrix, tmp_path / f"matrix.{form}")
        assert (tmp_path / f"matrix.{form}").stat().st_size > 1000
