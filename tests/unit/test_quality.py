"""The quality of groups before any ablation: figures against small cases that are computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from harness.data.batch import Vocabulary
from harness.data.contents import contents_of
from harness.data.grouping import Affinity
from harness.data.tokens import Tokens
from harness.data.units import Unit, UnitSpace
from harness.data.vectors import Vectors
from harness.proposal.quality import (
    TOP,
    agreement,
    composition,
    correlations,
    cosine,
    groups_of,
    inputs_of_group,
    links_inside,
    modules,
    most_activating,
    profiles,
    quality_of,
    standardised,
)
from harness.util.seeds import rng_for

Sites = tuple[str, ...]


def units_at(*sites: str) -> UnitSpace:
    depths = {site: depth for depth, site in enumerate(dict.fromkeys(sites))}
    return UnitSpace(tuple(Unit(f"u{i}", site, depths[site], "unit") for i, site in enumerate(sites)))


def vectors(inputs: np.ndarray) -> Vectors:
    return Vectors("some", inputs, np.zeros(inputs.shape), "outputs")


def test_two_groups_of_known_correlation() -> None:
    """Orthogonal signals a, b: units a, a + b have the correlation 1 / sqrt(2); b and a + b as well, b and a 0."""
    a, b = np.array([1.0, -1, 1, -1]), np.array([1.0, 1, -1, -1])
    values = np.stack([a, a + b, b, -b], axis=1)
    found = correlations(np.array([0, 0, 1, 1]), values)
    assert found["within_correlation"] == pytest.approx((np.sqrt(0.5) - 1) / 2)
    assert found["between_correlation"] == pytest.approx((0 + 0 + np.sqrt(0.5) - np.sqrt(0.5)) / 4)


def test_correlations_are_those_of_the_matrix_and_leave_out_constant_and_ungrouped_units() -> None:
    values = rng_for(0, "test").random((60, 7))
    values[:, 5] = 0.3
    labels = np.array([0, 1, 0, 1, -1, 0, 1])
    used = [0, 1, 2, 3, 6]
    rho = np.corrcoef(values[:, used].T)
    same = labels[used][:, None] == labels[used]
    upper = np.triu(np.ones_like(same), 1)
    found = correlations(labels, values)
    assert found["within_correlation"] == pytest.approx(rho[same & upper].mean())
    assert found["between_correlation"] == pytest.approx(rho[~same & upper].mean())
    columns = standardised(values)
    assert_allclose((columns.T @ columns)[:4, :4], np.corrcoef(values[:, :4].T))
    assert not columns[:, 5].any()
    assert correlations(np.array([0, 1, 2, 3, 4, 5, 6]), values).keys() == {"between_correlation"}
    assert correlations(np.full(7, -1), values) == {}


def test_the_share_of_links_inside_groups() -> None:
    """Links 0-1, 1-2, 2-3 and 3-4; the groups are {0, 1}, {2, 3}, and 4 is in none: two of four are inside."""
    matrix = np.diag(np.ones(4), 1) + np.diag(np.ones(4), -1)
    affinity = Affinity(matrix, units_at(*"abcde"))
    assert links_inside(np.array([0, 0, 1, 1, -1]), affinity) == 0.5
    assert links_inside(np.full(5, -1), affinity) == 0
    assert links_inside(np.zeros(5, dtype=int), Affinity(np.zeros((5, 5)), affinity.units)) is None


def test_agreement_is_the_overlap_of_the_sets_of_most_activating_examples() -> None:
    """Of 30 examples, units 0 and 1 have the ten highest at 0..9 and 5..14: they share 5 of 15. Unit 2 is constant."""
    values = np.zeros((30, 3))
    values[0:10, 0], values[5:15, 1] = np.arange(1, 11), np.arange(1, 11)
    top = most_activating(values)
    assert [np.flatnonzero(column).tolist() for column in top.toarray().T] == [[*range(10)], [*range(5, 15)], []]
    assert agreement(top, np.array([0, 1])) == pytest.approx(1 / 3)
    assert agreement(top, np.array([0, 1, 2])) == pytest.approx(1 / 3)
    assert agreement(top, np.array([0, 2])) is None


def test_examples_that_tie_are_all_counted() -> None:
    """Importances saturate: with 12 examples at 1, all of them are the most activating, in any order of examples."""
    values = np.zeros((40, 2))
    values[:12, 0] = 1
    values[6:18, 1] = 1
    assert TOP < 12
    top = most_activating(values)
    assert top.sum(axis=0).tolist() == [12, 12]
    order = rng_for(1, "test").permutation(40)
    assert agreement(most_activating(values[order]), np.array([0, 1])) == agreement(top, np.array([0, 1])) == 6 / 18


def test_the_cosine_is_that_of_the_mean_inputs() -> None:
    """Two examples activate each unit: inputs e0 and e0 + e1 the first, e1 and e0 + e1 the second: 4 / 5."""
    inputs = np.array([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    values = np.array([[1.0, 0], [1, 1], [0, 1], [0, 0], [0, 0], [0, 0]])
    contents = contents_of(vectors(inputs), None)
    assert contents is not None
    rows = profiles(most_activating(values), contents)
    assert cosine(rows) == pytest.approx(4 / 5)
    assert cosine(rows[[0]]) is None


@pytest.mark.parametrize(
    ("sites", "layers", "kinds"),
    [
        (("layers.0.in", "layers.1.in", "layers.1.out"), [0, 1, 1], ["layers.in", "layers.in", "layers.out"]),
        (("model.layers.3.self_attn.q_proj",), [3], ["model.layers.self_attn.q_proj"]),
        (("L0.attn", "L12.mlp"), [0, 12], ["attn", "mlp"]),
        (("linear1", "hidden.0", "linear2"), [0, 1, 2], ["linear1", "hidden", "linear2"]),
    ],
)  # fmt: skip
def test_the_layer_and_the_kind_of_a_module(sites: Sites, layers: list[int], kinds: list[str]) -> None:
    assert modules(sites, range(len(sites))) == (layers, kinds)


def test_composition_counts_groups_of_one_kind_and_the_layers_they_span() -> None:
    units = units_at("layers.0.in", "layers.1.in", "layers.0.in", "layers.0.out", "layers.2.out", "layers.1.in")
    groups = [np.array([0, 1]), np.array([2, 3, 4]), np.array([5])]
    found = composition(groups, units)
    assert found == {"one_site": 0, "one_kind": 0.5, "sites": 2.5, "layers": {"2": 2}}
    assert composition(groups[2:], units) == {}


def test_the_inputs_of_a_group_are_the_features_with_the_highest_mean_activity() -> None:
    inputs = np.array([[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    values = np.array([[1.0, 0.8], [0.6, 0.8], [0.2, 0.2], [0.1, 0.1], [0, 0], [1, 1]])
    contents = contents_of(vectors(inputs), None)
    assert contents is not None
    named = inputs_of_group(values, np.array([0, 1]), contents)
    assert [(name, n) for name, _, n in named] == [("x0", 2), ("x1", 2)]  # x3: one example; x2: too weak
    assert_allclose([mean for _, mean, _ in named], [0.8, 0.45])


def test_the_content_of_a_sequence_is_the_token_at_the_query() -> None:
    tokens = np.array([[5, 6, 7], [5, 7, 6], [6, 6, 6]])
    batch = Tokens("some", tokens, np.array([2, 1, 0]), np.array([0, 0, 0]), {}, "next_token")
    plain = contents_of(batch, Vocabulary(10, 3))
    named = contents_of(batch, Vocabulary(10, 3, decode=lambda ids: "".join(chr(97 + i) for i in ids)))
    assert plain is not None
    assert named is not None
    assert plain.values.toarray().tolist() == [[0, 1], [0, 1], [1, 0]]
    assert [(plain.name(kind), named.name(kind)) for kind in (0, 1)] == [("6", "g"), ("7", "h")]
    assert contents_of(vectors(np.ones((3, 3))), None) is None, "dense vectors have no features that are absent"


def test_the_table_of_a_perfect_partition() -> None:
    """Four features, each with an encoder and a decoder unit that are 1 where it is present; one unit is alone."""
    inputs = np.eye(4)[rng_for(0, "test").integers(4, size=80)]
    values = np.concatenate([inputs, inputs[:, ::-1], np.zeros((80, 1))], axis=1)
    units = units_at(*["linear1"] * 4, *["linear2"] * 5)
    labels = np.array([0, 1, 2, 3, 3, 2, 1, 0, -1])
    pairs = np.equal.outer(labels, labels) & ~np.eye(9, dtype=bool)
    affinity = Affinity(pairs.astype(float), units)
    found = quality_of(labels, values, units, affinity, contents_of(vectors(inputs), None), described=3)
    assert (found["n_groups"], found["alone"], found["sizes"]) == (4, 1, {"2": 4})
    assert [found[name] for name in ("links_inside", "agreement", "cosine", "one_kind")] == [1, 1, 1, 0]
    assert found["within_correlation"] == pytest.approx(1)
    assert found["layers"] == {"2": 4}
    assert len(found["groups"]) == 3
    first = found["groups"][0]
    assert (first["units"], first["inputs"]) == (["u0", "u7"], [["x0", 1.0, int(inputs[:, 0].sum())]])


def test_groups_are_in_order_of_size() -> None:
    assert [group.tolist() for group in groups_of(np.array([1, 0, 1, -1, 0, 0]))] == [[1, 4, 5], [0, 2]]
    assert groups_of(np.array([-1, -1])) == []


def test_units_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, labels = rng_for(2, "test").random((50, 7)), np.array([0, 1, 0, 1, -1, 0, 1])
    whole, top = correlations(labels, values), most_activating(values).toarray()
    monkeypatch.setattr("harness.proposal.quality.BLOCK", 3)
    assert correlations(labels, values) == pytest.approx(whole)
    assert_allclose(most_activating(values).toarray(), top)
