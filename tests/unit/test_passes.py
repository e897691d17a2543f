"""The distribution of examples and conditions over passes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.batching import condition_chunks, micro_batches
from harness.engine.budget import Budget, Load
from harness.engine.schedule import load_of
from harness.testing import examples


@st.composite
def loads(draw: st.DrawFn) -> Load:
    most = draw(st.integers(1, 40))
    return Load(draw(st.floats(1, most)), most)


@given(loads(), st.integers(1, 4000), st.integers(1, 200), st.integers(1, 30))
def test_every_example_is_in_one_pass_that_fits_and_pads_little(
    load: Load, positions: int, memory: int, n: int
) -> None:
    batch = examples.batch(n)
    budget = Budget(memory * 1000, per_position=10, per_row=100, positions=positions)
    parts = list(micro_batches(batch, load, budget))
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for part in parts:
        lengths = batch.query[part] + 1
        longest = int(lengths.max())
        if len(part) > 1:
            assert len(part) * load.most * (longest * 10 + 100) <= memory * 1000
            assert len(part) * load.mean * longest <= positions * (1 + 1e-9)
            assert len(part) * longest <= 1.125 * lengths.sum()


@given(loads(), st.integers(1, 4000), st.integers(1, 200), st.integers(1, 6), st.integers(0, 70))
def test_conditions_are_distributed_evenly_over_passes_that_fit(
    load: Load, positions: int, memory: int, together: int, n: int
) -> None:
    budget = Budget(memory * 1000, per_position=10, per_row=100, positions=positions)
    each = budget.conditions(n, together, 40, load)
    chunks = list(condition_chunks(list(range(n)), each))
    assert [condition for chunk in chunks for condition in chunk] == list(range(n))
    assert each == 1 or (1 + each) * together * (40 * 10 + 100) <= memory * 1000
    parts = max(1, together * load.mean * 40 / positions)
    assert each == 1 or each <= n / parts + 1  # as many as take the time of a pass


@pytest.mark.parametrize(
    ("blocks", "mean", "most"),
    [
        ([1, 1, 1, 1, 44], 1.0, 44),  # what parts in the last layer does so at the query alone
        ([1, 34, 61, 65, 65], (34 + 61 + 65 + 65) / 4, 65),
        ([1, 5], 1.0, 5),
        ([7, 7, 7], 7.0, 7),  # without a trunk
    ],
)
def test_a_pass_takes_the_time_of_its_rows_on_average(blocks: list[int], mean: float, most: int) -> None:
    assert load_of(blocks) == Load(mean, most)
