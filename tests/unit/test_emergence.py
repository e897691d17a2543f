"""The rules of training time, on trajectories made by hand and on published ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.board.emergence import (
    FORM_ONLY,
    FUNCTION_ONLY,
    RICH,
    SELECTIVE,
    Crossing,
    Figure,
    decoupled,
    first,
    half_risen,
)
from harness.closure.verdict import Verdict

STEPS = [0, 10, 20, 40, 80]
# Pythia-1B's head L4H4: participation ratio and induction selectivity by step (2,097,152 tokens each), as published.
L4H4 = {1: (1.96, 1.0), 256: (27.35, 0.2), 512: (13.21, 3.9), 3000: (48.05, 171.8), 143000: (28.29, 181.6)}


@pytest.mark.parametrize(
    ("there", "crossing"),
    [
        ([False, False, True, False, True], Crossing(20, 10)),  # the first time counts, whatever follows
        ([True, False, False, False, False], Crossing(0)),
        ([False, False, False, False, True], Crossing(80, 40)),
        ([False] * 5, None),
    ],
)
def test_the_first_crossing_is_named_with_the_checkpoint_before(there: list[bool], crossing: Crossing | None) -> None:
    assert first(STEPS, there) == crossing


@pytest.mark.parametrize(
    ("values", "crossing"),
    [
        ([0.0, 1.0, 4.0, 6.0, 10.0], Crossing(40, 20)),  # half of the rise from 0 to 10 is 5
        ([12.0, 2.0, 3.0, 7.5, 8.0], Crossing(40, 20)),  # high at initialisation: counted from the minimum, 2 to 8
        ([0.0, 0.0, 0.0, 0.0, 1.0], Crossing(80, 40)),
        ([0.0, 9.0, 1.0, 1.0, 1.0], Crossing(10, 0)),
        ([5.0, 4.0, 3.0, 2.0, 1.0], None),  # it only falls
        ([3.0] * 5, None),
    ],
)
def test_half_of_the_rise_is_counted_from_the_minimum(values: list[float], crossing: Crossing | None) -> None:
    assert half_risen(STEPS, values) == crossing


@given(st.lists(st.integers(0, 50), min_size=5, max_size=5), st.integers(1, 9), st.integers(-20, 20))
def test_half_of_the_rise_does_not_depend_on_unit_and_origin(values: list[int], scale: int, shift: int) -> None:
    plain = half_risen(STEPS, [float(value) for value in values])
    assert half_risen(STEPS, [float(scale * value + shift) for value in values]) == plain
    assert (plain is None) == (min(values) == max(values[values.index(min(values)) :]))


@pytest.mark.parametrize("verdict", Verdict)
def test_a_class_is_decoupled_only_where_both_are_certain(verdict: Verdict) -> None:
    passes = verdict in (Verdict.PASS, Verdict.WEAK_PASS, Verdict.REDUNDANT)
    fails = verdict in (Verdict.NULL, Verdict.WRONG_DIRECTION, Verdict.TASK_NOT_DONE)
    assert decoupled(Figure(90.0, (30.0, 300.0)), verdict) == (FORM_ONLY if fails else "")
    assert decoupled(Figure(9.0, (3.0, 29.9)), verdict) == (FUNCTION_ONLY if passes else "")
    assert decoupled(Figure(90.0, (29.9, 300.0)), verdict) == decoupled(Figure(9.0, (3.0, 30.0)), verdict) == ""
    assert decoupled(None, verdict) == ""


@pytest.mark.parametrize(
    ("selectivity", "loss", "as_large", "what"),
    [
        (3.1, 0.8470, 0.0, FUNCTION_ONLY),  # Pythia-1B, first-token, step 1000
        (11.3, 0.5322, 0.0, FUNCTION_ONLY),  # step 3000
        (74.1, -0.0594, 1.0, FORM_ONLY),  # Pythia-1B, previous-token, step 512
        (4.6, 0.0701, 0.0, FUNCTION_ONLY),  # OLMoE, first-token, step 5000
        (29.6, -0.2828, 0.4, ""),  # step 100,000: just below the threshold, and no function
        (186.6, -0.2760, 0.4, FORM_ONLY),  # step 200,000
        (0.6, 0.0990, 0.2, ""),  # OLMo-1B, step 1000: one of five control groups does as much
    ],
)
def test_published_developmental_closures_decouple_in_both_directions(
    selectivity: float, loss: float, as_large: float, what: str
) -> None:
    """Damage is a rising loss; a published group passes where none of its five control groups does as much."""
    verdict = Verdict.WRONG_DIRECTION if loss < 0 else Verdict.NOT_SPECIFIC if as_large else Verdict.PASS
    assert decoupled(Figure(selectivity), verdict) == what


@pytest.mark.parametrize(
    ("means", "crossing"),
    [
        ({5000: 4.6, 100000: 29.6, 200000: 186.6}, Crossing(200000, 100000)),  # published: between 419 and 838 B tokens
        ({512: 1.1, 1000: 3.1, 3000: 11.3, 143000: 96.6}, Crossing(143000, 3000)),
        ({1000: 0.6, 1454000: 102.0}, Crossing(1454000, 1000)),
    ],
)
def test_first_token_heads_of_the_published_models_emerge_where_the_paper_says(
    means: dict[int, float], crossing: Crossing
) -> None:
    assert first(list(means), [mean >= SELECTIVE for mean in means.values()]) == crossing


def test_the_participation_ratio_of_a_published_head_leads_its_selectivity() -> None:
    steps, ratio, selectivity = list(L4H4), [pr for pr, _ in L4H4.values()], [s for _, s in L4H4.values()]
    assert first(steps, [value >= RICH for value in ratio]) == Crossing(256, 1)
    assert half_risen(steps, ratio) == Crossing(256, 1)  # from 1.96 to 48.05: half is 25.0
    assert first(steps, [value >= SELECTIVE for value in selectivity]) == Crossing(3000, 512)
    assert half_risen(steps, selectivity) == Crossing(3000, 512)
