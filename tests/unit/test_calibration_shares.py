"""Synthetic worlds and the shares measured on them: the level and the power of both tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.calibration.questions import BACKGROUNDS, coverage, level, power, several_candidates
from harness.calibration.share import Share
from harness.calibration.tables import sections
from harness.calibration.trained import TINY, trained_level
from harness.calibration.worlds import Setting, Worlds, lognormal, named, normal
from harness.cells.cell import Cell
from harness.closure.cases import cases_of
from harness.closure.comparison import TESTS, Test
from harness.closure.report import measure
from harness.closure.trial import Trial
from harness.data.contracts import no_tick
from harness.data.vectors import Vectors
from harness.registry.config import registry, resolve
from harness.util.threads import one_thread

pytestmark = pytest.mark.unchecked

STORED = Path(__file__).resolve().parents[2] / "leaderboards" / "calibration" / "calibration.json"
STAGES = Cell.of(resolve(["subject=planted", "batch=planted"], registry()), registry()).stages


def test_the_damage_of_groups_in_a_world() -> None:
    effects = np.array([[1.0, 10.0, 100.0, 1000.0], [0.0, 0.0, 0.0, 0.0]])
    members = Setting.of(2, 2, STAGES).members
    here = Worlds(effects, chains=[members([(0, 2)]), members([(1,), (3,)])], backup=(2, 3), strength=5.0)
    found = here.damage(np.array([[0, 1], [1, 2], [2, 3]]))
    # the chain of units 0 and 2 is broken once; the second chain is unit 1 in the first world and unit 3 in the second
    np.testing.assert_array_equal(found, [[11 + 5 + 5, 110 + 5 + 5, 1100 + 5 + 5], [5, 5, 5 + 5 + 5]])


@pytest.mark.parametrize("signs", [(1,), (-1, 1)])
def test_lognormal_effects_have_a_deviation_of_one(signs: tuple[int, ...]) -> None:
    found = lognormal(0.5, signs)(np.random.default_rng(0), (1000, 10, 20))
    assert found.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("futility", [None, 10])
def test_p_in_many_worlds_is_what_a_closure_test_reports(test: Test, futility: int | None) -> None:
    """The whole closure test, on a fake model that does the damage of one world, against the short way."""
    setting, rng = Setting.of(8, 2, STAGES), np.random.default_rng(0)
    here = Worlds(setting.effects(normal, 3, rng), chains=[setting.members([(0, 1, 8)])])
    candidates = [(0, 1, 8), (2, 3, 9), (4, 7, 15)]
    found = here.p_values(setting.comparisons(candidates, test), futility)
    for world in range(3):

        def evaluate(batch: Any, conditions: Any, *_: Any, world: int = world, **__: Any) -> np.ndarray:
            damage = [here.damage(np.array([group]))[world, 0] if group else 0.0 for group in conditions]
            return -np.repeat(np.array(damage)[None, :, None], len(batch), axis=2)

        batch = Vectors("two examples", np.zeros((2, 1)), np.zeros(2, dtype=np.int64), "class")
        trial = Trial(
            units=setting.units,
            evaluate=evaluate,
            batch=batch,
            intervention=STAGES["intervention"],
            controls=STAGES["controls"],
            metrics=STAGES["metric"][:1],
            test=test,
            futility=futility,
        )
        for place, candidate in enumerate(candidates):
            (result,) = measure(cases_of([candidate], trial), trial, no_tick)
            assert found[world, place] == pytest.approx(next(iter(result.report.effects.values())).p)


@pytest.mark.slow  # thousands of tests of both kinds; the level in single settings is in test_trial and test_necessity
def test_the_exact_test_keeps_its_level_where_the_former_test_does_not() -> None:
    found = {(s.case, s.method): s for s in level(60, STAGES, heads=[8], profiles=[(4, 1, 1, 1)])}
    for case in BACKGROUNDS:
        exact = found[case, "exact"]
        error = (exact.high - exact.low) / 2 / 1.96
        assert abs(exact.share - 0.05) < 4 * error, case
    assert found["first layer ten times stronger", "disjoint"].low > 0.2
    assert found["normal", "disjoint"].share < 0.1


def test_chains_pass_the_exact_test_and_a_strong_head_with_passengers_does_not() -> None:
    found = {(s.case, s.method): s.share for s in power(200, STAGES, heads=[8])}
    for case in ("chain of 3, normal", "chain of 3, lognormal, s = 1", "pair that back each other up"):
        assert found[case, "exact"] >= 0.9
        assert found[case, "disjoint"] < 0.7
    strong = "a strong head and 2 passengers (no circuit)"
    assert found[strong, "exact"] < 0.3
    assert found[strong, "disjoint"] > 0.7


@pytest.mark.slow  # hundreds of cells; quick checks of three candidates are in test_candidates
def test_errors_over_the_candidates_of_a_cell_are_controlled() -> None:
    found = list(several_candidates(100, STAGES))
    for share in found:
        if share.method != "chains that pass":
            assert share.low <= 0.05, share
    assert next(s for s in found if s.method == "chains that pass").share > 0.9


@pytest.mark.slow  # 1,999 resamples in each of 100 worlds; tests/unit/test_intervals.py has the same question in small
def test_bootstrap_t_covers_skewed_means_better_than_percentiles() -> None:
    found = {(s.case, s.method): s.share for s in coverage(100)}
    skewed = "mean of 32 lognormal changes"
    assert found[skewed, "percentile"] < found[skewed, "bootstrap-t"]
    assert found["damage beyond 20 groups, 64 examples", "examples alone"] < 0.8
    assert found["damage beyond 20 groups, 64 examples", "examples and groups"] > 0.85


def test_the_level_on_a_trained_model_is_at_most_five_percent_where_all_groups_are_listed() -> None:
    cell = Cell.of(resolve([*TINY, "batch.n=8"], registry()), registry())
    with one_thread():
        found = list(trained_level(cell, shapes=[(2,), (1, 1)], larger=()))
    exact = [share for share in found if share.method == "exact"]
    assert [share.n for share in exact] == [28] * 4 + [64] * 6  # C(8, 2) in four layers; 8 x 8 in six pairs of layers
    assert all(share.share <= 0.05 for share in exact)


def test_an_interval_is_over_worlds() -> None:
    same_in_a_world = np.repeat([[1.0], [0.0], [0.0], [0.0]], 100, axis=1)
    found = Share.over_worlds("level", "normal", 8, "2+1", "exact", same_in_a_world)
    assert (found.share, found.n) == (0.25, 400)
    assert found.high - found.share == pytest.approx(1.96 * np.sqrt(0.25 * 0.75 / 4))  # four worlds, not 400 groups


def test_the_tables_name_both_tests_and_their_profiles() -> None:
    pages = "\n".join(sections(list(power(5, STAGES, heads=[8, 9]))))
    assert "## Power: share of circuits with p <= .05, exact / disjoint" in pages
    row = next(line for line in pages.splitlines() if line.startswith("| chain of 3, normal"))
    assert len(row.split("|")) == 6  # case, profile, 8 and 9 heads
    assert named((4,)) == "4 in one"


def test_the_stored_calibration_keeps_the_level_and_finds_chains() -> None:
    stored = [Share(**share) for share in json.loads(STORED.read_text(encoding="utf-8"))["shares"]]
    exact = [share for share in stored if share.method == "exact"]
    assert all(0.03 <= share.share <= 0.07 for share in exact if share.question == "level")
    assert all(share.share <= 0.07 for share in exact if share.question == "trained")
    cases = ("chain of 3, normal", "chain of 3, lognormal, s = 1")
    chains = [share for share in exact if share.question == "power" and share.case in cases]
    assert len(chains) == 10
    assert all(share.share >= 0.9 for share in chains)


@pytest.mark.slow
def test_the_level_on_tiny_is_kept_on_every_profile() -> None:
    with one_thread():
        found = list(trained_level(Cell.of(resolve(TINY, registry()), registry())))
    exact = [share for share in found if share.method == "exact"]
    assert all(share.low <= 0.05 and share.share <= 0.1 for share in exact)
    assert sum(s.share * s.n for s in exact) / sum(s.n for s in exact) == pytest.approx(0.045, abs=0.015)
    assert max(share.share for share in found if share.method == "disjoint") > 0.15


@pytest.mark.slow
def test_the_level_on_smollm2_is_kept() -> None:
    words = ("subject=smollm2_wheel", "group=[L17H3,L18H6]", *(word for word in TINY[1:] if "group" not in word))
    cell = Cell.of(resolve([*words, "batch.n=4"], registry()), registry())
    with one_thread():
        found = list(trained_level(cell, shapes=(), larger=({17: 2}, {17: 1, 18: 1}, {17: 2, 18: 1}), drawn=20))
    exact = [share for share in found if share.method == "exact"]
    assert [share.n for share in exact] == [36, 81, 324]
    assert all(share.share <= 0.05 for share in exact)
