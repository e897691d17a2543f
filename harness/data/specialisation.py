"""Which domains the experts of a mixture are used on: shares of routed examples, and their test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from harness.util.seeds import rng_for

PERMUTATIONS = 999
"""How often documents are given the domains of others."""


@dataclass(frozen=True, eq=False)
class Specialisation:
    r"""The share of a domain's examples that are routed to each expert.

    .. math:: ES(E_i, D) = N^{(k)}_{E_i,D} / N_D, \qquad \sum_{i} ES(E_i, D) = k

    :math:`N^{(k)}_{E_i,D}`: examples of domain D that have expert i among the k that their query is routed to. The sum
    is over the experts of a layer, so that with uniform routing every share is k / E (``uniform``).

    ``shares`` [domains, units]; ``usage`` [units]: over all examples; ``p`` [units]: that an expert's shares differ
    between domains this much although routing does not depend on the domain; ``documents``: how many were permuted.

    Source: MoE Lens (arXiv 2603.05806). The test is of this project.
    """

    domains: tuple[str, ...]
    shares: Float[np.ndarray, "domains units"]
    usage: Float[np.ndarray, " units"]
    uniform: Float[np.ndarray, " units"]
    p: Float[np.ndarray, " units"]
    k: Float[np.ndarray, " units"]
    documents: int

    @classmethod
    def of(
        cls,
        routed: Bool[np.ndarray, "examples units"],
        domain: Shaped[np.ndarray, " examples"],
        site_of: Int[np.ndarray, " units"],
        document: Shaped[np.ndarray, " examples"] | None = None,
        seed: int = 0,
    ) -> Specialisation:
        """Shares, and p by permutation of domains over whole documents (examples, if there are none)."""
        domains, of_example = np.unique(domain, return_inverse=True)
        documents = np.arange(len(routed)) if document is None else document
        _, first, of_document = np.unique(documents, return_index=True, return_inverse=True)
        counts = np.zeros((len(first), routed.shape[1]))
        np.add.at(counts, of_document, routed.astype(np.float64))
        sizes = np.bincount(of_document).astype(np.float64)
        usage = routed.mean(axis=0)
        of_site = np.stack([usage[site_of == site].sum() for site in range(site_of.max() + 1)])
        shares = _shares(counts, sizes, of_example[first], len(domains))
        observed, rng = _spread(shares, usage), rng_for(seed, "domains of documents")
        drawn = rng.permuted(np.tile(of_example[first], (PERMUTATIONS, 1)), axis=1)
        as_large = (_spread(_shares(counts, sizes, drawn, len(domains)), usage) >= observed - 1e-12).sum(axis=0)
        k = of_site[site_of]
        return cls(
            tuple(map(str, domains)), shares, usage, k / np.bincount(site_of)[site_of],
            (1 + as_large) / (1 + PERMUTATIONS), k, len(first),
        )  # fmt: skip

    @property
    def largest(self) -> Float[np.ndarray, " units"]:
        """The share of the domain on which each expert is used most."""
        found: Float[np.ndarray, " units"] = self.shares.max(axis=0)
        return found

    @property
    def domain_of(self) -> tuple[str, ...]:
        """This domain."""
        return tuple(self.domains[place] for place in self.shares.argmax(axis=0))

    def concentration(self, site: Int[np.ndarray, " some"]) -> Float[np.ndarray, " domains"]:
        """By domain, the part of the routing that the k most used experts of a layer take; k / E if it is uniform."""
        k = float(self.k[site[0]])
        most = np.sort(self.shares[:, site], axis=1)[:, -max(1, round(k)) :]
        found: Float[np.ndarray, " domains"] = most.sum(axis=1) / k
        return found

    def overlap(self, site: Int[np.ndarray, " some"]) -> Float[np.ndarray, "domains domains"]:
        r"""The part of the routing that two domains have in common: :math:`\sum_i \min(ES_{iD}, ES_{iD'}) / k`."""
        shares = self.shares[:, site]
        common: Float[np.ndarray, "domains domains"] = np.minimum(shares[:, None], shares[None]).sum(axis=2)
        common /= self.k[site[0]]
        return common


def _shares(
    counts: Float[np.ndarray, "documents units"],
    sizes: Float[np.ndarray, " documents"],
    domain: Int[np.ndarray, "*draws documents"],
    domains: int,
) -> Float[np.ndarray, "*draws domains units"]:
    member = (domain[..., None, :] == np.arange(domains)[:, None]).astype(np.float64)
    shares: Float[np.ndarray, "*draws domains units"] = (member @ counts) / (member @ sizes)[..., None]
    return shares


def _spread(
    shares: Float[np.ndarray, "*draws domains units"], usage: Float[np.ndarray, " units"]
) -> Float[np.ndarray, "*draws units"]:
    """The largest distance of a domain's share from the usage over all examples."""
    spread: Float[np.ndarray, "*draws units"] = np.abs(shares - usage).max(axis=-2)
    return spread
