"""Basic parts: units, seeds, digests, errors, affinities, agreement, the memo."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.grouping import Affinity, Agreement, Labels, Partition
from harness.data.tokens import default_id_range
from harness.data.units import Unit, UnitSpace
from harness.util.cache import Memo
from harness.util.digest import digest, digest_files
from harness.util.errors import HarnessError, unknown
from harness.util.seeds import rng_for, seed_for

# ----------------------------------------------------------------------------------------------------------------------
# Units
# ----------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 999), st.integers(0, 9999), st.sampled_from("HEA"))
def test_the_label_of_a_unit_is_parsed_back_to_the_unit(layer: int, index: int, kind: str) -> None:
    unit = Unit(layer, index, kind)
    assert Unit.parse(unit.label) == unit


@pytest.mark.parametrize("label", ["", "5.3", "L5", "H3", "L5H", "l5h3", "L5H3x", "L-1H2", "L5H3 L5H4", "L٣H١x"])
def test_an_invalid_unit_label_is_refused(label: str) -> None:
    with pytest.raises(HarnessError, match="is not of the form"):
        Unit.parse(label)


def test_heads_are_numbered_layer_by_layer_whatever_their_number() -> None:
    units = UnitSpace.heads([2, 0, 3])
    assert units.labels == ("L0H0", "L0H1", "L2H0", "L2H1", "L2H2")
    assert units.depth_of.tolist() == [0, 0, 2, 2, 2]
    assert units.in_layers([2, 7]) == (2, 3, 4)
    assert units.names([4, 0]) == ["L2H2", "L0H0"]


def test_named_units_are_found_in_order() -> None:
    assert UnitSpace.heads([4, 4]).find(["L1H2", " L0H3 ", "L0H0"]) == (0, 3, 6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["L2H0"], "not a unit of this subject"), (["L0H1", "L0H1"], "named twice"), (["0.1"], "not of the form")],
)
def test_units_that_cannot_be_found_are_named(labels: list[str], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        UnitSpace.heads([4, 4]).find(labels)


def test_a_unit_space_names_each_unit_once_and_at_least_one() -> None:
    with pytest.raises(HarnessError, match="at least one"):
        UnitSpace(())
    with pytest.raises(HarnessError, match="twice"):
        UnitSpace((Unit(0, 1), Unit(0, 1)))


# ----------------------------------------------------------------------------------------------------------------------
# Seeds and digests
# ----------------------------------------------------------------------------------------------------------------------


def test_a_seed_is_the_first_four_bytes_of_sha_256() -> None:
    """From `printf '0/split' | sha256sum`: seeds are the same on every machine, for good."""
    assert seed_for(0, "split") == 0x68A30A9F


def test_different_purposes_and_base_seeds_have_different_streams() -> None:
    draws = {(base, purpose): rng_for(base, purpose).integers(2**62) for base in (0, 1) for purpose in ("a", "b")}
    assert len(set(draws.values())) == 4
    assert rng_for(0, "a").integers(2**62) == draws[0, "a"]


def test_the_digest_depends_on_values_shapes_types_and_order() -> None:
    ones = np.arange(6)
    alike = [digest(ones, {"a": 1, "b": [2]}), digest(np.arange(6), {"b": [2], "a": 1})]
    others = [
        digest(ones.reshape(2, 3), {"a": 1, "b": [2]}),
        digest(ones.astype(np.int32), {"a": 1, "b": [2]}),
        digest(ones[::-1], {"a": 1, "b": [2]}),
        digest({"a": 1, "b": [2]}, ones),
        digest(ones, {"a": 1, "b": [3]}),
        digest(ones, {"a": "1", "b": [2]}),
        digest("ab", "c"),
        digest("a", "bc"),
    ]
    assert alike[0] == alike[1]
    assert len({alike[0], *others}) == 1 + len(others)


def test_a_digest_does_not_depend_on_the_layout_in_memory() -> None:
    square = np.arange(9).reshape(3, 3)
    assert digest(square.T) == digest(np.ascontiguousarray(square.T)) != digest(square)


def test_the_digest_of_files_depends_on_names_and_contents(tmp_path: Path) -> None:
    def digest_of(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return digest_files(path)

    assert digest_of("a", "x") == digest_of("a", "x")
    assert len({digest_of("a", "x"), digest_of("b", "x"), digest_of("a", "y")}) == 3


# ----------------------------------------------------------------------------------------------------------------------
# Errors
# ----------------------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_nearest_and_all_names() -> None:
    error = unknown("affinity", "isng", ["pearson", "ising", "cosine"], "`harness list affinity` describes them")
    assert str(error).splitlines() == [
        "affinity 'isng' is not known. Did you mean: ising?",
        "affinity options: cosine, ising, pearson",
        "(`harness list affinity` describes them)",
    ]


def test_no_suggestion_is_given_if_no_name_is_near() -> None:
    assert "Did you mean" not in str(unknown("affinity", "zzz", ["ising"]))
    assert "(none)" in str(unknown("affinity", "zzz", []))


# ----------------------------------------------------------------------------------------------------------------------
# Affinities and agreement
# ----------------------------------------------------------------------------------------------------------------------

THREE = UnitSpace.heads([3])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 2)), "does not fit 3 units"),
        (np.array([[0, 1, 0], [1, 0, np.nan], [0, np.nan, 0]]), "NaN or infinite"),
        (np.array([[0, 1, 0], [1, 0, np.inf], [0, np.inf, 0]]), "NaN or infinite"),
        (np.array([[0, 1, 0], [1.1, 0, 0], [0, 0, 0]]), "not symmetric"),
        (np.eye(3), "non-zero diagonal"),
    ],
)
def test_an_invalid_affinity_is_refused(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        Affinity(matrix, THREE)


def test_rounding_does_not_make_an_affinity_asymmetric() -> None:
    matrix = np.array([[0, 1 / 3, 0], [1 / 3 + 1e-12, 0, 0], [0, 0, 0]])
    assert Affinity(matrix, THREE).matrix is matrix


def test_agreement_by_hand() -> None:
    """Four units, two pairs: one pair right, one split. ARI, NMI and purity from their definitions."""
    labels = Labels(("a", "a", "b", "b", None), UnitSpace.heads([5]))
    agreement = Agreement.of(Partition(3, np.array([0, 0, 1, 2, 0])), labels)
    assert agreement is not None
    # Pairs: 1 together in both, 2 in the labels, 1 in the groups, 6 in all: (1 - 2/6) / (1.5 - 2/6).
    assert agreement.ari == pytest.approx((1 - 1 / 3) / (1.5 - 1 / 3))
    # I = H(labels) = ln 2, because the groups tell the labels; H(groups) = 1.5 ln 2; arithmetic mean.
    assert agreement.nmi == pytest.approx(math.log(2) / (1.25 * math.log(2)))
    assert agreement.purity == 1.0


def test_purity_counts_the_most_common_class_of_each_group() -> None:
    labels = Labels(("a", "a", "b", "b", "b", "a"), UnitSpace.heads([6]))
    agreement = Agreement.of(Partition(2, np.array([0, 0, 0, 1, 1, 1])), labels)
    assert agreement is not None
    assert agreement.purity == pytest.approx(4 / 6)


def test_agreement_without_labels_is_undefined() -> None:
    assert Agreement.of(Partition(2, np.array([0, 1, 0])), Labels((None, None, None), THREE)) is None


def test_groups_are_the_members_by_ascending_label() -> None:
    assert Partition(9, np.array([7, 2, 7, 0])).groups() == [(3,), (1,), (0, 2)]


# ----------------------------------------------------------------------------------------------------------------------
# Ranges and the memo
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [(50_000, (100, 10_000)), (10_000, (100, 10_000)), (3200, (100, 3200)), (320, (10, 320)), (16, (0, 16))],
)
def test_token_ids_are_the_papers_shrunk_to_small_vocabularies(vocabulary: int, expected: tuple[int, int]) -> None:
    assert default_id_range(vocabulary) == expected


def test_a_memo_computes_each_value_once_and_drops_the_least_recently_used() -> None:
    calls: list[Any] = []

    def get(memo: Memo, key: str, kind: str = "batch") -> Any:
        return memo.get(kind, key, lambda: calls.append((kind, key)) or key.upper())

    memo = Memo(keep=2)
    assert [get(memo, key) for key in ("a", "b", "a", "c", "a", "b")] == ["A", "B", "A", "C", "A", "B"]
    assert calls == [("batch", key) for key in ("a", "b", "c", "b")]
    get(memo, "a", kind="recording")  # kinds do not push each other out
    assert get(memo, "a") == "A"
    assert calls[-1] == ("recording", "a")


def test_a_memo_stores_nothing_if_the_computation_fails() -> None:
    memo = Memo()
    with pytest.raises(ZeroDivisionError):
        memo.get("batch", "a", lambda: 1 / 0)
    assert memo.get("batch", "a", lambda: 5) == 5
