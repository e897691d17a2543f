"""The clustering of subcomponents at the size of a small language model: 56,000 units, of which 8,000 are alive.

Sizes are those that Seshadri et al. report of SimpleStories: 28 matrices of 2,000 subcomponents each, 8,425 of them
alive, 5,000 observations, k = 4. Importances are made up: mechanisms of 1 to 22 subcomponents, most of them single, are
needed on 0.2 to 10 % of the observations, and each subcomponent misses some of them. Seconds are processor time of all
cores together.

``python benchmarks/mechanisms.py`` prints the table (about two minutes).
"""

from __future__ import annotations

import time

import numpy as np
from jaxtyping import Float, Int

from harness.data.recording import Activity
from harness.data.stages import call_with
from harness.data.units import Unit, UnitSpace
from harness.registry.config import registry
from harness.util.memory import peak
from harness.util.threads import one_thread

MATRICES, EACH, ALIVE, OBSERVATIONS = 28, 2_000, 8_425, 5_000


def planted() -> tuple[Float[np.ndarray, "observations units"], Int[np.ndarray, " units"]]:
    """Importances of all units, and the mechanism of each; -1: dead."""
    rng = np.random.default_rng(0)
    sizes: list[int] = []
    while sum(sizes) < ALIVE:
        sizes.append(min(int(rng.zipf(2.2)), 22, ALIVE - sum(sizes)))
    mechanism = np.full(MATRICES * EACH, -1)
    alive = rng.permutation(MATRICES * EACH)[:ALIVE]
    mechanism[alive] = np.repeat(np.arange(len(sizes)), sizes)
    values = np.zeros((OBSERVATIONS, MATRICES * EACH), dtype=np.float32)
    for group in range(len(sizes)):
        needed = np.flatnonzero(rng.random(OBSERVATIONS) < np.exp(rng.uniform(np.log(0.002), np.log(0.1))))
        members = np.flatnonzero(mechanism == group)
        shared = rng.random(len(needed))[:, None]
        kept = rng.random((len(needed), len(members))) < 0.9
        values[np.ix_(needed, members)] = kept * (0.7 * shared + 0.3 * rng.random((len(needed), len(members))))
    return values, mechanism


def run() -> str:
    """The table, as Markdown."""
    values, mechanism = planted()
    units = UnitSpace(
        tuple(
            Unit(f"{matrix}:{i}", f"{matrix}", matrix, "subcomponent")
            for matrix in range(MATRICES)
            for i in range(EACH)
        )
    )
    activity = Activity(values, units)
    methods = registry()
    two = np.flatnonzero(np.bincount(mechanism[mechanism >= 0]) == 2)
    pairs = {frozenset(np.flatnonzero(mechanism == group).tolist()) for group in two.tolist()}
    rows = []
    with one_thread():
        started = time.process_time()
        affinity = methods.get("affinity", "pearson_knn").build({"k": 4, "threshold": 0.1})(activity)
        seconds = time.process_time() - started
        rows.append(
            f"| Pearson, mutual 4 nearest neighbours | {seconds:.1f} | {affinity.links.nnz // 2:,} links | | | |"
        )
        for name, parameters in (("mechanisms", {}), ("leiden", {"resolution": [1.0]})):
            started = time.process_time()
            (found,) = call_with(
                methods.get("partitioner", name).build(parameters), affinity=affinity, activity=activity
            )
            seconds = time.process_time() - started
            groups = [frozenset(group) for group in found.groups()]
            pure = np.mean([len({*mechanism[list(group)].tolist()}) == 1 for group in groups])
            exact = len(pairs & {*groups}) / len(pairs)
            largest = max(map(len, groups))
            rows.append(f"| {name} | {seconds:.1f} | {found.k:,} groups | {largest} | {pure:.3f} | {exact:.3f} |")
    head = [
        "| step | seconds | result | largest group | groups of one mechanism | mechanisms of two found exactly |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    size = f"{MATRICES * EACH:,} units, {ALIVE:,} alive; {OBSERVATIONS:,} observations"
    return "\n".join([*head, *rows, "", f"{size}; peak memory {peak()['memory'] / 2**30:.2f} GiB."])


if __name__ == "__main__":
    print(run())
