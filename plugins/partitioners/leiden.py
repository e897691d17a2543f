"""Community detection in the graph of affinities."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import scipy  # scipy.sparse is loaded where it is first named: listing must stay fast
from jaxtyping import Int

from harness import Affinity, HarnessError, Partition, hookimpl


@dataclass(frozen=True)
class Leiden:
    r"""Communities of the weighted graph of affinities by the Leiden algorithm, one partition per resolution.

    .. math:: Q = \frac{1}{\sum_{ij} |A_{ij}|} \sum_{ij} \Bigl[\bigl(A^+_{ij} - \gamma P^+_{ij}\bigr)
              - \bigl(A^-_{ij} - \gamma P^-_{ij}\bigr)\Bigr] \delta(g_i, g_j)

    with what is positive and what is negative of A in two graphs, which are optimised together. ``rb_configuration``:
    :math:`P_{ij} = k_i k_j / \sum_{ij} A_{ij}` of each graph, with degrees k; ``modularity``: the same at
    :math:`\gamma = 1`, one partition, ``resolution`` is not used; ``cpm``: :math:`P^+ = 1, P^- = 0`, so that
    :math:`\gamma` is in units of affinity and groups have a mean affinity above it. Without negative affinities Q is
    modularity as Newman defines it.

    Input: affinity [n_units, n_units], of any sign. Output: one partition per resolution, ``k`` the number of groups
    found. Units without any link are in no group. Worked out in the order of layers and indices, so that ``seed`` alone
    decides; runs with other seeds may end in other, about equally good partitions.
    Diagnostics: ``quality`` Q, ``isolated`` units by name, ``singletons``: groups of one unit, ``all_in_one``: whether
    all linked units are in one group.

    Errors: no positive affinity; resolutions that are not positive, or so high that no two units
    are joined.
    Source: Traag, Waltman & van Eck 2019; Reichardt & Bornholdt 2006; Traag, Van Dooren & Nesterov 2011 (cpm);
    Gomez, Jensen & Arenas 2009 and Traag & Bruggeman 2009 (negative links).
    """

    name: ClassVar[str] = "leiden"
    quality: Literal["modularity", "rb_configuration", "cpm"] = field(
        default="rb_configuration", metadata={"help": "what good communities are"}
    )
    resolution: tuple[float, ...] = field(
        default=(0.5, 1.0, 2.0), metadata={"help": "higher: more groups; one partition each; modularity has none"}
    )
    iterations: int = field(default=-1, metadata={"help": "of the algorithm; -1: until nothing improves"})
    seed: int = field(default=0, metadata={"help": "of the order in which units move"})

    def __post_init__(self) -> None:
        if not self.resolution or not all(0 < gamma < math.inf for gamma in self.resolution):
            raise HarnessError(f"partitioner.resolution={list(self.resolution)}: give one or more, each positive.")
        if self.iterations != -1 and self.iterations < 1:
            raise HarnessError(f"partitioner.iterations={self.iterations}: 1 or more, or -1 until nothing improves.")

    def __call__(self, affinity: Affinity) -> list[Partition]:
        affinity.require_groups(self.name, signed=True)
        if affinity.matrix.max() <= 0:
            raise HarnessError(
                "partitioner leiden: no affinity is positive, so no two units belong together.",
                "Choose what of a signed affinity counts: affinity.transform=abs",
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
            told = {
                "quality": quality,
                "isolated": isolated,
                "singletons": int((sizes == 1).sum()),
                "all_in_one": len(sizes) == 1,
            }
            setting = "" if self.quality == "modularity" else f"resolution = {gamma:g}"
            partitions.append(Partition(len(sizes), labels, setting, told))
        if all(partition.k == len(linked) for partition in partitions):
            high = float(links.max())
            raise HarnessError(
                f"partitioner.resolution={list(self.resolution)}: with quality={self.quality} no two units are joined; "
                f"the largest affinity is {high:.3g}.",
                f"Use lower ones: 'partitioner.resolution=[{high / 2 if self.quality == 'cpm' else 1:.2g}]'",
            )
        return partitions

    def _communities(self, links: scipy.sparse.coo_array, gamma: float) -> tuple[Int[np.ndarray, " n"], float]:
        """The group of each unit, and how good they are; ``links`` [n, n] has each pair once."""
        import igraph
        import leidenalg

        null = leidenalg.CPMVertexPartition if self.quality == "cpm" else leidenalg.RBConfigurationVertexPartition
        layers, signs = [], []
        for sign in (1, -1):
            chosen = sign * links.data > 0
            if chosen.any():
                of = 0.0 if self.quality == "cpm" and sign < 0 else gamma
                graph = igraph.Graph(links.shape[0], np.stack([links.row, links.col], axis=1)[chosen])
                weights = np.abs(links.data[chosen]).tolist()
                layers.append(null(graph, weights=weights, resolution_parameter=of))
                signs.append(sign)
        optimiser = leidenalg.Optimiser()
        optimiser.set_rng_seed(self.seed)
        if -1 in signs:  # the best place for a unit may be with units that it has no link to
            optimiser.consider_comms = leidenalg.ALL_COMMS
        optimiser.optimise_partition_multiplex(layers, signs, self.iterations)
        total = sum(sign * layer.quality() for sign, layer in zip(signs, layers, strict=True))
        return np.array(layers[0].membership, dtype=np.int64), float(total / (2 * np.abs(links.data).sum()))


@hookimpl
def harness_partitioners() -> list[type[Leiden]]:
    return [Leiden]
