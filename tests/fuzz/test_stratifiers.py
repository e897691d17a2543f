"""Stratifiers with generated parameters: strata that keep their promises, or a sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from harness import HarnessError, Recording, Strata, method
from harness.testing import examples
from tests.fuzz.generated import generated

PARAMETERS = st.one_of(
    st.fixed_dictionaries({"name": st.just("routes"), "code": st.sampled_from(["probability", "top1"])}),
    st.fixed_dictionaries({"name": st.sampled_from(["kmeans", "random"])}),
)


@generated(PARAMETERS, st.integers(2, 20), st.integers(2, 60), st.integers(0, 5), st.integers(1, 60))
def test_strata_are_large_enough_and_judge_every_example_by_itself(
    parameters: dict[str, Any], k: int, smallest: int, seed: int, n: int
) -> None:
    stratifier = method("stratifier", k=k, smallest=smallest, seed=seed, **parameters)
    if stratifier.name == "random":
        recording = Recording(examples.batch(n), examples.UNITS, {})
    else:
        recording = examples.read(stratifier, "stratifier", n=n)
    try:
        strata = stratifier(recording)
    except HarnessError:
        assert n < k * smallest  # with more examples than that, one stratum is large enough
        return
    assert isinstance(strata, Strata)
    of_example = strata.of(recording)
    sizes = np.bincount(of_example[of_example >= 0], minlength=len(strata.names))
    assert len(strata.names) <= k
    assert (sizes >= smallest).all()
    reverse = np.arange(n)[::-1]
    readings = {name: values[reverse] for name, values in recording.readings.items()}
    assert (strata.of(Recording(recording.batch.take(reverse), recording.units, readings)) == of_example[::-1]).all()
