"""The survey: selectivity by brute force, the published baseline positions, ties, thresholds, streaming."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.data.batch import Batch
from harness.data.grouping import Labels
from harness.data.recording import Recording, Rows
from harness.data.tokens import Tokens
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.testing import examples
from harness.util.errors import HarnessError

pytestmark = pytest.mark.unchecked

# Facts on the published scripts: `RandomState(0).randint(1, 255)`.
LIST_1B = [
    173, 48, 118, 193, 68, 196, 104, 10, 212, 22, 243, 37, 88, 71, 217, 89, 141, 59, 194, 231, 40, 175, 82, 166, 26,
    78, 73, 149, 116, 209, 244, 198, 80, 176, 83, 100, 178, 30, 148, 143, 168, 33, 186, 128, 32, 203, 245, 152, 164,
    204,
]  # fmt: skip
LIST_124M = [
    173, 48, 118, 193, 68, 252, 196, 104, 10, 212, 22, 243, 37, 88, 71, 217, 89, 141, 59, 194, 231, 40, 88, 175, 89,
    82, 166, 26, 78, 73, 10, 149, 116, 209, 244, 198, 80, 176, 193, 83, 100, 217, 178, 244, 30, 148, 148, 143, 168, 33,
]  # fmt: skip
LIST_410M = [position for position in LIST_124M if position != 252]


def survey(**parameters: Any) -> Any:
    return registry().get("labels", "survey").build(parameters)


def one_query(n: int = 3, query: int = 255) -> Batch:
    """Examples that share a query; anchors as the synthetic batch has them."""
    first = np.arange(n)[:, None] + 20
    anchors = {
        "induction": first + 1,
        "previous-token": np.full((n, 1), query - 1),
        "duplicate-token": first,
        "first-token": np.zeros((n, 1), dtype=np.int64),
        "self": np.full((n, 1), query),
        "local": query - np.tile(np.arange(2, 6), (n, 1)),
    }
    zeros = np.zeros((n, query + 1), dtype=np.int64)
    return Tokens("one_query", zeros, np.full(n, query), np.zeros(n, dtype=np.int64), anchors, "successor")


def classify(plugin: Any, batch: Batch, attention: np.ndarray, at_once: int = 100) -> Labels:
    """Labels of one layer of heads whose attention rows [examples, heads, keys] are given."""
    readings = []
    for start in range(0, len(batch), at_once):
        chosen = np.arange(start, min(start + at_once, len(batch)))
        part = batch.take(chosen)
        width = int(part.query.max()) + 1  # a subject cuts its rows after the longest query
        readings.append(plugin.read(Rows("attention", "L0.attn", attention[chosen][:, :, :width], part, batch, chosen)))
    units = UnitSpace.heads([attention.shape[1]])
    labels: Labels = plugin(Recording(batch, units, {"labels": np.concatenate(readings)}))
    return labels


def random_rows(batch: Batch, heads: int = 5, seed: int = 0) -> np.ndarray:
    scores = np.exp(np.random.default_rng(seed).normal(0, 2, (len(batch), heads, batch.tokens.shape[1])))
    scores *= (np.arange(batch.tokens.shape[1]) <= batch.query[:, None])[:, None, :]
    return (scores / scores.sum(axis=2, keepdims=True)).astype(np.float32)


def expected_selectivity(batch: Batch, attention: np.ndarray, baseline: list[list[int]]) -> dict[str, list[float]]:
    """By the definition: a ratio of two means over the examples, head by head."""
    n, heads, _ = attention.shape
    ratios = {}
    for name in batch.anchors:
        ratios[name] = []
        for head in range(heads):
            on_target, on_baseline = 0.0, 0.0
            for e in range(n):
                places = batch.anchors[name][e]
                on_target += sum(float(attention[e, head, p]) for p in places) / len(places) / n
                on_baseline += sum(float(attention[e, head, p]) for p in baseline[e]) / len(baseline[e]) / n
            ratios[name].append(on_target / max(on_baseline, 1e-8))
    return ratios


def test_selectivity_is_the_mean_on_targets_over_the_mean_on_all_other_positions() -> None:
    batch = examples.batch()
    attention = random_rows(batch)
    others = [
        [p for p in range(q + 1) if all(p not in places[e] for places in batch.anchors.values())]
        for e, q in enumerate(batch.query.tolist())
    ]
    labels = classify(survey(), batch, attention)
    for name, ratios in expected_selectivity(batch, attention, others).items():
        assert labels.selectivity[name] == pytest.approx(ratios, rel=1e-5)


def test_selectivity_over_drawn_positions_is_that_of_the_paper() -> None:
    batch = one_query()
    attention = random_rows(batch)
    labels = classify(survey(baseline="drawn"), batch, attention)
    for name, ratios in expected_selectivity(batch, attention, [LIST_1B] * 3).items():
        assert labels.selectivity[name] == pytest.approx(ratios, rel=1e-5)


@pytest.mark.parametrize(
    ("parameters", "published"),
    [
        ({"unique": True, "avoid_last": 6}, LIST_1B),
        ({"unique": False, "avoid_last": 2}, LIST_124M),
        ({"unique": False, "avoid_last": 6}, LIST_410M),
    ],
)
def test_drawn_positions_are_the_published_lists(parameters: dict[str, Any], published: list[int]) -> None:
    """Attention on a single key raises the baseline only there, which recovers the list of positions."""
    batch = one_query(n=1)
    plugin = survey(baseline="drawn", **parameters)
    on_each_key = np.eye(256, dtype=np.float32)[None, :, :]  # head k attends to key k alone
    baseline = plugin.read(Rows("attention", "L0.attn", on_each_key, batch, batch, np.arange(1)))[0, :, -1]
    counts = np.bincount(published, minlength=256)
    np.testing.assert_allclose(baseline, counts / len(published), atol=1e-12)


def test_positions_drawn_per_example_avoid_its_targets_and_follow_the_published_order() -> None:
    batch = examples.batch()
    plugin = survey(baseline="drawn")
    rng = np.random.RandomState(0)
    expected = []
    for e, q in enumerate(batch.query.tolist()):
        targets = {int(p) for places in batch.anchors.values() for p in places[e]}
        drawn: list[int] = []
        tries = 0
        while len(drawn) < 50 and tries < 200:
            tries += 1
            position = rng.randint(1, q)
            if position not in targets and position not in drawn:
                drawn.append(position)
        expected.append(drawn + [drawn[-1]] * (50 - len(drawn)))
    attention = random_rows(batch)
    labels = classify(plugin, batch, attention)
    for name, ratios in expected_selectivity(batch, attention, expected).items():
        assert labels.selectivity[name] == pytest.approx(ratios, rel=1e-5)


@pytest.mark.parametrize("batch", [examples.batch(7), one_query(7)], ids=["ragged", "one query"])
@pytest.mark.parametrize("baseline", ["others", "drawn"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_streaming_in_parts_does_not_change_the_result(batch: Batch, baseline: str, at_once: int) -> None:
    attention = random_rows(batch)
    whole = classify(survey(baseline=baseline), batch, attention)
    parts = classify(survey(baseline=baseline), batch, attention, at_once)
    assert whole.classes == parts.classes
    for name in batch.anchors:
        np.testing.assert_array_equal(whole.selectivity[name], parts.selectivity[name])


def test_a_heads_attention_on_any_target_never_raises_the_baseline_of_others() -> None:
    batch = examples.batch()
    plain = random_rows(batch)
    louder = plain.copy()
    for places in batch.anchors.values():
        for e, positions in enumerate(places):
            louder[e][:, positions] *= 50
    before, after = classify(survey(), batch, plain), classify(survey(), batch, louder)
    for name in batch.anchors:  # every target is 50 times louder, the baseline is what it was
        assert after.selectivity[name] == pytest.approx(50 * before.selectivity[name], rel=1e-5)


def planted(batch: Batch, shares: dict[str, float]) -> np.ndarray:
    """One head with these shares of attention on the positions of these classes, the rest evenly elsewhere."""
    attention = np.zeros((len(batch), 1, batch.tokens.shape[1]), dtype=np.float32)
    for e, q in enumerate(batch.query.tolist()):
        taken = {int(p) for places in batch.anchors.values() for p in places[e]}
        free = [p for p in range(q + 1) if p not in taken]
        attention[e, 0, free] = 1 / 1024
        for name, times in shares.items():
            attention[e, 0, batch.anchors[name][e]] = times / 1024
    return attention


@pytest.mark.parametrize("name", tuple(examples.batch(1).anchors))
def test_a_head_has_the_class_it_attends_to(name: str) -> None:
    assert classify(survey(), examples.batch(), planted(examples.batch(), {name: 32})).classes == (name,)


def test_a_class_needs_a_selectivity_of_at_least_the_threshold() -> None:
    batch = examples.batch()
    attention = planted(batch, {"self": 32})  # exactly 32 times the baseline, in powers of two
    assert classify(survey(threshold=32), batch, attention).classes == ("self",)
    assert classify(survey(threshold=32.001), batch, attention).classes == ("unclassified",)


@pytest.mark.parametrize(
    ("equal", "winner"),
    [
        (("induction", "previous-token"), "induction"),
        (("duplicate-token", "previous-token"), "previous-token"),
        (("self", "first-token", "local"), "first-token"),
        (("local", "self"), "self"),
    ],
)
def test_ties_go_to_the_first_class(equal: tuple[str, ...], winner: str) -> None:
    attention = planted(examples.batch(), dict.fromkeys(equal, 64.0))
    assert classify(survey(), examples.batch(), attention).classes == (winner,)


def test_a_class_without_an_anchor_is_never_found() -> None:
    whole = examples.batch()
    anchors = {name: places for name, places in whole.anchors.items() if name != "self"}
    batch = Tokens("without", whole.tokens, whole.query, whole.target, anchors, "successor")
    labels = classify(survey(), batch, planted(whole, {"self": 900, "local": 40}))
    assert "self" not in labels.classes
    assert set(labels.selectivity) == set(anchors)


def test_readings_do_not_depend_on_the_order_of_anchors_and_ties_do() -> None:
    """The digest of a batch ignores that order, so readings are shared between batches that differ in it."""
    whole = examples.batch()
    turned = replace(whole, anchors=dict(reversed(whole.anchors.items())))
    rows = planted(whole, {"self": 900, "first-token": 900})
    every = np.arange(len(whole))
    first, second = (survey().read(Rows("attention", "L0.attn", rows, b, b, every)) for b in (whole, turned))
    assert turned.digest == whole.digest
    np.testing.assert_array_equal(first, second)
    for batch, winner in ((whole, "first-token"), (turned, "self")):
        labels = classify(survey(), batch, rows)
        np.testing.assert_array_equal(labels.selectivity["self"], classify(survey(), whole, rows).selectivity["self"])
        assert set(labels.classes) == {winner}


def test_a_batch_without_anchors_is_refused() -> None:
    whole = examples.batch()
    batch = Tokens("bare", whole.tokens, whole.query, whole.target, {}, "successor")
    with pytest.raises(HarnessError, match="has no anchors"):
        classify(survey(), batch, random_rows(batch))


def test_an_empty_baseline_is_clamped_as_published() -> None:
    batch = examples.batch()
    attention = np.zeros((len(batch), 1, batch.tokens.shape[1]), dtype=np.float32)
    attention[np.arange(len(batch)), 0, batch.query] = 1.0
    assert classify(survey(), batch, attention).selectivity["self"] == pytest.approx([1e8])


@pytest.mark.parametrize("query", [0, 1, 5])
@pytest.mark.parametrize("parameters", [{}, {"unique": False}, {"avoid_last": 40}])
def test_a_query_too_early_for_a_drawn_baseline_is_named(query: int, parameters: dict[str, Any]) -> None:
    """Positions 1 .. query - 1 without the last six: nothing remains."""
    zeros = np.zeros((2, 8), dtype=np.int64)
    anchors = {"first-token": np.zeros((2, 1), dtype=np.int64)}
    batch = Tokens("early", zeros, np.full(2, query), np.zeros(2, dtype=np.int64), anchors, "successor")
    with pytest.raises(HarnessError, match="no position left"):
        classify(survey(baseline="drawn", **parameters), batch, random_rows(batch))


def test_a_draw_of_more_positions_than_exist_takes_each_once() -> None:
    batch = one_query(n=1, query=30)
    plugin = survey(baseline="drawn", positions=500, avoid_last=0)
    on_each_key = np.eye(31, dtype=np.float32)[None, :, :]
    baseline = plugin.read(Rows("attention", "L0.attn", on_each_key, batch, batch, np.arange(1)))[0, :, -1]
    np.testing.assert_allclose(baseline, [0, *[1 / 29] * 29, 0])


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"positions": 0}, {"avoid_last": -1}, {"baseline": "mean"}])
def test_invalid_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"labels.{next(iter(wrong))}="):
        survey(**wrong)
