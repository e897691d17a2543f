"""Strata: disjoint sets of examples, by a rule that applies to any recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from harness.data.recording import Recording
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Strata:
    """The names of the strata, and the rule that gives every example of a recording its stratum.

    ``rule`` returns one index per example [examples]: that of its stratum in ``names``, or -1 for none.
    """

    names: tuple[str, ...]
    rule: Callable[[Recording], Int[np.ndarray, " examples"]]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise HarnessError(f"strata need names that differ, not {self.names}.", "Name every stratum once.")

    def of(self, recording: Recording) -> Int[np.ndarray, " examples"]:
        """The stratum of every example. Errors: a rule that returns something else."""
        strata = np.asarray(self.rule(recording))
        fits = strata.shape == (len(recording.batch),) and strata.dtype.kind in "iu"
        if not fits or strata.min() < -1 or strata.max() >= len(self.names):
            raise HarnessError(
                f"a rule of strata returned {strata.dtype} {strata.shape} with values up to {strata.max(initial=0)}.",
                f"It has to return one index from -1 to {len(self.names) - 1} for each of {len(recording.batch)} "
                "examples.",
            )
        return strata
