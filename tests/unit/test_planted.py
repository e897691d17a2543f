"""The planted world: every kind of group against its closed form."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.batch import Batch
from harness.data.recording import Recording
from harness.registry.config import registry
from harness.util.errors import HarnessError

EFFECT, GENERAL, BIAS = 2.0, 0.5, 1.0  # the defaults
KINDS = ("serial", "parallel", "redundant_pair", "routed", "redundant_half", "cancelling", "bystander", "position")


@cache
def planted(**parameters: Any) -> Any:
    """A world, by default without noise."""
    return registry().get("subject", "planted").build({"noise": 0.0, **parameters})()


def examples(subject: Any, n: int = 64, seed: int = 0) -> Batch:
    batch: Batch = registry().get("batch", "planted").build({"n": n, "seed": seed})(subject.reads)
    return batch


def measured(
    subject: Any, batch: Batch, groups: list[tuple[int, ...]], metric: str = "target_logit", by: str = "zero"
) -> np.ndarray:
    """One metric [conditions, examples]."""
    method = registry().get("metric", metric).build({})
    intervention = registry().get("intervention", by).build({})
    values: np.ndarray = subject.evaluate(batch, groups, intervention, [method], lambda _: None)[0]
    return values


def damage(subject: Any, batch: Batch, *groups: tuple[int, ...]) -> np.ndarray:
    """The decrease of the target logit [groups, examples]."""
    values = measured(subject, batch, [(), *groups])
    return values[0] - values[1:]


def called(batch: Batch) -> dict[str, np.ndarray]:
    """The circuits that the tokens activate, by the rule in the docstring."""
    odd = batch.tokens % 2 == 1
    switched = dict(zip(("serial", "parallel", "redundant_pair", "cancelling"), odd.T[2:], strict=False))
    return {**switched, "routed": batch.tokens[:, 1] % 4 == 0, "bystander": odd[:, 2]}


def activity(subject: Any, batch: Batch, signal: str = "max_attention") -> np.ndarray:
    reader = registry().get("signal", signal).build({})
    recording: Recording = subject.record(batch, {"signal": reader}, lambda _: None)
    values: np.ndarray = reader(recording).values
    return values


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_baseline_answer_is_the_sum_of_its_circuits(seed: int) -> None:
    subject = planted(seed=seed)
    batch = examples(subject, seed=seed)
    on = called(batch)
    adds = sum(on[kind].astype(float) for kind in ("serial", "parallel", "redundant_pair", "routed"))
    expected = BIAS + EFFECT * (adds - on["cancelling"])
    np.testing.assert_allclose(measured(subject, batch, [()])[0], expected, rtol=1e-6)


def test_a_serial_circuit_fails_without_any_single_member() -> None:
    subject, batch = planted(), examples(planted())
    (group,) = subject.groups["serial"]
    found = damage(subject, batch, group, *((unit,) for unit in group))
    np.testing.assert_allclose(found, np.tile(EFFECT * called(batch)["serial"], (5, 1)), atol=1e-6)


def test_a_parallel_circuit_loses_each_members_share() -> None:
    subject, batch = planted(), examples(planted())
    (group,) = subject.groups["parallel"]
    for size in (1, 2, 3, 4):
        for part in combinations(group, size):
            expected = EFFECT * size / 4 * called(batch)["parallel"]
            np.testing.assert_allclose(damage(subject, batch, part)[0], expected, atol=1e-6)


def test_ablating_half_of_a_redundant_pair_does_no_damage_and_ablating_one_unit_of_each_half_does() -> None:
    subject, batch = planted(), examples(planted())
    whole, (one, other) = subject.groups["redundant_pair"][0], subject.groups["redundant_half"]
    assert set(one) | set(other) == set(whole)
    found = damage(subject, batch, one, other, whole, (one[0], other[0]))
    assert not found[:2].any()
    np.testing.assert_allclose(found[2:], np.tile(EFFECT * called(batch)["redundant_pair"], (2, 1)), atol=1e-6)


@pytest.mark.parametrize("kind", ["bystander", "position"])
@pytest.mark.parametrize("metric", ["target_logit", "accuracy", "loss"])
def test_ablating_units_that_nothing_reads_does_no_damage(kind: str, metric: str) -> None:
    subject, batch = planted(), examples(planted())
    values = measured(subject, batch, [(), subject.groups[kind][0]], metric)
    np.testing.assert_array_equal(values[0], values[1])


def test_ablating_the_cancelling_group_improves_the_answer() -> None:
    subject, batch = planted(), examples(planted())
    found = damage(subject, batch, subject.groups["cancelling"][0])[0]
    np.testing.assert_allclose(found, -EFFECT * called(batch)["cancelling"], atol=1e-6)


def test_a_routed_group_matters_only_in_its_stratum() -> None:
    subject, batch = planted(), examples(planted(), n=400)
    found = damage(subject, batch, subject.groups["routed"][0])[0]
    np.testing.assert_allclose(found, EFFECT * called(batch)["routed"], atol=1e-6)
    assert 0.15 < (found > 0).mean() < 0.35


@pytest.mark.parametrize(("kind", "share"), [("early", 1.0), ("late", 0.2)])
def test_a_decoy_does_exactly_the_damage_of_its_layers(kind: str, share: float) -> None:
    subject, batch = planted(), examples(planted())
    (group,) = subject.groups[kind]
    layers = set(subject.units.depth_of[list(group)].tolist())
    others = [unit for unit in subject.units.at_sites(f"L{layer}.attn" for layer in layers) if unit not in group]
    found = damage(subject, batch, group, tuple(others[:4]), tuple(others[-4:]))
    np.testing.assert_allclose(found, share * 4 * GENERAL, rtol=1e-5)
    assert (found == found[0]).all()


def test_effects_of_disjoint_groups_add_up() -> None:
    subject, batch = planted(noise=0.2), examples(planted())
    groups = [subject.groups[kind][0] for kind in ("serial", "parallel", "early", "position")]
    each = damage(subject, batch, *groups, tuple(unit for group in groups for unit in group))
    np.testing.assert_allclose(each[-1], each[:-1].sum(axis=0), atol=1e-5)


def test_every_unit_has_its_own_effect_with_noise() -> None:
    subject = planted(noise=0.1, seed=4)
    batch = examples(subject, n=200)
    filler = [
        unit for unit, at in enumerate(subject.units.depth_of) if subject.truth.classes[unit] is None and 2 <= at < 10
    ]
    effects = damage(subject, batch, *((unit,) for unit in filler))
    assert 0.07 < effects.mean(axis=1).std() < 0.13  # over units: 0.1
    assert 0.09 < effects.std(axis=1).mean() < 0.11  # over examples: 0.1


def test_every_metric_can_rise_and_fall() -> None:
    for seed in range(3):
        subject = planted(seed=seed)
        accuracy = measured(subject, examples(subject, n=400), [()], "accuracy").mean()
        assert 2 / 12 < accuracy < 0.9


def test_circuits_are_active_on_their_inputs_and_bystanders_with_the_serial_circuit() -> None:
    subject, batch = planted(), examples(planted(), n=300)
    found, on = activity(subject, batch), called(batch)
    for kind in ("serial", "parallel", "redundant_pair", "routed", "cancelling", "bystander"):
        members = found[:, list(subject.groups[kind][0])]
        np.testing.assert_array_equal(members > 0.5, np.repeat(on[kind][:, None], 4, axis=1))
    serial, bystander, parallel = (found[:, subject.groups[k][0][0]] for k in ("serial", "bystander", "parallel"))
    assert np.corrcoef(serial, bystander)[0, 1] > 0.8
    assert abs(np.corrcoef(serial, parallel)[0, 1]) < 0.2


def test_position_units_follow_only_the_query() -> None:
    subject, batch = planted(), examples(planted(), n=300)
    members = activity(subject, batch)[:, list(subject.groups["position"][0])]
    for column in members.T:
        assert len(set(zip(batch.query.tolist(), column.tolist(), strict=True))) == len(set(batch.query.tolist()))
        assert (np.diff(column[np.argsort(batch.query)]) >= 0).all()
    assert len({column.tobytes() for column in members.T}) == 4  # none is a copy of another


def test_maximum_attention_and_output_norm_are_the_activity() -> None:
    subject, batch = planted(), examples(planted())
    np.testing.assert_allclose(activity(subject, batch), activity(subject, batch, "output_norm"), rtol=1e-5)


def test_sources_that_planted_units_do_not_have_are_refused() -> None:
    subject = planted()
    with pytest.raises(HarnessError, match="reads 'first_order', which subject planted-0 does not have"):
        activity(subject, examples(subject), "attribution")


def test_patching_a_circuit_from_the_counterfactual_brings_its_answer() -> None:
    subject, batch = planted(), examples(planted())
    values = {
        metric: measured(subject, batch, [(), subject.groups["serial"][0]], metric, by="patching")
        for metric in ("target_logit", "logit_difference")
    }
    on = called(batch)["serial"]
    np.testing.assert_allclose(np.diff(values["target_logit"], axis=0)[0], -EFFECT * on, atol=1e-6)
    np.testing.assert_allclose(np.diff(values["logit_difference"], axis=0)[0], -2 * EFFECT * on, atol=1e-5)


def test_mean_ablation_removes_the_answer_and_keeps_the_constant_part_of_layers() -> None:
    subject = planted()
    batch = examples(subject, n=400)
    values = measured(subject, batch, [(), subject.groups["parallel"][0], subject.groups["early"][0]], by="mean")
    np.testing.assert_allclose(values[0] - values[1], EFFECT * called(batch)["parallel"], atol=1e-6)
    assert abs((values[0] - values[2]).mean()) < 4 * GENERAL / 2  # zero costs four times GENERAL


def test_resampling_takes_outputs_of_other_examples() -> None:
    subject = planted()
    batch = examples(subject, n=400)
    values = measured(subject, batch, [(), subject.groups["serial"][0]], by="resample")
    on = called(batch)["serial"]
    assert (values[0] - values[1])[~on].max() == 0
    assert (values[0] - values[1])[on].mean() > 0.8 * EFFECT  # but where the donor has the same answer


@settings(max_examples=15)
@given(st.permutations(range(12)))
def test_examples_are_independent(order: list[int]) -> None:
    subject = planted(noise=0.1, layers=6, width=8)
    batch = examples(subject, n=12)
    groups = [(), subject.groups["serial"][0], (0, 5)]
    first, second = measured(subject, batch, groups), measured(subject, batch.take(np.array(order)), groups)
    np.testing.assert_array_equal(first[:, order], second)


def test_the_seed_determines_the_world() -> None:
    one, same, other = planted(noise=0.1), planted(noise=0.1), planted(noise=0.1, seed=1)
    batch = examples(one)
    groups = [(), one.groups["serial"][0]]
    assert one.groups == same.groups
    assert one.groups != other.groups
    np.testing.assert_array_equal(measured(one, batch, groups), measured(same, batch, groups))
    assert (measured(one, batch, groups) != measured(other, batch, groups)).any()


def test_tokens_after_the_query_have_no_effect() -> None:
    subject = planted(noise=0.1)
    batch = examples(subject)
    later = np.arange(batch.tokens.shape[1]) > batch.query[:, None]
    other = replace(batch, tokens=np.where(later, 0, batch.tokens))
    groups = [(), subject.groups["serial"][0]]
    np.testing.assert_array_equal(measured(subject, batch, groups), measured(subject, other, groups))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_circuits_share_as_many_units_as_requested(seed: int, overlap: float) -> None:
    subject = planted(seed=seed, overlap=overlap)
    circuits = [set(subject.groups[kind][0]) for kind in ("serial", "parallel", "redundant_pair", "routed")]
    assert [len(one & other) for one, other in combinations(circuits, 2)] == [
        4 * overlap if apart == 1 else 0 for apart in (1, 2, 3, 1, 2, 1)
    ]
    others = [set(subject.groups[kind][0]) for kind in ("cancelling", "bystander", "position", "early", "late")]
    assert all(not one & other for one, other in combinations([set().union(*circuits), *others], 2))


def test_the_truth_names_every_planted_unit_and_no_filler() -> None:
    subject = planted()
    for unit, role in enumerate(subject.truth.classes):
        homes = {kind for kind, groups in subject.groups.items() if any(unit in group for group in groups)}
        assert homes - {"redundant_half"} == ({role} if role else set())
    labels = registry().get("labels", "truth").build({})
    assert labels(subject.truth) is subject.truth
    with pytest.raises(HarnessError, match="this subject does not know the roles of its units"):
        labels(None)


def test_counterfactuals_have_another_answer_and_activate_the_same_circuits() -> None:
    batch = examples(planted(), n=200)
    counterfactual = batch.counterfactual_batch
    assert (counterfactual.target != batch.target).all()
    np.testing.assert_array_equal(counterfactual.tokens[:, 1:], batch.tokens[:, 1:])
    assert batch.query.min() >= 12
    assert len(set(batch.query.tolist())) > 40


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layers": 5}, "subject.layers=5"),
        ({"layers": 6, "width": 6}, "subject.width=6: groups of subject.group_size=4 leave too few units"),
        ({"answers": 7}, "subject.answers=7"),
        ({"answers": 2}, "subject.answers=2"),
        ({"group_size": 1}, "subject.group_size=1"),
        ({"noise": -1.0}, "subject.noise=-1"),
        ({"effect": -1.0}, "subject.effect=-1"),
        ({"general": -1.0}, "subject.general=-1"),
        ({"seed": -1}, "subject.seed=-1"),
        ({"overlap": 0.75}, "subject.overlap=0.75"),
    ],
)
def test_invalid_worlds_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        planted(**parameters)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"batch\.n=0"):
        registry().get("batch", "planted").build({"n": 0})


def test_the_record_contains_the_planted_circuits() -> None:
    subject = planted(seed=3)
    circuits = subject.about["circuits"]
    assert circuits == {kind: subject.units.names(subject.groups[kind][0]) for kind in circuits}
    assert set(circuits) == {"serial", "parallel", "redundant_pair", "routed"}  # what the answer rests on
