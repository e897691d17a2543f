"""Two cells' partitions and candidates: known relabellings, other unit spaces, groups named by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.board.compare_groups import compare_groups, groups_text
from harness.data.grouping import Stability
from harness.data.units import UnitSpace
from harness.records.record import CandidateRecord, PartitionRecord, Record, Status
from harness.util.errors import HarnessError

Make = Callable[..., Record]
UNITS = UnitSpace.heads([4, 4])
PAIRS = (0, 0, 1, 1, 2, 2, 3, 3)


def with_groups(record: Record, labels: tuple[int, ...], units: UnitSpace = UNITS, **changes: Any) -> Record:
    """The record with one chosen partition of these units."""
    partition = PartitionRecord("k = 4", 4, 4, labels, chosen=True, stability=changes.pop("stability", None))
    return replace(record, units=units.labels, sites=units.runs, partitions=(partition,), **changes)


def candidate(*units: str) -> CandidateRecord:
    return CandidateRecord(units, len(units), ("L0.attn",), None, None, None)


def test_a_relabelled_partition_is_the_same_partition(make_record: Make) -> None:
    record = make_record()
    found = compare_groups(with_groups(record, PAIRS), with_groups(record, (7, 7, 2, 2, 0, 0, 5, 5)))
    assert (found.ari, found.nmi, found.common) == (1.0, pytest.approx(1.0), 8)


def test_crossed_partitions_share_no_pair(make_record: Make) -> None:
    """Two groups of four, crossed: no information, and fewer common pairs than by chance.

    Of 28 pairs, each partition joins 12 and both join 4: (4 - 144 / 28) / (12 - 144 / 28) = -1 / 6.
    """
    first, second = (0, 0, 0, 0, 1, 1, 1, 1), (0, 0, 1, 1, 0, 0, 1, 1)
    record = make_record()
    found = compare_groups(with_groups(record, first), with_groups(record, second))
    assert found.ari == pytest.approx(-1 / 6)
    assert found.nmi == pytest.approx(0.0, abs=1e-12)


def test_units_are_matched_by_label_and_only_common_ones_count(make_record: Make) -> None:
    order = [5, 4, 3, 2, 1, 0]  # L1H2 and L1H3 are missing, the others come in reverse order
    few = UNITS.reordered(order)
    record = make_record()
    whole, part = with_groups(record, PAIRS), with_groups(record, tuple(np.array(PAIRS)[order].tolist()), few)
    found = compare_groups(whole, part)
    assert (found.ari, found.common) == (1.0, 6)
    assert "units: A has 8, B has 6; 6 with the same label in both" in groups_text(found)
    assert "over 6 units" in groups_text(found)


def test_cells_without_a_common_unit_have_no_agreement(make_record: Make) -> None:
    record = make_record()
    others = UnitSpace.from_labels([f"x{i}" for i in range(8)])
    found = compare_groups(with_groups(record, PAIRS), with_groups(record, PAIRS, others))
    assert found.ari is found.nmi is None
    assert "not compared: the cells have no unit in common" in groups_text(found)


def test_a_group_named_by_hand_has_no_partition(make_record: Make) -> None:
    record = make_record()
    by_hand = make_record(partition=None, group=["L0H1"])
    text = groups_text(compare_groups(record, by_hand))
    assert "partitions: not compared: B is named by hand and has no partition" in text


def test_every_candidate_has_its_most_similar_one(make_record: Make) -> None:
    record = with_groups(make_record(), PAIRS)
    a = replace(record, candidates=(candidate("L0H0", "L0H1"), candidate("L1H0", "L1H1")))
    b = replace(record, candidates=(candidate("L0H0", "L0H1", "L0H2"), candidate("L0H2", "L0H3")))
    found = {(overlap.a[0], overlap.b[0]): overlap.jaccard for overlap in compare_groups(a, b).overlaps}
    assert found == {("L0H0", "L0H0"): pytest.approx(2 / 3), ("L1H0", "L0H0"): 0.0, ("L0H0", "L0H2"): 0.0}
    (same,) = compare_groups(record, record).overlaps
    assert same.jaccard == 1.0
    assert compare_groups(record, replace(record, candidates=())).overlaps == ()


@pytest.mark.parametrize(
    ("second", "conclusion"),
    [
        (PAIRS, "no evidence that groups depend on the batch"),
        (tuple(np.array(PAIRS)[[0, 2, 4, 6, 1, 3, 5, 7]].tolist()), "groups depend on the batch"),
    ],
)
def test_the_difference_is_held_against_reruns_on_resampled_examples(
    make_record: Make, second: tuple[int, ...], conclusion: str
) -> None:
    record = make_record()
    other = replace(record, cell=replace(record.cell, batch="natural_text"))
    a = with_groups(record, PAIRS, stability=Stability(1.0, 0.5))
    b = with_groups(other, second, stability=Stability(1.0, 0.6))
    found = compare_groups(a, b)
    assert found.differ == ("batch",)
    text = groups_text(found)
    assert conclusion in text
    assert ("no evidence" in text) == (second == PAIRS)
    assert "depend on" not in groups_text(compare_groups(a, a)), "equal cells differ in nothing"


def test_a_cell_that_did_not_end_is_refused(make_record: Make) -> None:
    failed = replace(make_record(status=Status.FAILED), units=(), sites=(), partitions=())
    with pytest.raises(HarnessError, match="has no groups: failed"):
        compare_groups(failed, make_record())
