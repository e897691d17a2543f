"""Checks of stratifiers: strata of the examples, from their own recording where they read the model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from harness.data.contracts import reads
from harness.data.recording import Recording
from harness.data.strata import Strata
from harness.testing import examples
from harness.testing.checks import Check, contents, require, usual_checks

N = 120


def _recording(plugin: Any, at_once: int = 100) -> Recording:
    """A recording of examples that have every property a batch may have."""
    readings = examples.read(plugin, "stratifier", at_once, N).readings if reads(plugin) else {}
    batch = dataclasses.replace(examples.batch(N), groups={"domain": np.array(["prose", "code", "lists"])[_third()]})
    return Recording(batch, examples.UNITS, readings)


def _third() -> np.ndarray:
    return np.arange(N) % 3


def _given(plugin: Any) -> dict[str, Any]:
    return examples.given(plugin, recording=_recording(plugin))


def _judge(plugin: Any, strata: Any) -> None:
    require(isinstance(strata, Strata), f"it returns {type(strata).__name__}, not Strata")
    of_example = strata.of(_recording(plugin))
    require((of_example >= 0).any(), "no example is in a stratum: leave out strata that are too small, not all of them")
    require(
        set(range(len(strata.names))) <= set(of_example.tolist()), "a stratum has none of the examples it is fitted on"
    )


def gives_the_same_strata_twice(plugin: Any) -> None:
    """Two calls on the same recording give the same strata, whatever the global random state."""
    found = []
    for seed in (1, 2):
        np.random.seed(seed)  # the global state is what is tested
        strata = plugin(**_given(plugin))
        found.append((strata.names, strata.of(_recording(plugin)).tolist()))
    require(found[0] == found[1], "two calls differ: use rng_for(self.seed, ...) for random numbers")


def does_not_change_its_input(plugin: Any) -> None:
    """The call does not change the recording, which other stages and cells share."""
    given = _given(plugin)
    before = contents(given)
    plugin(**given)
    require(contents(given) == before, "the call changed its input, which other stages and cells share: copy it first")


def judges_every_example_by_itself(plugin: Any) -> None:
    """The stratum of an example does not depend on the other examples, nor on micro-batches."""
    strata, whole = plugin(**_given(plugin)), _recording(plugin)
    of_whole = strata.of(whole)
    some = np.arange(0, N, 5)
    part = Recording(whole.batch.take(some), whole.units, {name: r[some] for name, r in whole.readings.items()})
    require(np.array_equal(strata.of(part), of_whole[some]), "the stratum of an example depends on the other examples")
    in_parts = strata.of(_recording(plugin, at_once=7))
    require(
        np.array_equal(in_parts, of_whole), "strata depend on micro-batches: treat each example by itself in `read`"
    )


STRATIFIER: tuple[Check, ...] = (
    usual_checks(_given, _judge)[0],
    gives_the_same_strata_twice,
    does_not_change_its_input,
    judges_every_example_by_itself,
)
