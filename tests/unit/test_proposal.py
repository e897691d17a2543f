"""Proposals: steps on request, the choice of a partition, and its stability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from harness.cells.cell import Cell
from harness.data.grouping import Affinity, Candidate, Labels, Partition, adjusted_rand
from harness.data.recording import Activity, Recording, Spins
from harness.data.stages import INPUTS, STAGES, inputs_of, upstream
from harness.data.units import UnitSpace
from harness.proposal.proposal import Proposal
from harness.registry.config import registry, resolve
from harness.testing import examples
from harness.testing.examples import BLOCKS, UNITS
from harness.util.errors import HarnessError


def _blocks() -> Activity:
    rng = np.random.default_rng(0)
    return Activity(rng.normal(size=(128, 3))[:, BLOCKS] + 0.3 * rng.normal(size=(128, len(UNITS))), UNITS)


ACTIVITY = _blocks()


@dataclass(frozen=True)
class Measured:
    """Three blocks of correlated units."""

    name: ClassVar[str] = "measured"

    def __call__(self, recording: Recording) -> Activity:
        assert recording
        return ACTIVITY


@dataclass(frozen=True)
class Sign:
    name: ClassVar[str] = "sign"

    def __call__(self, activity: Activity) -> Spins:
        return Spins(np.where(activity.values > 0, 1, -1).astype(np.int8), activity.units)


@dataclass(frozen=True)
class AsItIs:
    name: ClassVar[str] = "as_it_is"

    def __call__(self, activity: Activity) -> Activity:
        return activity


@dataclass(frozen=True)
class Correlation:
    name: ClassVar[str] = "correlation"

    def __call__(self, spins: Spins) -> Affinity:
        matrix = np.abs(np.corrcoef(spins.values.T))
        np.fill_diagonal(matrix, 0)
        return Affinity((matrix + matrix.T) / 2, spins.units)


@dataclass(frozen=True)
class Nearest:
    """Components of the graph of affinities above one half."""

    name: ClassVar[str] = "nearest"

    def __call__(self, affinity: Affinity) -> list[Partition]:
        from scipy.sparse.csgraph import connected_components

        n, labels = connected_components(affinity.matrix > 0.5)
        return [Partition(int(n), labels.astype(np.int64))]


@dataclass(frozen=True)
class Dice:
    """Random groups that depend on the seed."""

    name: ClassVar[str] = "dice"
    seed: int = 0

    def __call__(self, units: UnitSpace) -> list[Partition]:
        return [Partition(3, np.random.default_rng(self.seed).integers(0, 3, len(units)))]


@dataclass(frozen=True)
class Given:
    """Partitions made by the test."""

    name: ClassVar[str] = "given"
    partitions: tuple[Any, ...] = ()

    def __call__(self, units: UnitSpace) -> list[Partition]:
        return list(self.partitions)


@dataclass(frozen=True)
class Scores:
    """Scores made by the test."""

    name: ClassVar[str] = "scores"
    scores: tuple[float | None, ...] = (0.0,)

    def __call__(self, partitions: Sequence[Partition]) -> tuple[float | None, ...]:
        return self.scores


@dataclass(frozen=True)
class Every:
    name: ClassVar[str] = "every"

    def __call__(self, partition: Partition) -> list[Candidate]:
        return [Candidate(members) for members in partition.groups()]


@dataclass(frozen=True)
class Known:
    name: ClassVar[str] = "known"

    def __call__(self, units: UnitSpace) -> Labels:
        return examples.labels()


@dataclass(frozen=True)
class Unknown:
    name: ClassVar[str] = "unknown"

    def __call__(self, units: UnitSpace) -> Labels:
        return Labels((None,) * len(units), units)


@dataclass(frozen=True)
class Doubled:
    name: ClassVar[str] = "doubled"

    def __call__(self, activity: Activity) -> Activity:
        return Activity(2 * activity.values, activity.units)


def proposal(reruns: int = 0, inputs: Any = None, **stages: Any) -> Proposal:
    usual: dict[str, Any] = {
        "labels": Known(),
        "signal": Measured(),
        "transform": (),
        "binarizer": Sign(),
        "affinity": Correlation(),
        "partitioner": Nearest(),
        "chooser": Scores(),
        "selector": Every(),
    }
    batch = examples.batch()
    inputs = {"batch": batch, "recording": Recording(batch, UNITS, {})} if inputs is None else inputs
    return Proposal({**usual, **stages}, UNITS, inputs, reruns)


# ----------------------------------------------------------------------------------------------------------------------
# Asking
# ----------------------------------------------------------------------------------------------------------------------


def test_a_proposal_goes_from_recording_to_candidates() -> None:
    result = proposal()
    assert [set(c.members) for c in result.candidates] == [set(np.flatnonzero(b == BLOCKS).tolist()) for b in range(3)]
    assert all(c.isolation is not None and c.isolation > 2 for c in result.candidates)
    assert result.candidates[0].purity == 1.0


def test_a_group_that_cannot_be_ablated_does_not_qualify() -> None:
    """Two units of a site of which one has to stay: the selector, which takes every group, never sees their group."""
    units = UnitSpace(UNITS.units, {UNITS.sites[0]: 1})
    labels = np.full(len(UNITS), 2)
    labels[[0, 1]], labels[[2, 8]] = 0, 1  # units 0 and 1 are of the first site, and so is unit 2
    labels[[3, 4, 5, 6, 7]] = -1
    given = Given(partitions=(Partition(3, labels),))
    stages = {**proposal().stages, "partitioner": given, "labels": Unknown()}
    result = Proposal(stages, units, {}, 0)
    assert result.not_ablatable == [(0, 1)]
    assert [candidate.members for candidate in result.candidates] == [(2, 8), tuple(range(9, len(UNITS)))]
    assert result.partition.groups()[0] == (0, 1)  # the partition itself is what was proposed


def test_inputs_that_no_method_takes_are_not_computed() -> None:
    result = proposal(partitioner=Dice(), inputs={})
    assert len(result.candidates) == 3
    assert not any(result.has(name) for name in ("batch", "recording", "measured", "spins", "affinity"))
    assert result.candidates[0].isolation is None


def test_transforms_are_applied_in_order_and_scores_are_those_of_the_measured_signal() -> None:
    result = proposal(transform=(Doubled(), Doubled()))
    np.testing.assert_allclose(result.activity.values, 4 * ACTIVITY.values)
    np.testing.assert_allclose(result.scores.values, ACTIVITY.values.mean(axis=0))


def test_a_method_that_needs_spins_is_refused_without_them() -> None:
    with pytest.raises(HarnessError, match="binarizer as_it_is gives activity") as caught:
        _ = proposal(binarizer=AsItIs()).affinity
    assert "binarizer=median" in caught.value.fix


@pytest.mark.parametrize(("value", "why"), [(0.0, "no unit is active on any of the"), (1.0, "no unit differs between")])
def test_activity_that_never_changes_is_named_as_the_cause(value: float, why: str) -> None:
    result = proposal()
    result.steps["measured"] = Activity(np.full_like(ACTIVITY.values, value), UNITS)
    with pytest.raises(HarnessError, match=f"signal measured: {why}"):
        _ = result.candidates


def test_a_plugin_that_returns_a_wrong_type_is_named() -> None:
    with pytest.raises(TypeError, match="affinity returned Activity, not Affinity"):
        _ = proposal(affinity=AsItIs()).affinity


def test_every_allowed_input_of_a_stage_is_computed_by_some_step() -> None:
    for stage in STAGES.values():
        assert set(stage.asks) <= set(INPUTS)
    for makers, _ in INPUTS.values():
        assert set(makers) <= set(STAGES)
    for name in ("units", "batch", "recording", "activity", "scores", "spins", "observations", "affinity", "labels"):
        assert hasattr(Proposal, name) or name in vars(proposal())


def test_the_upstream_stages_follow_from_the_requested_inputs() -> None:
    chosen: dict[str, list[type]] = {stage: [] for stage in STAGES}
    chosen |= {"signal": [Measured], "binarizer": [Sign], "affinity": [Correlation], "selector": [Every]}
    everything = {"selector", "chooser", "partitioner", "affinity", "binarizer", "signal", "transform", "batch"}
    assert upstream("selector", {**chosen, "partitioner": [Nearest]}) == everything
    assert upstream("selector", {**chosen, "partitioner": [Dice]}) == {"selector", "chooser", "partitioner"}
    assert inputs_of(Nearest) == ("affinity",)


def test_an_unused_stage_is_not_part_of_the_cell() -> None:
    def cell(*overrides: str) -> Cell:
        return Cell.of(resolve(overrides, registry()), registry())

    by_layer = ("partitioner=layers", "selector=every_group", "chooser=fixed")
    one, other = (cell(*by_layer, f"affinity={name}") for name in ("ising", "mutual_information"))
    assert one.id == other.id
    assert one.row == other.row
    assert one.method == "layers fixed every_group"
    assert cell("affinity=ising").id != cell("affinity=mutual_information").id
    assert cell().supervised == ()
    assert cell("partitioner=oracle").supervised == ("partitioner",)
    assert cell("preset=paper").supervised == ("chooser", "selector")


# ----------------------------------------------------------------------------------------------------------------------
# Choosing
# ----------------------------------------------------------------------------------------------------------------------


def partitions(*groups: int) -> tuple[Partition, ...]:
    return tuple(Partition(k, np.arange(len(UNITS)) % k) for k in groups)


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ((0.1, 0.3, 0.2), 1),
        ((-0.4, -0.2, -0.3), 1),
        ((None, -0.5, None), 1),
        ((0.3, 0.3, 0.3), 2),  # equals: the fewest groups
        ((None, None, None), 2),  # nothing to say: the same
    ],
)
def test_the_best_partition_is_chosen_and_ties_go_to_fewer_groups(
    scores: tuple[float | None, ...], chosen: int
) -> None:
    result = proposal(partitioner=Given(partitions(6, 4, 2)), chooser=Scores(scores))
    assert result.chosen == chosen


def test_a_trivial_partition_is_never_chosen() -> None:
    together = Partition(1, np.zeros(len(UNITS), dtype=np.int64))
    nobody = Partition(0, np.full(len(UNITS), -1))
    alone = Partition(len(UNITS), np.arange(len(UNITS)))
    some_alone = Partition(3, np.array([0, 1, 2, *[-1] * (len(UNITS) - 3)]))  # the others are isolated
    result = proposal(
        partitioner=Given((together, nobody, alone, some_alone, *partitions(3))),
        chooser=Scores((1.0, 1.0, 1.0, 1.0, 0.0)),
    )
    assert result.chosen == 4
    assert result.quality == (None, None, None, None, 0.0)


def test_only_trivial_partitions_give_no_candidates_and_the_chooser_is_not_called() -> None:
    together = Partition(1, np.zeros(len(UNITS), dtype=np.int64), "resolution = 0.1")
    result = proposal(partitioner=Given((together,)), chooser=Scores(()))
    assert result.trivial
    assert result.candidates == ()
    assert result.quality == (None,)


# ----------------------------------------------------------------------------------------------------------------------
# Stability
# ----------------------------------------------------------------------------------------------------------------------


def test_clear_groups_are_stable_and_random_groups_are_not() -> None:
    (found,) = proposal(reruns=5).partitions
    assert found.stability is not None
    assert found.stability.seeds == 1.0
    assert found.stability.resamples is not None
    assert found.stability.resamples > 0.5
    (thrown,) = proposal(reruns=20, partitioner=Dice(), inputs={}).partitions
    assert thrown.stability is not None
    assert thrown.stability.seeds == pytest.approx(0, abs=0.1)
    assert thrown.stability.resamples is None  # nothing was measured, so there is nothing to resample


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=30))
def test_the_agreement_of_two_partitions_is_that_of_scikit_learn(labels: list[tuple[int, int]]) -> None:
    a, b = np.array(labels).T
    assert adjusted_rand(a, b) == adjusted_rand_score(a, b)


def test_agreement_of_many_units_does_not_overflow() -> None:
    a = np.repeat(np.arange(2), 40_000)  # products of pairs beyond 2^63
    assert adjusted_rand(a, a[::-1]) == 1
    assert adjusted_rand(a, np.tile(np.arange(2), 40_000)) == pytest.approx(0, abs=1e-4)


def test_stability_is_undefined_without_reruns() -> None:
    assert proposal().partitions[0].stability is None


def test_a_rerun_permutes_the_units_and_returns_labels_in_the_original_order() -> None:
    result = proposal()
    found = result.partitions[0]
    order = np.random.default_rng(0).permutation(len(UNITS))
    again = result.again(order, None, seed=1)
    assert again.units.units == tuple(UNITS.units[i] for i in order)
    np.testing.assert_allclose(again.affinity.matrix, result.affinity.matrix[np.ix_(order, order)])
    assert adjusted_rand_score(found.labels[order], again.raw_partitions[0].labels) == 1.0
    rows = np.arange(64)
    half = result.again(order, rows, seed=1)
    np.testing.assert_array_equal(half.measured.values, result.measured.values[:64][:, order])
    assert half.affinity.matrix.shape == result.affinity.matrix.shape
    assert not np.allclose(half.affinity.matrix, again.affinity.matrix)
    assert half.labels.classes == tuple(examples.labels().classes[i] for i in order) if half.has("labels") else True


def test_stability_depends_only_on_the_seed() -> None:
    first, second = (proposal(reruns=3).partitions[0].stability for _ in range(2))
    assert first == second


def test_a_step_is_computed_when_a_method_takes_its_output() -> None:
    """Partitions of random labels need neither an affinity nor examples: a proposal without inputs has candidates."""
    found = Proposal({**proposal().stages, "partitioner": Dice()}, UNITS, {})
    assert found.candidates
    assert not found.has("affinity")
    assert not found.has("measured")
    with pytest.raises(KeyError, match="recording"):
        _ = found.affinity


def test_a_group_given_by_hand_is_the_only_candidate_and_no_step_is_computed() -> None:
    named = Proposal.by_hand(UNITS, (1, 4))
    assert [candidate.members for candidate in named.candidates] == [(1, 4)]
    assert named.steps.keys() == {"candidates"}
