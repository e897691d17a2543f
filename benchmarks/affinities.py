"""Ising, mutual information and Pearson at 128 to 1024 units, compared with the functions that a researcher would use.

``python benchmarks/affinities.py`` prints the table (about five minutes on two cores). Both sides have the same cores
(``OMP_NUM_THREADS`` limits them) with numerical libraries on one thread each, and take turns; the best turn of each
side counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from harness_plugins.affinities._pseudolikelihood import regress_each
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score

from harness.data.recording import Spins
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.seeds import rng_for
from harness.util.threads import cores, one_thread

SIZES = (128, 256, 512, 1024)
OBSERVATIONS = 2000
TURNS = 3
REGRESSIONS = 128  # maximum number for scikit-learn: its time for all of them is extrapolated
PAIRS = 1000  # maximum number for mutual_info_score, likewise
L2, MAX_ITER = 1e-3, 500  # defaults of affinity=ising


def planted(units: int) -> Spins:
    """Groups of eight units that share a signal (correlation of spins about 1/3), each with a threshold of its own."""
    rng = rng_for(units, "benchmark of affinities")
    signal = rng.normal(size=(OBSERVATIONS, units // 8)).repeat(8, axis=1)
    activity = signal + rng.normal(size=(OBSERVATIONS, units)) + 0.3 * rng.normal(size=units)
    return Spins(np.where(activity > 0, 1, -1).astype(np.int8), UnitSpace.heads([units]))


@dataclass(frozen=True)
class Peer:
    """The other side: ``run`` computes ``share`` of all results; ``difference`` is the largest difference from ours."""

    name: str
    run: Callable[[], np.ndarray]
    share: float
    difference: Callable[[np.ndarray], float]


def ising(spins: Spins) -> Peer:
    """One regression of scikit-learn per unit, in as many processes as there are cores."""
    design = spins.values.astype(np.float64)
    n = design.shape[1]
    chosen = np.sort(rng_for(n, "sampled units").permutation(n)[:REGRESSIONS])

    def run() -> np.ndarray:
        return np.array(Parallel(n_jobs=cores())(delayed(_regression)(design, unit) for unit in chosen))

    def difference(found: np.ndarray) -> float:
        ours = regress_each(spins.values, L2, MAX_ITER).coefficients[chosen]
        return float(np.abs(ours - found).max() / 2)  # J is half a coefficient

    return Peer("scikit-learn's LogisticRegression per unit", run, len(chosen) / n, difference)


def _regression(design: np.ndarray, unit: int) -> np.ndarray:
    with one_thread():
        others = np.delete(design, unit, axis=1)
        fit = LogisticRegression(C=1 / L2, max_iter=MAX_ITER).fit(others, design[:, unit])
    return np.insert(fit.coef_[0], unit, 0.0)


def mutual_information(spins: Spins) -> Peer:
    """One call of scikit-learn per pair."""
    matrix = registry().get("affinity", "mutual_information").build({})(spins).matrix
    n = len(matrix)
    rows, columns = np.triu_indices(n, 1)
    chosen = rng_for(n, "sampled pairs").permutation(len(rows))[:PAIRS]
    pairs = list(zip(rows[chosen], columns[chosen], strict=True))

    def run() -> np.ndarray:
        return np.array([mutual_info_score(spins.values[:, i], spins.values[:, j]) for i, j in pairs])

    def difference(found: np.ndarray) -> float:
        return float(np.abs(matrix[rows[chosen], columns[chosen]] - found).max())

    return Peer("scikit-learn's mutual_info_score per pair", run, len(pairs) / len(rows), difference)


def pearson(spins: Spins) -> Peer:
    """The correlation matrix of numpy."""
    matrix = registry().get("affinity", "pearson").build({"transform": "signed"})(spins).matrix

    def difference(found: np.ndarray) -> float:
        return float(np.abs(matrix - found + np.eye(len(matrix))).max())

    return Peer("numpy's corrcoef", lambda: np.corrcoef(spins.values, rowvar=False), 1.0, difference)


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def row(name: str, peer_of: Callable[[Spins], Peer], units: int) -> str:
    """One line of the table."""
    spins = planted(units)
    method, peer = registry().get("affinity", name).build({}), peer_of(spins)
    difference = peer.difference(peer.run())  # also warms both up: processes started, libraries loaded
    turns = [(seconds(lambda: method(spins)), seconds(peer.run) / peer.share) for _ in range(TURNS)]
    ours, peers = (min(side) for side in zip(*turns, strict=True))
    extrapolated = "" if peer.share == 1 else f", extrapolated from {100 * peer.share:.2g} %"
    return (
        f"| {name} | {units} | {ours:.3g} | {peers:.3g} | {peers / ours:.3g} | {difference:.0e} "
        f"| {peer.name}{extrapolated} |"
    )


def run() -> str:
    """The table, in Markdown."""
    kinds = {"ising": ising, "mutual_information": mutual_information, "pearson": pearson}
    with one_thread():
        rows = [row(name, peer_of, units) for name, peer_of in kinds.items() for units in SIZES]
    return "\n".join(
        [
            f"{OBSERVATIONS} observations, {cores()} cores, best of {TURNS} turns.",
            "",
            "| affinity | units | harness, s | peer, s | ratio | largest difference | peer |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


if __name__ == "__main__":
    print(run())
