"""Signals against closed forms and the numbers of the survey; attribution against ablation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import entropy, spearmanr

from harness.data.batch import Batch
from harness.data.contracts import Intervention
from harness.data.recording import SOURCES, Activity, Recording, Rows
from harness.data.tokens import Tokens
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.testing import examples
from harness.util.errors import HarnessError

NEW = (
    "attention_entropy",
    "attribution",
    "effective_keys",
    "output_norm",
    "participation_ratio",
    "router_probability",
    "target_selectivity",
)


def signal(name: str, **parameters: Any) -> Any:
    return registry().get("signal", name).build(parameters)


def activity_of(plugin: Any, values: np.ndarray, batch: Batch | None = None, at_once: int = 100) -> Activity:
    """Activity of one layer of units from the rows [examples, units, ...] of the source that the signal reads."""
    whole = examples.batch(len(values)) if batch is None else batch
    parts = []
    for start in range(0, len(whole), at_once):
        chosen = np.arange(start, min(start + at_once, len(whole)))
        parts.append(plugin.read(Rows(plugin.source, "L0.attn", values[chosen], whole.take(chosen), whole, chosen)))
    activity: Activity = plugin(Recording(whole, UnitSpace.heads([values.shape[1]]), {"signal": np.concatenate(parts)}))
    return activity


def even_over(*counts: int, length: int = 48) -> np.ndarray:
    """One head per count, with uniform attention over that many keys."""
    rows = np.zeros((1, len(counts), length), dtype=np.float32)
    for head, n in enumerate(counts):
        rows[0, head, :n] = 1 / n
    return rows


def attention_rows() -> st.SearchStrategy[np.ndarray]:
    """Two examples, three heads, nine keys, some of them without attention."""
    scores = hnp.arrays(np.float64, (2, 3, 9), elements=st.sampled_from([0.0, 0.1, 1.0, 7.0]))
    return scores.map(lambda s: s + 1e-3 * (s.sum(axis=-1, keepdims=True) == 0)).map(
        lambda s: (s / s.sum(axis=-1, keepdims=True)).astype(np.float32)
    )


# -- attention at the query --------------------------------------------------------------------------------------------


def test_entropy_of_an_even_row_is_minus_the_logarithm_of_its_keys() -> None:
    values = activity_of(signal("attention_entropy"), even_over(1, 2, 7, 48)).values
    np.testing.assert_allclose(values, [[0, -np.log(2), -np.log(7), -np.log(48)]], atol=1e-6)


def test_the_effective_keys_of_an_even_row_are_its_number_of_keys() -> None:
    values = activity_of(signal("effective_keys"), even_over(1, 2, 7, 48)).values
    np.testing.assert_allclose(values, [[1, 2, 7, 48]], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(attention_rows())
def test_entropy_is_that_of_scipy_and_at_most_zero(rows: np.ndarray) -> None:
    values = activity_of(signal("attention_entropy"), rows).values
    np.testing.assert_allclose(values, -entropy(rows.astype(np.float64), axis=-1), atol=1e-5)
    assert (values <= 0).all()


@settings(max_examples=40, deadline=None)
@given(attention_rows())
def test_effective_keys_lie_between_one_and_the_exponential_of_the_entropy(rows: np.ndarray) -> None:
    """Hill numbers fall with their order: N2 <= N1."""
    keys = activity_of(signal("effective_keys"), rows).values
    assert (keys >= 1 - 1e-6).all()
    assert (keys <= np.exp(-activity_of(signal("attention_entropy"), rows).values) * (1 + 1e-5)).all()


# -- participation ratio -----------------------------------------------------------------------------------------------


def with_spectrum(shares: list[float], n: int, seed: int = 0) -> np.ndarray:
    """A head's outputs [n, 1, 6] whose squared singular values are in these proportions."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(n, len(shares))))[0]
    right = np.linalg.qr(rng.normal(size=(6, len(shares))))[0]
    return ((left * np.sqrt(shares)) @ right.T * 3.7)[:, None]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([1.0], 1.0),
        ([0.2] * 5, 5.0),
        ([1 / 6] * 6, 6.0),
        ([0.5, 0.25, 0.25], np.exp(1.5 * np.log(2))),
        ([0.9, 0.1], np.exp(-0.9 * np.log(0.9) - 0.1 * np.log(0.1))),
    ],
)
def test_participation_ratio_is_the_exponential_of_the_entropy_of_the_spectrum(
    shares: list[float], expected: float
) -> None:
    activity = activity_of(signal("participation_ratio"), with_spectrum(shares, 16))
    np.testing.assert_allclose(activity.scores.values, [expected], rtol=1e-9)


def test_participation_ratio_is_not_centred() -> None:
    """Equal outputs have one direction, and so do outputs that differ only in length."""
    same = np.tile([1.0, -2.0, 3.0], (20, 1))[:, None]
    longer = same * np.arange(1, 21)[:, None, None]
    for outputs in (same, longer):
        activity = activity_of(signal("participation_ratio"), outputs)
        np.testing.assert_allclose([*activity.scores.values, *activity.values[:, 0]], 1, rtol=1e-6)


def test_activity_is_the_participation_ratio_of_each_block_and_a_remainder_is_dropped() -> None:
    batch = examples.batch(23)
    blocks = [with_spectrum([1 / k] * k, 5, seed=k) for k in (1, 2, 5, 3)]
    left_over = np.full((3, 1, 6), 100.0)
    activity = activity_of(signal("participation_ratio", block=5), np.concatenate([*blocks, left_over]), batch)
    np.testing.assert_allclose(activity.values, [[1], [2], [5], [3]], rtol=1e-9)
    np.testing.assert_allclose(activity.position, [batch.query[5 * i : 5 * i + 5].mean() for i in range(4)])


@settings(max_examples=40, deadline=None)
@given(
    # Halves, quarters, ...: numbers that a power of two scales without rounding, as it does not the smallest there are.
    hnp.arrays(np.float32, (16, 2, 4), elements=st.integers(-4096, 4096).map(lambda i: i / 1024)),
    st.sampled_from([0.125, 64.0]),
)
def test_participation_ratio_ignores_scale_and_stays_within_its_bounds(outputs: np.ndarray, scale: float) -> None:
    activity, scaled = (
        activity_of(signal("participation_ratio", block=4), values) for values in (outputs, outputs * scale)
    )
    np.testing.assert_allclose(activity.values, scaled.values, rtol=1e-9)
    for values in (activity.values, activity.scores.values):
        assert (((values >= 1 - 1e-9) & (values <= 4 + 1e-9)) | (values == 0)).all()


def test_a_unit_with_zero_output_has_participation_ratio_zero() -> None:
    outputs = np.random.default_rng(0).normal(size=(32, 3, 4))
    outputs[:, 1] = 0
    outputs[8:16, 2] = 0
    activity = activity_of(signal("participation_ratio"), outputs)
    assert activity.scores.values[1] == 0
    assert activity.values[:, 1].tolist() == [0, 0, 0, 0]
    assert np.flatnonzero(activity.values[:, 2] == 0).tolist() == [1]
    assert activity.constant == (1,)


@pytest.mark.parametrize(("n", "fix"), [(15, "signal.block=7."), (4, "signal.block=2."), (3, "(batch.n=...).")])
def test_too_few_examples_for_two_blocks_are_refused_with_a_block_that_fits(n: int, fix: str) -> None:
    with pytest.raises(
        HarnessError, match=f"signal.block=8: the {n} examples proposed on do not fill two blocks"
    ) as caught:
        activity_of(signal("participation_ratio"), np.ones((n, 2, 3)))
    assert caught.value.fix.endswith(fix)


@pytest.mark.parametrize("block", [1, 0, -8])
def test_a_block_of_one_example_is_refused(block: int) -> None:
    with pytest.raises(HarnessError, match=f"signal.block={block}: must be at least 2. The default is 8."):
        signal("participation_ratio", block=block)


# -- selectivity for one class -----------------------------------------------------------------------------------------


def test_target_selectivity_is_the_mean_on_the_target_and_its_score_a_ratio_of_means() -> None:
    batch = examples.batch(4)
    rows = np.random.default_rng(0).random((4, 3, 48)).astype(np.float32)
    for name in batch.anchors:
        activity = activity_of(signal("target_selectivity", of=name), rows, batch)
        for unit in range(3):
            on_target, on_others = [], []
            for e, query in enumerate(batch.query.tolist()):
                targets = {int(p) for places in batch.anchors.values() for p in places[e]}
                on_target.append(np.mean([rows[e, unit, p] for p in batch.anchors[name][e]]))
                on_others.append(np.mean([rows[e, unit, p] for p in range(query + 1) if p not in targets]))
            np.testing.assert_allclose(activity.values[:, unit], on_target, rtol=1e-5)
            np.testing.assert_allclose(activity.scores.values[unit], np.mean(on_target) / np.mean(on_others), rtol=1e-5)


def test_a_head_that_attends_only_to_the_target_has_the_clamped_score() -> None:
    batch = examples.batch(3)
    rows = np.zeros((3, 1, 48), dtype=np.float32)
    rows[np.arange(3), 0, batch.query] = 1
    assert activity_of(signal("target_selectivity", of="self"), rows, batch).scores.values == pytest.approx([1e8])


def test_a_batch_without_the_class_is_refused_with_what_it_has() -> None:
    whole = examples.batch(3)
    some = {name: whole.anchors[name] for name in ("self", "local")}
    for anchors, has in ((some, "self, local"), ({}, "none")):
        batch = Tokens("bare", whole.tokens, whole.query, whole.target, anchors, "successor")
        with pytest.raises(HarnessError, match=r"signal\.of=induction: batch bare") as caught:
            activity_of(signal("target_selectivity"), np.ones((3, 2, 48), dtype=np.float32), batch)
        assert f"Its anchors: {has}." in caught.value.fix


def test_an_unknown_class_is_refused() -> None:
    rows = np.ones((3, 2, 48), dtype=np.float32)
    with pytest.raises(HarnessError, match=r"signal\.of=inductoin: batch contract has no anchors") as caught:
        activity_of(signal("target_selectivity", of="inductoin"), rows, examples.batch(3))
    assert "induction, previous-token" in caught.value.fix


# -- numbers that are handed on ----------------------------------------------------------------------------------------


def test_output_norm_is_the_norm_of_the_output() -> None:
    values = activity_of(signal("output_norm"), np.array([[[3.0, 0, 4], [0, 0, 0]], [[1, 2, 2], [0, -5, 12]]])).values
    np.testing.assert_allclose(values, [[5, 0], [3, 13]])


@pytest.mark.parametrize("name", ["attribution", "router_probability"])
def test_one_number_per_example_and_unit_is_used_as_activity_unchanged(name: str) -> None:
    plugin = signal(name)
    activity = plugin(examples.read(plugin, "signal"))
    for layer in range(3):
        seen = [
            rows
            for rows in examples.rows(plugin.source, examples.batch(), at_once=1000)
            if rows.site == f"L{layer}.attn"
        ]
        np.testing.assert_array_equal(activity.values[:, 8 * layer : 8 * layer + 8], seen[0].values[:, :, 0])


def test_probabilities_of_a_layers_experts_add_to_one() -> None:
    plugin = signal("router_probability")
    values = plugin(examples.read(plugin, "signal")).values
    np.testing.assert_allclose(values.reshape(len(values), 3, 8).sum(axis=2), 1, rtol=1e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_example_rows_exist_for_every_source(source: str) -> None:
    parts = list(examples.rows(source, examples.batch(5), at_once=2))
    sites = ["L0.attn", "L1.attn", "L2.attn"]
    assert [(rows.site, len(rows.values)) for rows in parts] == [(site, n) for n in (2, 2, 1) for site in sites]
    assert all(rows.values.shape[1] == 8 and rows.values.dtype == np.float32 for rows in parts)


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("at_once", [1, 5])
def test_the_parts_of_a_batch_do_not_change_the_result(name: str, at_once: int) -> None:
    plugin = signal(name)
    whole = examples.batch(20)
    values = next(examples.rows(plugin.source, whole, at_once=20)).values
    once, parts = activity_of(plugin, values, whole), activity_of(plugin, values, whole, at_once)
    np.testing.assert_allclose(once.values, parts.values, rtol=1e-12)
    np.testing.assert_allclose(once.scores.values, parts.scores.values, rtol=1e-12)


# -- on a model --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> Any:
    return registry().get("subject", "tiny").build({"device": "cpu"})()


@pytest.fixture(scope="module")
def batch(tiny: Any) -> Batch:
    induction: Batch = registry().get("batch", "synthetic_induction").build({"n": 12})(tiny.reads)
    return induction


def measured(tiny: Any, batch: Batch, plugin: Any) -> Activity:
    activity: Activity = plugin(tiny.record(batch, {"signal": plugin}))
    return activity


@pytest.mark.parametrize("name", tuple(examples.batch(1).anchors))
def test_scores_of_target_selectivity_are_the_selectivities_of_the_survey(tiny: Any, batch: Batch, name: str) -> None:
    survey = registry().get("labels", "survey").build({})
    surveyed = survey(tiny.record(batch, {"labels": survey}))
    activity = measured(tiny, batch, signal("target_selectivity", of=name))
    np.testing.assert_array_equal(activity.scores.values, surveyed.selectivity[name])


def test_output_norm_is_the_norm_of_the_head_recorded_by_a_hook(tiny: Any, batch: Batch) -> None:
    activity = measured(tiny, batch, signal("output_norm"))
    attention = tiny.model.model.layers[1].self_attn
    handed: list[torch.Tensor] = []
    handle = attention.o_proj.register_forward_pre_hook(lambda _, args: handed.append(args[0]))
    with torch.no_grad():
        tiny.model(torch.from_numpy(batch.tokens), use_cache=False)
    handle.remove()
    at_query = handed[0][torch.arange(len(batch)), torch.from_numpy(batch.query)].unflatten(-1, (8, -1))
    for head in range(8):
        width = at_query.shape[-1]
        weight = attention.o_proj.weight[:, head * width : head * width + width]
        expected = (at_query[:, head] @ weight.T).norm(dim=-1).detach().numpy()
        np.testing.assert_allclose(activity.values[:, 8 + head], expected, rtol=1e-4)


@dataclass(frozen=True)
class Scaled(Intervention):
    """An ablated head writes this share of its output."""

    by: float
    name: ClassVar[str] = "scaled"

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output * self.by


def drops(tiny: Any, batch: Batch, plus: float, minus: float) -> np.ndarray:
    """The difference of the target logit between two scales of each head [examples, units]."""
    metric = registry().get("metric", "target_logit").build({})
    alone = [(unit,) for unit in range(len(tiny.units))]
    up, down = (tiny.evaluate(batch, alone, Scaled(by), [metric])[0] for by in (plus, minus))
    return np.asarray((up - down).T)


def test_attribution_is_the_effect_of_a_small_ablation_on_the_target_logit(tiny: Any, batch: Batch) -> None:
    activity = measured(tiny, batch, signal("attribution")).values
    differences = drops(tiny, batch, 1.005, 0.995) / 0.01
    np.testing.assert_allclose(activity, differences, atol=1e-3 * np.abs(activity).max(), rtol=0.01)


def test_attribution_orders_heads_as_ablation_does(tiny: Any, batch: Batch) -> None:
    """First order is not the whole effect, but important heads must rank first: far from chance (p < .005)."""
    activity = measured(tiny, batch, signal("attribution")).scores.values
    ablated = drops(tiny, batch, 1.0, 0.0).mean(axis=0)
    assert spearmanr(activity, ablated).statistic > 0.5
    assert ablated[activity.argmax()] > np.quantile(ablated, 0.9)
