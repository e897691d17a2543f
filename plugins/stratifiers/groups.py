"""Strata that the batch carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Int

from harness import HarnessError, Recording, Strata, Stratifier, hookimpl

from ._strata import large_strata


@dataclass(frozen=True)
class Groups(Stratifier):
    r"""One stratum for each value of a property that the batch gives its examples (``Batch.groups``).

    .. math:: s(e) = \text{groups}[\texttt{by}]_e

    A value with fewer than ``smallest`` examples among those proposed on is no stratum. Examples of such a value, or of
    a value that does not occur there, are in no stratum.

    Input: the batch of the recording. Output: strata in the order of their names.

    Errors: a property that the batch does not have; no value with enough examples.
    Source: the usual split by domain or document.
    """

    name: ClassVar[str] = "groups"
    by: str = field(default="domain", metadata={"help": "property of the batch's examples"})
    smallest: Annotated[int, Ge(2)] = field(default=20, metadata={"help": "fewest examples of a stratum"})

    def __call__(self, recording: Recording) -> Strata:
        names = sorted(set(self._values(recording)))
        place = {value: index for index, value in enumerate(names)}

        def rule(other: Recording) -> Int[np.ndarray, " examples"]:
            return np.array([place.get(value, -1) for value in self._values(other)], dtype=np.int64)

        return large_strata(f"{self.name} ({self.by})", names, rule, recording, self.smallest)

    def _values(self, recording: Recording) -> list[str]:
        groups = recording.batch.groups
        if self.by not in groups:
            raise HarnessError(
                f"stratifier.by={self.by}: the examples of batch {recording.batch.name} do not have this property.",
                f"They have: {', '.join(groups) or 'none'}. Batches give properties as Batch(groups={{...}}).",
            )
        return [str(value) for value in groups[self.by]]


@hookimpl
def harness_stratifiers() -> list[type[Groups]]:
    return [Groups]
