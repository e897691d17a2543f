"""The default chooser and selector keep the circuits that partitions find, in planted worlds."""

from __future__ import annotations

import itertools

import pytest

from harness.cells.cell import Cell
from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.data.grouping import best_overlap
from harness.pipeline import propose
from harness.registry.config import registry, resolve
from harness.util.cache import Memo

CIRCUITS = ("serial", "parallel", "redundant_pair", "routed")


def found(world: int, memo: Memo, *words: str) -> tuple[set[str], set[str]]:
    """The circuits that the chosen partition holds, and those of them that are candidates (Jaccard .5 or more)."""
    planted = (f"subject.seed={world}", "subject=planted", "batch=planted", "tracking=none", "cache=false")
    inputs = Inputs.gather(
        Cell.of(resolve([*planted, *words], registry()), registry()), memo, Progress(quiet=True), False
    )
    proposal, groups = propose(inputs), getattr(inputs.subject, "groups")  # noqa: B009  # of planted subjects only
    candidates = [candidate.members for candidate in proposal.candidates]
    assert len(candidates) <= 3
    held = {kind for kind in CIRCUITS if best_overlap(groups[kind][0], proposal.partition.groups()) >= 0.5}
    return held, {kind for kind in held if best_overlap(groups[kind][0], candidates) >= 0.5}


def test_the_defaults_propose_a_circuit_that_the_partition_holds() -> None:
    held, kept = found(0, Memo(), "batch.n=128", "reruns=2")
    assert held
    assert kept


@pytest.mark.slow
def test_where_the_chosen_partition_holds_a_circuit_the_candidates_hold_one_in_most_worlds() -> None:
    """Worlds that no default was chosen on, and nine methods: three affinities and three partitioners."""
    affinities = ("ising", "mutual_information", "pearson_knn")
    worlds = []
    for world in range(20, 30):
        memo = Memo()
        for affinity, partitioner in itertools.product(affinities, ("spectral", "leiden", "eigengap")):
            held, kept = found(world, memo, f"affinity={affinity}", f"partitioner={partitioner}")
            if held:
                worlds.append(bool(kept))
    assert len(worlds) >= 45  # of 90: partitions that hold a circuit are common
    assert sum(worlds) >= 0.8 * len(worlds)
