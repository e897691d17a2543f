"""Community detection in the graph of affinities."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import scipy  # scipy.sparse loads at first use: `harness list` must stay fast
from annotated_types import Ge, Gt, Lt, MinLen
from jaxtyping import Bool, Int

from harness import Affinity, HarnessError, Partition, Partitioner, hookimpl

LARGE = 8192
"""Above this many units igraph's own implementation is used, which is 20 times as fast there."""


@dataclass(frozen=True)
class Leiden(Partitioner):
    r"""Communities of the weighted graph of affinities by the Leiden algorithm, one partition per resolution.

    .. math:: Q = \frac{1}{\sum_{ij} |A_{ij}|} \sum_{ij} \Bigl[\bigl(A^+_{ij} - \gamma P^+_{ij}\bigr)
              - \bigl(A^-_{ij} - \gamma P^-_{ij}\bigr)\Bigr] \delta(g_i, g_j)

    The positive and the negative part of A are two graphs that are optimised together. ``quality`` sets P:

    - ``rb_configuration``: :math:`P_{ij} = k_i k_j / \sum_{ij} A_{ij}` of each graph, with degrees k;
    - ``modularity``: the same with :math:`\gamma = 1`, for one partition; ``resolution`` is not used;
    - ``cpm``: :math:`P^+ = 1, P^- = 0`, so :math:`\gamma` has the unit of the affinity, and the mean
      affinity of a group is above it.

    Without negative affinities, Q is Newman's modularity.

    Input: affinity [n_units, n_units], of any sign. Output: one partition per resolution; ``k`` is the number of groups
    found. Units without any link are in no group. The order of the input units has no effect; other seeds may give
    other partitions of about the same quality. Diagnostics: ``quality`` Q, ``isolated`` units by name, ``singletons``
    (number of groups of one unit), ``all_in_one`` (whether all linked units are in one group).

    Graphs of more than 8,192 units without negative links are divided by igraph's implementation of the same algorithm,
    smaller ones by that of leidenalg. The two visit units in different orders, so they differ as two seeds do.

    Errors: no positive affinity; resolutions so high that no two units are joined.
    Source: Traag, Waltman & van Eck 2019; Reichardt & Bornholdt 2006; Traag, Van Dooren & Nesterov 2011 (cpm);
    Gomez, Jensen & Arenas 2009 and Traag & Bruggeman 2009 (negative links).
    """

    name: ClassVar[str] = "leiden"
    quality: Literal["modularity", "rb_configuration", "cpm"] = field(
        default="rb_configuration", metadata={"help": "the function that is optimised"}
    )
    resolution: Annotated[tuple[Annotated[float, Gt(0), Lt(math.inf)], ...], MinLen(1)] = field(
        default=(0.5, 1.0, 2.0),
        metadata={"help": "one partition each; higher gives more groups; not used by modularity"},
    )
    iterations: Annotated[int, Ge(1)] | Literal[-1] = field(
        default=-1, metadata={"help": "iterations of the algorithm; -1: until nothing improves"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the order in which units are moved"})

    def __call__(self, affinity: Affinity) -> list[Partition]:
        affinity.require_groups(self.name, signed=True)
        if affinity.matrix.max() <= 0:
            raise HarnessError(
                "partitioner leiden: no affinity is positive, so no two units can be joined.",
                "Choose how a signed affinity is used: affinity.transform=abs",
            )
        units = affinity.units
        has_links = np.diff(affinity.links.indptr) > 0
        linked, isolated = units.canonical[has_links], units.names(units.canonical[~has_links])
        links = scipy.sparse.triu(affinity.links[np.ix_(has_links, has_links)], 1, format="coo")
        partitions = []
        for gamma in (1.0,) if self.quality == "modularity" else self.resolution:
            groups, quality = self._communities(links, gamma)
            labels = np.full(len(units), -1, dtype=np.int64)
            labels[linked] = groups
            sizes = np.bincount(groups)
            diagnostics = {
                "quality": quality,
                "isolated": isolated,
                "singletons": int((sizes == 1).sum()),
                "all_in_one": len(sizes) == 1,
            }
            setting = "" if self.quality == "modularity" else f"resolution = {gamma:g}"
            partitions.append(Partition(len(sizes), labels, setting, diagnostics))
        if all(partition.k == len(linked) for partition in partitions):
            high = float(links.max())
            raise HarnessError(
                f"partitioner.resolution={list(self.resolution)}: with quality={self.quality} no two units are joined; "
                f"the largest affinity is {high:.3g}.",
                f"Use lower resolutions: 'partitioner.resolution=[{high / 2 if self.quality == 'cpm' else 1:.2g}]'",
            )
        return partitions

    def _communities(self, links: scipy.sparse.coo_array, gamma: float) -> tuple[Int[np.ndarray, " n"], float]:
        """The group of each unit, and the quality of the groups; ``links`` [n, n] has each pair once."""
        import igraph
        import leidenalg

        scale = _below_one(np.abs(links.data).sum())
        links = links * scale
        if self.quality == "cpm":
            gamma *= scale

        def graph_of(chosen: Bool[np.ndarray, " links"]) -> igraph.Graph:
            return igraph.Graph(links.shape[0], np.stack([links.row, links.col], axis=1)[chosen])

        if links.shape[0] > LARGE and (links.data > 0).all():
            return self._communities_of_large(graph_of(links.data > 0), links.data.tolist(), gamma)
        null = leidenalg.CPMVertexPartition if self.quality == "cpm" else leidenalg.RBConfigurationVertexPartition
        layers, signs = [], []
        for sign in (1, -1):
            chosen = sign * links.data > 0
            if chosen.any():
                resolution = 0.0 if self.quality == "cpm" and sign < 0 else gamma
                weights = np.abs(links.data[chosen]).tolist()
                layers.append(null(graph_of(chosen), weights=weights, resolution_parameter=resolution))
                signs.append(sign)
        optimiser = leidenalg.Optimiser()
        optimiser.set_rng_seed(self.seed)
        if -1 in signs:  # the best group for a unit may hold only units without a link to it
            optimiser.consider_comms = leidenalg.ALL_COMMS
        optimiser.optimise_partition_multiplex(layers, signs, self.iterations)
        total = sum(sign * layer.quality() for sign, layer in zip(signs, layers, strict=True))
        return np.array(layers[0].membership, dtype=np.int64), float(total / (2 * np.abs(links.data).sum()))

    def _communities_of_large(
        self, graph: Any, weights: list[float], gamma: float
    ) -> tuple[Int[np.ndarray, " n"], float]:
        """The same by igraph's implementation."""
        import igraph

        objective = "CPM" if self.quality == "cpm" else "modularity"
        state = random.getstate()  # igraph draws from Python's global generator, also while it is set
        igraph.set_random_number_generator(random.Random(self.seed))
        try:
            found = graph.community_leiden(objective, weights, resolution=gamma, n_iterations=self.iterations)
        finally:
            igraph.set_random_number_generator(random)
            random.setstate(state)
        groups = np.array(found.membership, dtype=np.int64)
        if objective == "modularity":
            return groups, float(graph.modularity(groups.tolist(), weights, resolution=gamma))
        inside = np.array(weights)[[groups[a] == groups[b] for a, b in graph.get_edgelist()]].sum()
        pairs = sum(size * (size - 1) / 2 for size in np.bincount(groups).tolist())
        return groups, float((inside - gamma * pairs) / sum(weights))


def _below_one(total: float) -> float:
    """The power of 2 that brings a sum of weights to 1/2 .. 1, with the same digits.

    leidenalg moves a unit for an improvement of 10 machine epsilons. Where weights sum to more, rounding alone reaches
    that: it moved units to and fro forever where many affinities are equal (its issue 126).
    """
    return float(2.0 ** -np.ceil(np.log2(total)))


@hookimpl
def harness_partitioners() -> list[type[Leiden]]:
    return [Leiden]
