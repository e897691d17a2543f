"""Growing a group: what is added in worlds whose damage is known, and where it stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.board.card import card
from harness.board.recomputed import contradictions
from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.closure.grow import grown
from harness.closure.outcomes import Outcomes
from harness.closure.prune import needed_units
from harness.closure.verdict import Verdict
from harness.data.contracts import no_tick
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.pipeline import run_cell
from harness.records.record import Record
from harness.registry.config import registry, resolve
from harness.util.cache import Memo
from harness.util.errors import HarnessError
from tests.unit.worlds import Damage, additive, backups, chain, sum_of, trial_of

UNITS = UnitSpace.heads([4, 4, 4])


def outcomes_of(damage: Damage, **changes: Any) -> Outcomes:
    return Outcomes(trial_of(UNITS, damage, n=16, **changes), no_tick)


def added(damage: Damage, group: Group, most: int = 4) -> list[int]:
    return [each.unit for each in grown(group, outcomes_of(damage), most)]


OTHER = chain(1, 2, strength=5.0)


@pytest.mark.parametrize("circuit", [chain(0, 5, 9), additive(np.eye(12)[[0, 5, 9]].sum(axis=0))])
def test_the_unit_that_a_circuit_lacks_is_added_and_no_link_of_a_stronger_chain(circuit: Damage) -> None:
    assert added(sum_of(circuit, OTHER), (0, 9)) == [5]


def test_a_backup_and_two_missing_links_of_a_chain_are_not_found() -> None:
    """What the group alone keeps is whole without its backup, and nothing with one of two missing links."""
    assert added(backups(0, 5), (0,)) == []
    assert added(chain(0, 5, 9), (0,)) == []


def test_units_are_added_by_their_gain_up_to_the_budget() -> None:
    damage = additive([0, 3, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0])
    assert added(damage, (0,)) == [1, 4, 3]
    assert added(damage, (0,), most=2) == [1, 4]
    gains = [each.gain for each in grown((0,), outcomes_of(damage), 3)]
    assert gains == pytest.approx([3, 2, 1])


def test_a_unit_that_pruning_would_drop_is_not_added() -> None:
    """It adds .04 to a group of 1.04: less than 5 %."""
    damage = additive([1, 0.04, *[0] * 10])
    assert added(damage, (0,)) == []
    assert needed_units((0, 1), outcomes_of(damage)) == (0,)


def test_a_gain_whose_interval_holds_zero_is_not_added() -> None:
    """Unit 1 does damage .1 on average, between -10 and +10 on single examples."""
    noise = np.resize([10.0, -10.0], 16) + 0.1
    assert added(lambda group: 1.0 * (0 in group) + noise * (1 in group), (0,)) == []


def test_a_group_with_the_largest_possible_damage_is_returned_as_it_is() -> None:
    class Floor(type(trial_of(UNITS, chain(0)).metrics[0])):  # type: ignore[misc]
        worst = 7.5 / 8

    assert grown((0,), outcomes_of(chain(0, 5), metrics=[Floor()]), 4) == ()


def test_units_that_cannot_all_be_ablated_together_are_refused() -> None:
    trial = trial_of(replace(UNITS, at_most={"L0.attn": 1}), chain(0, 5))
    with pytest.raises(HarnessError, match="not all units of this subject can be ablated together"):
        grown((0,), Outcomes(trial, no_tick), 2)


def test_a_planted_chain_without_one_unit_is_completed_before_it_is_tested(tmp_path: Path) -> None:
    """The affinity is a matrix in which three of the chain's four units are alike, so three are proposed.

    The card and the board's check of a submission know which one was added.
    """
    record = _grown_record("serial", tmp_path)
    whole = set(record.provenance["subject"]["circuits"]["serial"])
    (candidate,) = record.candidates
    assert set(candidate.units) == whole
    (found,) = record.grown.values()
    assert [each["unit"] for each in found] == sorted(whole)[-1:]
    assert found[0]["interval"][0] > 0
    assert record.closure[0].verdict in (Verdict.PASS, Verdict.WEAK_PASS)
    assert f"added before the test, by ablation on the proposal half: {found[0]['unit']} (gain " in card(record)
    assert record.cell.method.endswith(" grown(1)")
    assert list(contradictions(record)) == []


def _grown_record(circuit: str, folder: Path) -> Record:
    offered = registry()
    subject = offered.get("subject", "planted").build({})()
    proposed = subject.units.find(sorted(subject.about["circuits"][circuit])[:-1])
    alike = np.isin(np.arange(len(subject.units)), proposed)
    np.save(folder / "matrix.npy", (alike[:, None] == alike) * 1.0)
    config = resolve(
        [
            *("subject=planted", "batch=planted", "batch.n=64", "intervention=zero", "labels=none", "controls.n=19"),
            *("affinity=precomputed", f"affinity.path={folder / 'matrix.npy'}"),
            *("partitioner=agglomerative", "partitioner.k=[2]", "chooser=fixed", "chooser.k=2"),
            *("selector.min_size=3", "selector.max_size=3", "reruns=0", "grow=1"),
        ],
        offered,
    )
    return run_cell(Cell.of(config, offered), Memo(), Progress(quiet=True)).record
