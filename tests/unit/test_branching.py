"""Sharing between conditions: bookkeeping, savings, and equality of the results with and without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from harness.closure.cases import cases_of
from harness.closure.report import ClosureReport, close
from harness.closure.trial import Trial
from harness.data.batch import Batch
from harness.engine.batching import micro_batches
from harness.engine.budget import Load
from harness.engine.schedule import Schedule
from harness.engine.sharing import NOTHING, Shared
from harness.engine.subject import HeadSubject
from harness.registry.config import registry

pytestmark = pytest.mark.unchecked

LAYERS = np.repeat(np.arange(4), 3)  # four layers of three units
Conditions = list[tuple[int, ...]]
groups = st.lists(st.integers(0, len(LAYERS) - 1), unique=True, max_size=5).map(tuple)


def built(stage: str, name: str, **parameters: Any) -> Any:
    return registry().get(stage, name).build(parameters)


def replayed(schedule: Schedule) -> list[list[set[int]]]:
    """The ablated units of every block of rows after each layer."""
    blocks: list[set[int]] = [set() for _ in range(schedule.entering)]
    found = []
    for layer, ablated in sorted(schedule.ablated.items()):
        blocks += [set(blocks[parent]) for parent in schedule.copies.get(layer, [])]
        for block, units in zip(blocks, ablated or [()] * len(blocks), strict=True):
            assert all(LAYERS[unit] == layer for unit in units)
            block |= set(units)
        found.append([set(block) for block in blocks])
    return found


@given(st.lists(groups, max_size=8), st.booleans())
def test_every_condition_ablates_exactly_its_own_units(conditions: Conditions, trunk: bool) -> None:
    schedule = Schedule.of([(), *conditions], LAYERS, trunk)
    last = replayed(schedule)[-1]
    assert [last[place] for place in schedule.places] == [set(), *map(set, conditions)]
    assert last[0] == set()
    assert len(last) == len({frozenset(condition) for condition in [(), *conditions]})


@given(st.lists(groups, max_size=8))
def test_conditions_share_one_block_until_they_differ(conditions: Conditions) -> None:
    """Each layer has as many blocks as there are different prefixes, including the baseline model."""
    after = replayed(Schedule.of([(), *conditions], LAYERS, trunk=True))
    for layer, blocks in enumerate(after):
        beginnings = {frozenset(u for u in group if LAYERS[u] <= layer) for group in [(), *conditions]}
        assert len(blocks) == len(beginnings)
        assert {frozenset(block) for block in blocks} == beginnings


@given(st.lists(groups, max_size=8), st.booleans())
def test_the_counted_blocks_are_the_computed_ones(conditions: Conditions, trunk: bool) -> None:
    schedule = Schedule.of([(), *conditions], LAYERS, trunk)
    assert schedule.blocks == [schedule.entering, *map(len, replayed(schedule))]


def operations(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@pytest.fixture
def llama(architectures: Any) -> HeadSubject:
    return HeadSubject(architectures["llama_gqa"].build(), "llama")


def sizes(subject: HeadSubject) -> tuple[int, int, int, int]:
    """Hidden and inner width, heads x width, vocabulary."""
    config = subject.model.config
    return config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim, config.vocab_size


def cost_of(subject: HeadSubject, batch: Batch, conditions: Conditions, **intervention: Any) -> int:
    zero, metric = built("intervention", "zero", **intervention), built("metric", "loss")
    return operations(lambda: subject.evaluate(batch, conditions, zero, [metric]))


def test_in_the_last_layer_a_condition_costs_what_follows_attention_at_one_position(
    llama: HeadSubject, ragged_batch: Batch
) -> None:
    n, last = len(ragged_batch), len(llama.units) - 1
    d, inner, heads, vocabulary = sizes(llama)
    shared = llama.model.config.num_key_value_heads * llama.model.config.head_dim
    # The block is run once more at the query: projections in and out, gated MLP; and the unembedding.
    one = 2 * (2 * heads * d + 2 * shared * d + 3 * d * inner + d * vocabulary)
    found = [cost_of(llama, ragged_batch, [(), *((last - i,) for i in range(many))]) for many in range(4)]
    assert np.diff(found).tolist() == [n * one] * 3


def test_at_the_query_alone_a_condition_costs_one_token(llama: HeadSubject, ragged_batch: Batch) -> None:
    config = llama.model.config
    d, inner, heads, vocabulary = sizes(llama)
    shared = config.num_key_value_heads * config.head_dim
    of_each = 0
    for chosen in micro_batches(ragged_batch, Load.throughout(config.num_hidden_layers), llama.budget):
        keys = ragged_batch.query[chosen].max() + 1
        layer = 2 * (2 * heads * d + 2 * shared * d + 3 * d * inner) + 4 * heads * keys
        of_each += len(chosen) * (config.num_hidden_layers * layer + 2 * d * vocabulary)
    one, two = (cost_of(llama, ragged_batch, [(), *((i,) for i in range(many))], positions="query") for many in (1, 2))
    assert two - one == of_each


def test_similar_conditions_share_more_computation(llama: HeadSubject, ragged_batch: Batch) -> None:
    """Groups with a common prefix cost less than groups without one, and both less than separate passes."""
    alike: Conditions = [(0, 1, last) for last in (12, 13, 14, 15)]
    apart: Conditions = [(first, 8, last) for first, last in zip((0, 1, 2, 3), (12, 13, 14, 15), strict=True)]
    alone = HeadSubject(llama.model, "alone", share=NOTHING)
    assert (
        cost_of(llama, ragged_batch, alike) < cost_of(llama, ragged_batch, apart) < cost_of(alone, ragged_batch, apart)
    )


def reported(subject: HeadSubject, batch: Batch) -> tuple[ClosureReport, ...]:
    trial = Trial(
        subject.units,
        subject.evaluate,
        batch,
        built("intervention", "zero"),
        built("controls", "uniform", n=19),
        [built("metric", name) for name in ("target_logit", "accuracy", "loss")],
    )
    return tuple(tested.report for tested in close(cases_of([(0, 3), (1, 4, 6)], trial), trial, lambda _: None))


def test_a_report_is_the_same_with_and_without_sharing(architecture: Any, ragged_batch: Batch) -> None:
    model = architecture.build()
    shared, apart = (reported(HeadSubject(model, "mini", share=share), ragged_batch) for share in (Shared(), NOTHING))
    for one, other in zip(shared, apart, strict=True):
        assert (one.units, one.verdict, one.n_controls) == (other.units, other.verdict, other.n_controls)
        assert one.dispensable == other.dispensable
        for name, effect in one.effects.items():
            same = other.effects[name]
            np.testing.assert_allclose(effect.controls, same.controls, atol=2e-6)
            assert effect.delta == pytest.approx(same.delta, abs=2e-6)
            assert effect.changed == same.changed
            interval = pytest.approx(same.interval, abs=1e-5) if same.interval else None
            assert effect.interval == interval  # a bootstrap-t divides by standard errors
            assert effect.p == same.p
