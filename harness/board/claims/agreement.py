"""Claim: mutual information agrees with the labels better than Ising couplings do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from harness.board.claims.claim import ALPHA, Claim, Finding, cells, supported, without
from harness.board.claims.published import AGREEMENT
from harness.records.record import FINISHED, Record

AFFINITIES = ("mutual_information", "ising")


def judge(records: Sequence[Record]) -> Finding | None:
    """Pairs of cells that differ in the affinity only: the mean ARI over all their partitions."""
    pairs: dict[str, dict[str, Record]] = {}
    for record in records:
        affinity = str(record.config["affinity"].get("name"))
        if record.status in FINISHED and affinity in AFFINITIES and _mean_ari(record) is not None:
            pairs.setdefault(without(record, "affinity"), {})[affinity] = record
    whole = [pair for pair in pairs.values() if len(pair) == len(AFFINITIES)]
    if not whole:
        return None
    aris = np.array([[_mean_ari(pair[name]) for name in AFFINITIES] for pair in whole], dtype=float)
    p = p_higher(aris)
    evidence = (
        f"mean ARI {aris[:, 0].mean():.2f} by mutual information, {aris[:, 1].mean():.2f} by Ising; higher in "
        f"{int((aris[:, 0] > aris[:, 1]).sum())} of {len(whole)} pairs of cells (p {p:.3f})"
    )
    return Finding(supported(p <= ALPHA), evidence, cells([pair[name] for pair in whole for name in AFFINITIES]))


def p_higher(pairs: Float[np.ndarray, "pairs 2"]) -> float:
    """p of the mean difference, first minus second, over all exchanges within pairs. Exact up to 14 pairs."""
    from scipy.stats import permutation_test

    def difference(first: Float[np.ndarray, "*n"], second: Float[np.ndarray, "*n"], axis: int) -> np.ndarray:
        return np.asarray(np.mean(first - second, axis=axis))

    found = permutation_test(
        (pairs[:, 0], pairs[:, 1]), difference, permutation_type="samples", vectorized=True, n_resamples=2**14,
        alternative="greater", rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


def _mean_ari(record: Record) -> float | None:
    found = [partition.agreement.ari for partition in record.partitions if partition.agreement]
    return float(np.mean(found)) if found else None


def _published() -> str:
    means = {model: {name: float(np.mean(aris)) for name, aris in by.items()} for model, by in AGREEMENT.items()}
    shown = "; ".join(
        f"{model} {by['mutual_information']:.2f} against {by['ising']:.2f}" for model, by in means.items()
    )
    p = p_higher(np.array([[by[name] for name in AFFINITIES] for by in means.values()]))
    return f"mean ARI over k: {shown}. Higher in {len(means)} of {len(means)} models: p {p:.3f}, the least for three."


CLAIM = Claim(
    text="Clusters by mutual information agree with the labels better than clusters by Ising couplings.",
    source="closure paper, section 5 (other affinities)",
    rule=f"the mean ARI is higher over pairs of cells that differ in the affinity only, with p at most {ALPHA}",
    experiment="paper_claims",
    judge=judge,
    published=_published(),
)
