"""Basic parts: units, seeds, digests, errors, affinities, agreement, the memo."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import time
from dataclasses import replace
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


@pytest.mark.parametrize(
    "label", ["", "5.3", "L5", "H3", "L5H", "l5h3", "L5H3x", "L-1H2", "L5H3 L5H4", "L٣H١", "linear1:42"]
)
def test_any_text_is_a_label_and_nothing_is_read_from_it(label: str) -> None:
    units = UnitSpace.from_labels(["L0H1", label])
    assert units.labels == ("L0H1", label)
    assert units.sites == ("units",)
    assert units.find([label]) == (1,)


def test_labels_of_heads_only_are_read_as_heads_in_their_order() -> None:
    units = UnitSpace.from_labels(["L1H2", " L0H3 ", "L10H0", "L0H03"])
    assert units.labels == ("L1H2", "L0H3", "L10H0", "L0H03")
    assert units.sites == ("L0.attn", "L1.attn", "L10.attn")
    assert units.depth_of.tolist() == [1, 0, 10, 0]
    assert units.site_of.tolist() == [1, 0, 2, 0]
    assert {unit.family for unit in units.units} == {"head"}
    assert UnitSpace.from_labels(UnitSpace.heads([2, 0, 3]).labels) == UnitSpace.heads([2, 0, 3])


def test_heads_are_numbered_layer_by_layer_whatever_their_number() -> None:
    units = UnitSpace.heads([2, 0, 3])
    assert units.labels == ("L0H0", "L0H1", "L2H0", "L2H1", "L2H2")
    assert units.depth_of.tolist() == [0, 0, 2, 2, 2]
    assert units.at_sites(["L2.attn", "L7.attn"]) == (2, 3, 4)
    assert units.sites_of([4, 0, 3]) == ("L0.attn", "L2.attn")
    assert units.names([4, 0]) == ["L2H2", "L0H0"]


LAYERS = (("mlp", "neuron"), ("attn", "head"))


@st.composite
def unit_spaces(draw: st.DrawFn) -> UnitSpace:
    """Units of up to twelve layers with two sites each, in any order, some with a limit."""
    places = draw(
        st.sets(st.tuples(st.integers(0, 11), st.integers(0, 1), st.integers(0, 11)), min_size=1, max_size=24)
    )
    units = [
        Unit(f"L{layer}.{LAYERS[kind][0]}:{place}", f"L{layer}.{LAYERS[kind][0]}", layer, LAYERS[kind][1])
        for layer, kind, place in draw(st.permutations(sorted(places)))
    ]
    limited = draw(st.sets(st.sampled_from(sorted({unit.site for unit in units}))))
    return UnitSpace(tuple(units), dict.fromkeys(limited, 1))


@given(unit_spaces())
def test_labels_and_runs_give_the_units_back(units: UnitSpace) -> None:
    again = UnitSpace.from_runs(units.labels, units.runs)
    assert again.units == units.units
    assert sum(run.units for run in units.runs) == len(units)
    assert all(one.site != other.site for one, other in itertools.pairwise(units.runs))


@given(unit_spaces())
def test_the_canonical_order_is_by_depth_site_and_number(units: UnitSpace) -> None:
    ordered = units.reordered(units.canonical)
    expected = sorted(units.units, key=lambda unit: (unit.depth, unit.site, int(unit.label.split(":")[1])))
    assert list(ordered.units) == expected
    assert (ordered.canonical == np.arange(len(units))).all()
    assert (units.canonical[units.rank] == np.arange(len(units))).all()
    assert [units.sites[place] for place in units.site_of] == [unit.site for unit in units.units]


def test_numbers_in_labels_and_sites_are_compared_as_numbers() -> None:
    labels = ["h.10:2", "h.9:10", "h.9:9", "h.10:1b", "h.10:1"]
    units = UnitSpace(tuple(Unit(label, label.split(":")[0], 0) for label in labels))
    assert units.sites == ("h.9", "h.10")
    assert units.names(units.canonical) == ["h.9:9", "h.9:10", "h.10:1", "h.10:1b", "h.10:2"]


@given(unit_spaces())
def test_a_group_is_allowed_if_no_site_has_more_units_than_its_limit(units: UnitSpace) -> None:
    for group in itertools.combinations(range(len(units)), 2):
        one, other = (units.units[unit].site for unit in group)
        assert units.allows(group) == (one != other or one not in units.at_most)
    assert units.allows(())


def test_reordered_units_keep_the_limits_of_their_sites() -> None:
    units = UnitSpace(UnitSpace.heads([2, 2]).units, {"L0.attn": 1, "L1.attn": 2})
    assert units.reordered([3, 2, 0]).at_most == units.at_most
    assert units.reordered([3, 2]).at_most == {"L1.attn": 2}
    assert not units.reordered([1, 0]).allows([0, 1])


def test_the_digest_of_units_depends_on_labels_sites_limits_and_order() -> None:
    heads = UnitSpace.heads([2, 2])
    others = [
        heads.reordered([1, 0, 2, 3]),
        UnitSpace.from_labels([*heads.labels[:3], "L1H7"]),
        UnitSpace(tuple(replace(unit, site=f"{unit.site}x") for unit in heads.units)),
        UnitSpace(tuple(replace(unit, depth=unit.depth + 1) for unit in heads.units)),
        UnitSpace(tuple(replace(unit, family="neuron") for unit in heads.units)),
        UnitSpace(heads.units, {"L0.attn": 1}),
    ]
    assert UnitSpace.heads([2, 2]).digest == heads.digest
    assert len({heads.digest, *(other.digest for other in others)}) == 7


def test_sites_are_listed_by_family() -> None:
    units = UnitSpace((Unit("n0", "L1.mlp", 1, "neuron"), Unit.head(1, 0), Unit.head(0, 0)))
    assert units.sites == ("L0.attn", "L1.attn", "L1.mlp")
    assert units.sites_by_family == {"head": (0, 1), "neuron": (2,)}


def test_named_units_are_found_in_order() -> None:
    assert UnitSpace.heads([4, 4]).find(["L1H2", " L0H3 ", "L0H0"]) == (0, 3, 6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["L2H0"], "'L2H0' is not a unit of this subject. Did you mean: L1H0?"),
        (["L0H1", "L0H1"], "named twice"),
        (["0.1"], "'0.1' is not a unit of this subject.\nIt has 8 units: L0H0 .. L1H3"),
        (["L1H33"], "'L1H33' is not a unit of this subject. Did you mean: L1H3?"),
    ],
)
def test_units_that_cannot_be_found_are_named(labels: list[str], message: str) -> None:
    with pytest.raises(HarnessError, match=re.escape(message)):
        UnitSpace.heads([4, 4]).find(labels)


@pytest.mark.parametrize(
    ("units", "at_most", "message"),
    [
        ([], {}, "at least one unit"),
        ([Unit.head(0, 1), Unit.head(0, 1)], {}, "names unit 'L0H1' twice"),
        ([Unit("a", "one", 0), Unit("a", "two", 0)], {}, "names unit 'a' twice"),
        ([Unit("a", "one", 0), Unit("c", "two", 0), Unit("b", "one", 1)], {}, "site 'one' differ in depth or family"),
        ([Unit("a", "one", 0), Unit("b", "one", 0, "neuron")], {}, "site 'one' differ in depth or family"),
        ([Unit("a", "one", 0)], {"two": 1}, "at_most names site 'two', which has no units"),
    ],
)
def test_units_that_contradict_each_other_are_refused(units: list[Unit], at_most: dict[str, int], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        UnitSpace(tuple(units), at_most)


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


def test_a_file_is_read_again_only_if_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, of_file = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(name) or of_file(file, name))
    path = tmp_path / "weights"
    path.write_text("one")
    just_written = [digest_files(path), digest_files(path)]
    assert len(read) == 2, "a file that may still change within a tick of its clock is read each time"
    monkeypatch.setattr("harness.util.digest.SETTLED", 0)
    time.sleep(0.02)  # longer than a tick of the file system's clock
    assert {digest_files(path), digest_files(path), *just_written} == {just_written[0]}
    assert len(read) == 3
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    time.sleep(0.02)
    assert digest_files(path) != just_written[0], "size and time of modification are the same"


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
    assert agreement.units == 4


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
