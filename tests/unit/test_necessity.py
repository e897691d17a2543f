"""Necessity: what each unit adds to its group's damage, by theory and against a slow computation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.closure.necessity import DRAWN, Parts
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from tests.unit.worlds import (
    Damage,
    additive,
    backups,
    chain,
    chain_with_backup,
    results_of,
    sum_of,
    trial_of,
)

UNITS = UnitSpace.heads([20, 20])


def parts_of(size: int, units: UnitSpace = UNITS) -> Parts:
    return Parts.of(tuple(range(size)), units, 0)


def contributions(damage: Damage, size: int) -> list[float]:
    """By member of the group 0 .. size - 1."""
    return parts_of(size).contributions(lambda group: np.array([damage(group)]))[:, 0].tolist()


def necessity(damage: Damage, size: int) -> float:
    return float(parts_of(size).necessity(lambda group: np.array([damage(group)]))[0])


# -- by theory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 16, 17])
def test_each_link_of_a_chain_does_all_the_damage(size: int) -> None:
    damage = chain(*range(size), strength=4.0)
    assert contributions(damage, size) == [4.0] * min(size, DRAWN if size > 16 else size)
    assert necessity(damage, size) == 4.0


@pytest.mark.parametrize("size", [2, 3, 8, 9, 16])
def test_each_additive_part_does_its_own_damage_and_the_largest_is_left_out_of_t(size: int) -> None:
    weights = np.arange(1.0, 41.0)
    assert contributions(additive(weights), size) == pytest.approx(weights[:size])
    assert necessity(additive(weights), size) == pytest.approx(weights[: size - 1].mean())


def test_the_necessity_of_a_single_unit_is_its_damage() -> None:
    assert necessity(additive([-3.0]), 1) == -3.0


@pytest.mark.parametrize("size", [2, 3, 8, 9, 16])
def test_each_of_several_backups_does_all_the_damage_as_the_last_one(size: int) -> None:
    assert contributions(backups(*range(size)), size) == [1.0] * size
    assert necessity(backups(*range(size)), size) == 1.0


def test_a_backup_in_a_chain_does_its_damage_after_the_other_one_only() -> None:
    """Alone it does nothing; as the last one neither, because the link has broken the chain already."""
    assert contributions(chain_with_backup(0, 1, 2), 3) == [1.0, 1.0, 1.0]
    assert necessity(chain_with_backup(0, 1, 2), 3) == 1.0


@pytest.mark.parametrize(("size", "seen"), [(8, True), (9, False)])
def test_backups_in_a_chain_are_seen_in_groups_of_up_to_eight(size: int, seen: bool) -> None:
    found = contributions(chain_with_backup(0, 1, 2), size)
    assert found == [1.0, float(seen), float(seen), *[0.0] * (size - 3)]


@pytest.mark.parametrize("size", [2, 3, 8, 9, 16])
def test_one_strong_unit_with_passengers_has_no_necessity(size: int) -> None:
    damage = chain(1, strength=5.0)
    assert contributions(damage, size) == [0.0, 5.0, *[0.0] * (size - 2)]
    assert necessity(damage, size) == 0.0


def test_a_passenger_that_helps_the_group_lowers_t() -> None:
    damage = sum_of(chain(0, 1, strength=2.0), additive([0.0, 0.0, -1.0]))
    assert contributions(damage, 3) == [2.0, 2.0, -1.0]
    assert necessity(damage, 3) == pytest.approx(0.5)


# -- against a slow computation ----------------------------------------------------------------------------------------


def slowly(group: Group, damage: Damage, pairs: bool) -> dict[int, float]:
    """The definition in loops."""
    found = {}
    for u in group:
        best = damage(frozenset({u}))
        if len(group) > 1:
            best = max(best, damage(frozenset(group)) - damage(frozenset(group) - {u}))
        if pairs:
            for v in group:
                if v != u:
                    best = max(best, damage(frozenset({u, v})) - damage(frozenset({v})))
        found[u] = best
    return found


@given(st.sampled_from([1, 2, 3, 5, 8, 9, 12, 16]), st.integers(0, 2**32 - 1))
def test_contributions_follow_the_definition_for_any_interactions(size: int, seed: int) -> None:
    """Every set has a damage of its own."""
    group = tuple(sorted(np.random.default_rng(seed).choice(40, size, replace=False).tolist()))

    def damage(units: Any) -> float:
        return float(np.random.default_rng([seed, *sorted(units)]).normal())

    parts = Parts.of(group, UNITS, 0)
    found = parts.contributions(lambda units: np.array([damage(units)]))[:, 0]
    expected = slowly(group, damage, pairs=size <= 8)
    assert dict(zip(parts.members, found.tolist(), strict=True)) == pytest.approx(expected)
    smallest = sorted(expected.values())[: max(1, size - 1)]
    t = parts.necessity(lambda units: np.array([damage(units)]))[0]
    assert t == pytest.approx(sum(smallest) / len(smallest))


def test_metrics_have_their_own_contributions() -> None:
    both = parts_of(2).necessity(lambda group: np.array([chain(0, 1)(group), chain(0)(group)]))
    assert both.tolist() == [1.0, 0.0]


# -- what is ablated ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "groups"), [(1, 1), (2, 3), (3, 7), (8, 45), (9, 19), (16, 33), (17, 17)])
def test_every_part_is_ablated_once(size: int, groups: int) -> None:
    """The group, each unit alone, the group without each and, up to eight units, all pairs."""
    found = parts_of(size).ablated_groups
    assert len(found) == len({frozenset(group) for group in found}) == groups
    needed: set[Group] = set()

    def damage(group: Group) -> np.ndarray:
        needed.add(group)
        return np.zeros(1)

    parts_of(size).necessity(damage)
    assert needed == {*found}


def test_eight_members_of_a_large_group_are_drawn_by_its_labels() -> None:
    group = tuple(range(3, 23))
    members = Parts.of(group, UNITS, 0).members
    assert len(set(members)) == DRAWN
    assert set(members) <= set(group)
    order = np.random.default_rng(1).permutation(40)
    moved = UNITS.reordered(order)
    elsewhere = Parts.of(moved.find(UNITS.names(group)), moved, 0).members
    assert sorted(moved.names(elsewhere)) == sorted(UNITS.names(members))
    assert Parts.of(group, UNITS, 1).members != members
    drawn = {Parts.of(group, UNITS, seed).members for seed in range(60)}
    assert set(itertools.chain(*drawn)) == set(group)


# -- in a report -------------------------------------------------------------------------------------------------------


def names(*positions: int) -> tuple[str, ...]:
    return tuple(f"L0H{position}" for position in positions)


@pytest.mark.parametrize(
    ("damage", "size", "spared"),
    [
        (chain(0, 1, 2), 3, ()),
        (backups(0, 1), 2, ()),
        (chain_with_backup(0, 1, 2), 3, ()),
        (chain(0, 1), 4, (2, 3)),
        (chain(1), 3, (0, 2)),
        (additive([1.0, 0.9, 0.1, 0.09, *[0.0] * 36]), 4, (2, 3)),  # 5 % of 2.09 is .1045
        (additive([1.0, 0.9, 0.12, 0.1, *[0.0] * 36]), 4, (3,)),  # 5 % of 2.12 is .106
        (additive([1.0, 1.0, -0.5, *[0.0] * 37]), 3, (2,)),
        (chain(0), 1, ()),
    ],
)
def test_dispensable_units_add_at_most_five_percent_of_the_groups_damage(
    damage: Damage, size: int, spared: tuple[int, ...]
) -> None:
    units = UnitSpace.heads([12])
    (result,) = results_of(trial_of(units, damage), tuple(range(size)))
    assert result.report.dispensable == names(*spared)


def test_a_group_without_damage_has_no_dispensable_units() -> None:
    (result,) = results_of(trial_of(UnitSpace.heads([12]), lambda _: 0.0), (0, 1))
    assert result.report.dispensable == ()
    assert result.report.anatomy["score"].necessity == (0.0, 0.0)


def test_units_of_a_large_group_that_were_not_drawn_have_no_necessity() -> None:
    units = UnitSpace.heads([40])
    group = tuple(range(17))
    (result,) = results_of(trial_of(units, chain(*group), futility=None), group)
    found = result.report.anatomy["score"].necessity
    assert found is not None
    drawn = Parts.of(group, units, 0).members
    assert found == tuple(1.0 if unit in drawn else None for unit in group)
    assert f"each unit of the {DRAWN} that were examined is needed" in result.report.reason
