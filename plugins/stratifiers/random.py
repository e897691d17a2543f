"""Random strata: the null of any other stratifier."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Int

from harness import Recording, Strata, Stratifier, hookimpl
from harness.util.seeds import seed_for

from ._strata import enough_for, large_strata


@dataclass(frozen=True)
class RandomStrata(Stratifier):
    r"""Every example in one of ``k`` strata, uniformly at random and independently of the others: the null of strata.

    .. math:: s(e) = u(\text{content of } e, \texttt{seed}), \qquad u \sim \text{uniform on } \{0, \dots, k - 1\}

    The number is drawn for the content of an example (tokens up to the query, query, target), so that an example is in
    the same stratum whatever other examples it comes with. A stratum with fewer than ``smallest`` of the examples
    proposed on is left out.

    Input: the batch of the recording. Output: strata ``random 0`` .. of about equal size.

    Errors: fewer examples than strata; no stratum with enough examples.
    Source: the random-partition null of the closure paper, section 5.
    """

    name: ClassVar[str] = "random"
    k: Annotated[int, Ge(2)] = field(default=4, metadata={"help": "number of strata"})
    smallest: Annotated[int, Ge(2)] = field(default=20, metadata={"help": "fewest examples of a stratum"})
    seed: int = field(default=0, metadata={"help": "seed of the partition"})

    def __call__(self, recording: Recording) -> Strata:
        enough_for(self.name, self.k, recording)
        names = [f"random {stratum}" for stratum in range(self.k)]
        return large_strata(self.name, names, self._rule, recording, self.smallest)

    def _rule(self, recording: Recording) -> Int[np.ndarray, " examples"]:
        batch = recording.batch
        contents = (batch.take(np.array([example])).digest for example in range(len(batch)))
        return np.array([seed_for(self.seed, f"random stratum of {content}") % self.k for content in contents])


@hookimpl
def harness_stratifiers() -> list[type[RandomStrata]]:
    return [RandomStrata]
