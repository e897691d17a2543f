"""Cards: the verdict and its reason first, then the numbers behind it, then the next commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.board.card import card
from harness.board.decomposition import fidelity_notes
from harness.closure.anatomy import OnInput
from harness.closure.verdict import Verdict
from harness.data.units import Unit, UnitSpace
from harness.records.record import Record, Status

Make = Callable[..., Any]


def test_a_card_gives_the_verdict_first_and_then_the_numbers_behind_it(make_record: Make, make_effect: Make) -> None:
    effects = {
        "target_logit": make_effect(),
        "loss": make_effect(
            baseline=1.0, ablated=3.5, delta=2.5, interval=(2.0, 3.0), damage=1, z=3.25, p_adjusted=0.02
        ),
    }
    lines = card(make_record(effects=effects, verdict=Verdict.WEAK_PASS)).splitlines()
    assert lines[0].startswith("L0H1 L1H0 L1H2   3 units, 2 sites")
    assert lines[1] == "WEAK PASS  because"
    assert "  0 of 99 distinct controls did at least as much damage to target logit" in lines
    logit, loss = (next(line for line in lines if line.strip().startswith(name)) for name in ("target logit", "loss"))
    assert logit.split()[2] == "↓"  # damage lowers it
    assert loss.split()[1] == "↑"  # damage raises it
    assert {"1.00", "3.50", "+2.50", "[+2.00,", "+3.00]", "0.010", "0.020"} <= set(loss.split())
    assert "all units of these sites: target logit -4.00 (this group: 50 %)" in "\n".join(lines)
    assert "proposed on 30 examples, tested on 20 others" in "\n".join(lines)
    assert "note: affinity: constant: 1 unit (L0H0)" in "\n".join(lines)


def test_a_card_says_when_a_group_is_tested_on_the_examples_it_was_chosen_on(make_record: Make) -> None:
    assert "proposed and tested on the same 20 examples: p-values are too small" in card(make_record(split="none"))
    assert "group named by hand, tested on all 20 examples" in card(make_record(group=["L0H1"]))


def test_a_card_says_when_the_labels_chose_the_number_of_groups(make_record: Make) -> None:
    text = card(make_record())
    assert "partition: k = 3; ARI with the labels 0.25\n" in text
    assert "stability (ARI): 0.90 with other orders and seeds, 0.40 on resampled examples" in text
    by_labels = make_record(supervised=("chooser",))
    assert "k = 3 (chosen by the labels); ARI with the labels" in card(by_labels)


def test_a_card_shows_undefined_values_as_a_dash_and_saturation_in_words(make_record: Make, make_effect: Make) -> None:
    bare = make_effect(controls=(), z=None, p=None, p_adjusted=None, interval=None, saturated=True)
    line = next(line for line in card(make_record(effect=bare)).splitlines() if line.strip().startswith("target logit"))
    assert line.split("(one example)")[1].split() == ["none", "-", "-", "(saturated:", "cannot", "get", "worse)"]


def test_a_card_names_layers_without_enough_controls(make_record: Make) -> None:
    record = make_record()
    closure = type(record.closure[0])(**{**vars(record.closure[0]), "shortfall": {"L0.attn": 2}})
    text = card(Record(**{**vars(record), "closure": (closure,)}))
    assert "not fully matched: L0.attn lacks 2" in text


def test_a_card_counts_the_sites_of_units_of_every_kind(make_record: Make) -> None:
    """A layer can have two sites: its experts and its heads."""
    places = (
        ("L2E1", "L2.experts"),
        ("L2E40", "L2.experts"),
        ("L2H0", "L2.attn"),
        ("L11E3", "L11.experts"),
        ("L11H0", "L11.attn"),
    )
    units = UnitSpace(tuple(Unit(label, site, int(site[1:].split(".")[0])) for label, site in places))
    record = replace(make_record(), units=units.labels, sites=units.runs, partitions=())
    for chosen, sites in ((("L2E1", "L2E40"), "1 site "), (("L2E40", "L2H0", "L11E3"), "3 sites")):
        closure = replace(record.closure[0], units=chosen, anatomy={}, dispensable=())
        assert f"{len(chosen)} units, {sites}" in card(replace(record, closure=(closure,)))


def test_a_card_shows_the_anatomy_of_the_group(make_record: Make) -> None:
    record = make_record()
    spare = replace(record.closure[0], dispensable=("L1H0",))
    complete = {"completeness": {" ".join(spare.units): {"target_logit": 0.125}}}
    text = card(replace(record, closure=(spare,), diagnostics=complete))
    each = "necessity of each unit (target logit): L0H1 1.00  L1H0 0.00  L1H2 0.50"
    assert f"{each}   (can be spared: L1H0)" in text
    assert "interaction -0.25" in text
    assert "sufficiency 75 %; completeness 12 %" in text
    assert "active on 7 examples: -3.00, off-input -0.12" in text
    assert "contrast batch -0.50" in text
    assert "against the best groups of the same pipeline on permuted data: p 0.020" in text


def test_a_card_gives_the_place_of_the_group_among_those_of_its_profile(make_record: Make, make_effect: Make) -> None:
    """Three of 39 groups have at least its T of 0.75: p = 4/40."""
    effect = make_effect(
        controls=tuple(-i / 100 for i in range(39)),
        p=0.1,
        p_adjusted=0.1,
        statistic=0.75,
        statistics=(0.8, 0.9, 0.75, *(0.1,) * 36),
        share=0.2,
        disjoint=20,
        beyond=(-2.5, -1.25),
    )
    (closure,) = make_record(effect=effect).closure
    groups = tuple((0, 2 + i % 3) if i > 30 else (1, 2 + i % 3) for i in range(39))
    exact = replace(
        closure,
        test="exact",
        profile={"L0.attn": 1, "L1.attn": 2},
        comparable=223,
        stopped_early=True,
        groups=groups,
        task="The model does this task: accuracy 1.00 (chance 0.1).",
        task_done=True,
    )
    lines = card(replace(make_record(), closure=(exact,))).splitlines()
    assert lines[2] == "  The model does this task: accuracy 1.00 (chance 0.1)."
    profile = "1 in L0.attn, 2 in L1.attn"
    place = f"  T 0.75: place 4 among 40 groups with {profile}, stopped early: 223 others have this profile"
    assert place in lines
    damage = "4 of 20 groups that share no unit with it do as much (z -8.0); beyond their mean: [-2.50, -1.25]"
    assert f"  plain damage: {damage}" in lines
    assert "  L0H0 is in 5 of the 5 most damaging groups (of all 39: 8)" in lines
    alone = replace(exact, effects={"target_logit": replace(effect, p=None, controls=())}, groups=())
    assert f"  no other group has {profile}" in card(replace(make_record(), closure=(alone,)))


def test_a_card_counts_changed_examples_where_they_are_few(make_record: Make, make_effect: Make) -> None:
    text = card(make_record(effect=make_effect(interval=None, changed=(3, 1))))
    assert "-2.00 (3 worse, 1 better)" in text


def test_a_card_names_the_units_that_were_dropped_before_the_test(make_record: Make) -> None:
    record = make_record()
    pruned = replace(record.candidates[0], pruned=("L0H0", "L1H1"))
    text = card(replace(record, candidates=(pruned,)))
    assert "dropped before the test, by ablation on the proposal half: L0H0 L1H1" in text


def test_a_card_of_the_former_test_has_the_verdict_of_the_closure_paper(make_record: Make, make_effect: Make) -> None:
    """z of -2 among controls from 0 to .98: (-2 - .49) / .286 = -8.7."""
    text = card(make_record(effect=make_effect()))
    assert "by the closure paper's rule: pass (every metric is damaged, the largest z is 8.7)" in text


def test_a_card_says_when_the_group_was_never_active(make_record: Make) -> None:
    record = make_record()
    (closure,) = record.closure
    inside = replace(closure.anatomy["target_logit"], on_input=OnInput(0, None, (), None, None, None, None))
    never = replace(closure, anatomy={"target_logit": inside})
    assert "never active on these examples" in card(replace(record, closure=(never,)))


def test_a_card_shows_the_number_of_controls_behind_p(make_record: Make, make_effect: Make) -> None:
    """Spread by 4 about their mean of -1, controls of -1.5 and -0.5 become -3 and 1: half do more damage than -2."""
    effect = make_effect(controls=(-1.5, -0.5) * 10)
    (closure,) = make_record(effect=effect).closure
    stopped = replace(closure, n_controls=20, inflation=4.0, stopped_early=True)
    text = card(replace(make_record(), closure=(stopped,)))
    assert "stopped early: 10 of 20 distinct controls did at least as much damage to target logit" in text
    assert "(their spread inflated by 4.00)" in text
    assert "no p-value: 20 distinct controls" in card(
        replace(make_record(), closure=(replace(stopped, inflation=None),))
    )


@pytest.mark.parametrize("note", [0.93, 7, "odd", {"a": 1}, ["L0H0"], True])
def test_a_card_shows_whatever_a_plugin_notes(make_record: Make, note: Any) -> None:
    record = Record(**{**vars(make_record()), "diagnostics": {"affinity": {"spectral_radius": note}}})
    assert "note: affinity: spectral radius:" in card(record)


@pytest.mark.parametrize("note", [0, "", [], {}, None, False])
def test_a_card_omits_empty_parts(make_record: Make, note: Any) -> None:
    record = Record(**{**vars(make_record()), "diagnostics": {"affinity": {"spectral_radius": note}}})
    assert "note:" not in card(record)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_the_card_of_an_unfinished_cell_gives_the_reason(make_record: Make, status: Status) -> None:
    first = card(make_record(status=status)).splitlines()[0]
    assert first == f"{status.value.upper()}  no reason"


def test_a_card_ends_with_the_path_of_the_record_and_the_next_commands(make_record: Make, tmp_path: Path) -> None:
    last = card(make_record(), tmp_path).splitlines()[-2:]
    assert str(tmp_path / "record.json") in last[0]
    assert "harness show partitioner spectral" in last[1]


def test_a_card_says_how_faithful_a_decomposition_is() -> None:
    measured = {"errors": "KL divergence", "error masked": 0.6314, "error nothing": 2.7, "trained": "yes",
                "l0 a": 1.5, "l0 b": 2, "mmcs a": 0.99999, "alive": {"a": 3}}  # fmt: skip
    assert fidelity_notes(measured) == [
        "  note: subject: KL divergence of the decomposed model: 0.631 with importances as masks, 2.7 with no "
        "subcomponent",
        "  note: subject: needed by an example: a 1.5, b 2; MMCS: a 1",
    ]
    assert fidelity_notes({"tied": False, "alive": {"a": 3}}) == fidelity_notes(None) == []
