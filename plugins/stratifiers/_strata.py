"""What stratifiers share: strata that are large enough, and strata around k-means centres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from harness import HarnessError, Recording, Strata

Rule = Callable[[Recording], Int[np.ndarray, " examples"]]


def large_strata(name: str, names: Sequence[str], rule: Rule, recording: Recording, smallest: int) -> Strata:
    """The strata with at least ``smallest`` of these examples. Examples of the others are in none.

    Errors: no stratum has as many.
    """
    of_example = rule(recording)
    sizes = np.bincount(of_example[of_example >= 0], minlength=len(names))
    kept = np.flatnonzero(sizes >= smallest).tolist()
    if not kept:
        raise HarnessError(
            f"stratifier {name}: none of {len(names)} strata has {smallest} of the {len(of_example)} examples proposed "
            f"on; the largest has {sizes.max(initial=0)}.",
            "Use more examples (batch.n=...), fewer strata, or a smaller stratifier.smallest.",
        )
    place = np.full(len(names) + 1, -1)  # the last entry is for examples in no stratum, which have -1
    place[kept] = np.arange(len(kept))
    return Strata(tuple(names[stratum] for stratum in kept), lambda other: place[rule(other)])


def enough_for(name: str, k: int, recording: Recording) -> None:
    """Refuse more strata than examples."""
    if len(recording.batch) < k:
        raise HarnessError(
            f"stratifier {name}: {len(recording.batch)} examples are proposed on, which is fewer than k={k}.",
            "Use more examples (batch.n=...), or a smaller stratifier.k.",
        )


def around_centres(
    name: str,
    of_one: str,
    recording: Recording,
    k: int,
    smallest: int,
    seed: int,
    *,
    init: Literal["random", "k-means++"],
    starts: int,
) -> Strata:
    """The nearest of ``k`` centres of the stratifier's readings: ``of_one 0`` .. in the order of the centres.

    ``init``: how the first centres are drawn from the examples; of several ``starts``, the one with the smallest sum of
    squared distances is taken.

    Errors: more centres than examples or than different readings; no centre with ``smallest`` examples.
    """
    from sklearn.cluster import KMeans

    enough_for(name, k, recording)
    readings = _flat(recording)
    different = len(np.unique(readings, axis=0))
    if different < k:
        raise HarnessError(
            f"stratifier {name}: the {len(readings)} examples proposed on have {different} different readings, which "
            f"is fewer than k={k}.",
            "Use a smaller stratifier.k, or examples that differ more.",
        )
    fitted = KMeans(k, init=init, n_init=starts, max_iter=300, random_state=seed).fit(readings)

    def rule(other: Recording) -> Int[np.ndarray, " examples"]:
        nearest: Int[np.ndarray, " examples"] = fitted.predict(_flat(other))
        return nearest

    return large_strata(name, [f"{of_one} {centre}" for centre in range(k)], rule, recording, smallest)


def _flat(recording: Recording) -> Float[np.ndarray, "examples numbers"]:
    readings = recording.readings["stratifier"]
    return readings.reshape(len(readings), -1).astype(np.float64)
