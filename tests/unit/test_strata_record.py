"""What a record says of strata: their sizes and baselines, routing entropy, and what groups do outside their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import HarnessError, Recording, Rows, Subject, UnitSpace, method
from harness.board.card import card
from harness.board.recomputed import contradictions
from harness.board.selectivity import candidates_of
from harness.board.table import build
from harness.board.write import as_csv, as_data
from harness.cells.inputs import cache_of
from harness.cells.progress import Progress
from harness.cells.selectivity import SELECTIVITY
from harness.closure.cases import cases_of
from harness.closure.report import close
from harness.closure.trial import Trial
from harness.data.contracts import no_tick
from harness.data.routing import RoutingEntropy
from harness.notebook.choices import cell_of
from harness.pipeline import run_cell
from harness.records.reader import parse_record
from harness.records.record import Record
from harness.testing import examples
from harness.util.cache import Memo

pytestmark = pytest.mark.unchecked

WORDS = (
    "subject=planted",
    "batch=planted",
    "batch.n=256",
    "reruns=0",
    "controls.n=19",
    "futility=null",
    "tracking=none",
)
STRATA = ("stratifier=groups", "stratifier.by=stratum", "stratifier.smallest=10", "scope=stratum")


def run(folder: Path, *words: str, test: bool = True, strata: tuple[str, ...] = STRATA) -> Any:
    cell = cell_of((*WORDS, *strata, f"workspace={folder}", *words), {})
    return run_cell(cell, Memo(disk=cache_of(cell)), Progress(quiet=True), test)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The routed circuit of a planted world, which stratum 0 alone uses."""
    subject = method("subject", "planted")()
    group = ",".join(subject.units.names(subject.groups["routed"][0]))
    return run(tmp_path_factory.mktemp("routed"), f"group=[{group}]")


# ----------------------------------------------------------------------------------------------------------------------
# Strata
# ----------------------------------------------------------------------------------------------------------------------


def test_strata_have_their_sizes_in_both_halves_and_the_baseline_of_their_tested_examples(routed: Any) -> None:
    record = routed.record
    assert [stratum.name for stratum in record.strata] == ["0", "1", "2", "3"]
    assert sum(stratum.n_tested for stratum in record.strata) == 256
    for stratum, closure in zip(record.strata, record.closure, strict=True):
        assert (stratum.n_proposed, stratum.n_tested) == (closure.n_proposed, closure.n_examples)
        assert stratum.baseline == pytest.approx({name: of.baseline for name, of in closure.effects.items()})
        assert stratum.routing_entropy is None  # a planted world has no routers


def test_the_selectivity_of_a_circuit_of_one_stratum_is_on_the_board(routed: Any) -> None:
    """The mean over all other strata is what the record says of the outside; the circuit is selective in stratum 0."""
    record, tested = routed.record, {stratum.name: stratum.n_tested for stratum in routed.record.strata}
    found = list(record.diagnostics[SELECTIVITY].values())
    assert [entry["stratum"] for entry in found] == ["0", "1", "2", "3"]
    for entry, closure in zip(found, record.closure, strict=True):
        effect = closure.effects[entry["metric"]]
        assert entry["on"]["mean"] == pytest.approx(effect.damage * effect.delta)
        assert set(entry["off"]) == set(tested) - {entry["stratum"]}
        whole = sum(tested[name] * off["mean"] for name, off in entry["off"].items()) / closure.n_outside
        assert whole == pytest.approx(effect.damage * closure.outside[entry["metric"]].delta)
    first, *others = candidates_of(parse_record(record.to_json(), "3f9c", ""))
    assert first.by_points
    assert first.by_intervals
    assert first.ratio is not None
    assert first.ratio < 0.1
    assert not any(other.by_points for other in others)
    (board,) = build([replace(record, config={**record.config, "group": None})])  # boards are of proposed groups
    (row,) = [row for row in board.rows if row.results]
    assert row.selectivity is not None
    assert (row.selectivity.by_points, row.selectivity.by_intervals, row.selectivity.candidates) == (1, 1, 4)
    assert "selectivity_by_points" in as_csv([board])


def test_boards_without_strata_have_no_selectivity(tmp_path: Path) -> None:
    record = run(tmp_path, "chooser=modularity", strata=()).record
    assert SELECTIVITY not in record.diagnostics
    assert "selectivity" not in json.dumps(as_data(build([record])))


def test_a_cell_that_is_not_tested_describes_its_strata_without_metrics(tmp_path: Path) -> None:
    record = run(tmp_path, "chooser=modularity", test=False).record
    assert [stratum.baseline for stratum in record.strata] == [{}] * 4
    assert sum(stratum.n_proposed for stratum in record.strata) == 128


def test_a_cell_without_strata_describes_none(tmp_path: Path) -> None:
    assert run(tmp_path, "group=[L2H4,L2H9]", strata=()).record.strata == ()


def entropy_of(*layers: np.ndarray) -> np.ndarray:
    """The entropy from the readings of several routers [examples, experts]."""
    batch = examples.batch(len(layers[0]))
    rows = [
        Rows("router", f"L{i}.moe", p[:, :, None], batch, batch, np.arange(len(batch))) for i, p in enumerate(layers)
    ]
    return RoutingEntropy.of(np.concatenate([RoutingEntropy().read(each) for each in rows], axis=1))


def test_routing_entropy_is_that_of_every_example_averaged_over_layers() -> None:
    """Layers of different sizes count alike. Entropies of mean probabilities would be ln 2 for both layers here."""
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    even = np.full((2, 8), 1 / 8)
    assert entropy_of(certain).tolist() == [0.0, 0.0]
    assert entropy_of(even) == pytest.approx([np.log(8)] * 2)
    assert entropy_of(certain, even) == pytest.approx([np.log(8) / 2] * 2)
    assert entropy_of(4 * even, even) == pytest.approx([np.log(8)] * 2)  # a sigmoid router does not sum to 1


def test_the_published_overall_entropy_is_the_mean_of_its_strata_as_of_examples() -> None:
    """Closure paper, appendix A: the entropy is linear in the examples, so it is each example's own."""
    sizes, entropies = [541, 637, 408, 414], [3.782, 3.663, 3.792, 3.758]
    assert np.average(entropies, weights=sizes) == pytest.approx(3.741, abs=5e-4)


def test_a_subject_with_routers_gets_their_entropy_by_stratum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Routers that give stratum s two, four, ... equal experts: the entropy is the logarithm of their number."""
    subject: Any = type(method("subject", "planted")())
    plain: Callable[..., Recording] = subject.record

    def record(self: Subject, batch: Any, readers: Mapping[str, Any], tick: Any) -> Recording:
        routers = {name: reader for name, reader in readers.items() if reader.source == "router"}
        found = plain(self, batch, {name: r for name, r in readers.items() if name not in routers}, tick)
        strata = batch.groups["stratum"]
        p = (np.arange(16) < 2 ** (1 + strata)[:, None]) / 2.0 ** (1 + strata)[:, None]
        rows = Rows("router", "L0.moe", p[:, :, None], batch, batch, np.arange(len(batch)))
        return replace(found, readings={**found.readings, **{n: r.read(rows) for n, r in routers.items()}})

    monkeypatch.setattr(subject, "sources", {**subject.sources, "router": "probability of each expert"})
    monkeypatch.setattr(subject, "record", record)
    result = run(tmp_path, "group=[L2H4,L2H9]", "cache=false", "batch.n=128").record
    found = [stratum.routing_entropy for stratum in result.strata]
    assert found == pytest.approx([np.log(2 ** (1 + s)) for s in range(4)])
    assert "routing entropy (nats)" in card(result)


# ----------------------------------------------------------------------------------------------------------------------
# Outside
# ----------------------------------------------------------------------------------------------------------------------


def test_a_routed_circuit_has_the_largest_gap_in_its_stratum_and_none_elsewhere(routed: Any) -> None:
    inside = {closure.stratum: closure for closure in routed.record.closure}
    own = inside["0"].outside["logit_difference"]
    assert own.gap > 1
    assert own.p == 1 / 20
    assert abs(own.delta) < 0.05 * own.gap
    assert inside["0"].n_outside == 256 - inside["0"].n_examples
    for name in "123":
        assert inside[name].outside["logit_difference"].gap < 0  # its damage is outside these


def test_changes_inside_and_outside_make_the_change_on_all_examples(routed: Any, tmp_path: Path) -> None:
    group = ",".join(routed.record.closure[0].units)
    (whole,) = run(tmp_path, f"group=[{group}]", strata=()).record.closure
    for closure in routed.record.closure:
        for name, outside in closure.outside.items():
            n, m = closure.n_examples, closure.n_outside
            delta = (n * closure.effects[name].delta + m * outside.delta) / (n + m)
            assert delta == pytest.approx(whole.effects[name].delta, abs=1e-6)
            assert outside.interval[0] <= outside.delta <= outside.interval[1]


INSIDE = {  # closure paper, test 5: baseline, candidate and its five controls on stratum 1, then on all other examples
    "loss": [4.2024, 3.5556, 4.1509, 4.2177, 3.9700, 4.2181, 4.0355],
    "accuracy": [0.5620, 0.5447, 0.5416, 0.5542, 0.5683, 0.5259, 0.5495],
    "target_logit": [14.5870, 13.0688, 13.7520, 13.9973, 14.1227, 13.4011, 14.1016],
}
OUTSIDE = {
    "loss": [7.6487, 6.4039, 7.5384, 7.5450, 7.3543, 7.4283, 7.3719],
    "accuracy": [0.1284, 0.1401, 0.1240, 0.1262, 0.1335, 0.1211, 0.1284],
    "target_logit": [8.2786, 8.5138, 8.1044, 8.0571, 8.1201, 8.1529, 8.1607],
}


def published(metrics: Sequence[str]) -> Trial:
    """The published means as a trial: unit 0 is the candidate, units 1 to 5 the controls."""
    inside, outside = examples.batch(8), examples.batch(9)

    def evaluate(batch: Any, conditions: Any, *_: Any) -> np.ndarray:
        table = INSIDE if len(batch) == 8 else OUTSIDE
        means = [[table[name][1 + group[0] if len(group) == 1 else 0] for group in conditions] for name in metrics]
        return np.repeat(np.array(means)[:, :, None], len(batch), axis=2)

    return Trial(
        UnitSpace.heads([6]),
        evaluate,
        inside,
        method("intervention", "zero"),
        method("controls", "layer_matched"),
        [method("metric", name) for name in metrics],
        ddof=0,
        futility=None,
        test="disjoint",
        deciding="all",
        stratum="1",
        in_stratum=True,
        outside=outside,
    )


def test_the_published_route_specificity_gaps_are_reproduced() -> None:
    """By target logit the community is route-specific, 4.25 deviations beyond its controls; by loss it is the reverse.

    Our gaps are damage: the paper's -1.753 in target logit is +1.753, its +.598 in loss stays.
    """
    trial = published(["target_logit", "accuracy", "loss"])
    (found,) = close(cases_of([(0,)], trial), trial, no_tick)
    logit, accuracy, loss = found.report.outside.values()
    assert (logit.gap, np.mean(logit.gaps), np.std(logit.gaps)) == pytest.approx((1.753, 0.553, 0.282), abs=1e-3)
    assert logit.z == pytest.approx(4.25, abs=0.02)
    assert logit.p == 1 / 6
    assert (accuracy.gap, np.mean(accuracy.gaps), np.std(accuracy.gaps)) == pytest.approx(
        (0.029, 0.012, 0.010), abs=1e-3
    )
    assert accuracy.z == pytest.approx(1.65, abs=0.03)
    assert (loss.gap, np.mean(loss.gaps), np.std(loss.gaps)) == pytest.approx((0.598, 0.117, 0.064), abs=1e-3)
    assert (logit.delta, loss.delta) == pytest.approx((0.2352, -1.2448), abs=1e-3)


def test_p_of_a_gap_is_left_out_where_testing_stopped_early() -> None:
    """The groups that count were then chosen by their statistic."""
    trial = replace(published(["loss"]), futility=1, test="exact", controls=method("controls", "layer_matched"))
    trial = replace(trial, units=UnitSpace.heads([40]), alpha=0.05)

    def evaluate(batch: Any, conditions: Any, *_: Any) -> np.ndarray:
        values = [[sum(group) * (1.0 + len(batch) % 2) for group in conditions]]
        return np.repeat(np.array(values)[:, :, None], len(batch), axis=2)

    trial = replace(trial, evaluate=evaluate)
    (found,) = close(cases_of([(0,)], trial), trial, no_tick)
    outside = found.report.outside["loss"]
    assert found.report.stopped_early
    assert (len(outside.gaps), outside.p) == (found.report.n_controls, None)


# ----------------------------------------------------------------------------------------------------------------------
# The record, its card and its reader
# ----------------------------------------------------------------------------------------------------------------------


def test_a_card_shows_strata_in_a_table_and_the_gap_in_a_line(routed: Any) -> None:
    record = routed.record
    text = card(record)
    head, *rows = text.split("\n\n")[-1].splitlines()
    assert head.split() == [
        *("strata", "proposed", "tested", "logit", "difference", "accuracy", "target", "logit", "loss")
    ]
    assert [row.split()[:3] for row in rows] == [[s.name, str(s.n_proposed), str(s.n_tested)] for s in record.strata]
    gap = record.closure[0].outside["logit_difference"].gap
    assert f"route-specificity gap {gap:+.2f} (0 of 19 groups have as large a gap, p 0.050; z " in text


def edited(record: Record, *keys: str | int, value: Any) -> str:
    data = json.loads(record.to_json())
    inside: Any = data
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = value
    return json.dumps(data)


GAP = ("closure", 0, "outside", "loss")


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (("strata", 0, "name"), "1", "strata: their names do not tell them apart"),
        (("strata", 0, "n_tested"), -1, "strata.0: a number of examples is below zero"),
        (("strata", 0, "baseline"), {"made_up": 1.0}, "strata.0.baseline: it has a metric without an effect"),
        (("strata", 0, "baseline"), {"loss": "low"}, "strata.0.baseline.loss: "),
        (("strata", 0, "routing_entropy"), True, "strata.0.routing_entropy: "),
        (("strata", 0, "other"), 1, "strata.0.other: "),
        (("closure", 0, "outside", "made_up"), None, "closure.0.outside.made_up: "),
        ((*GAP, "gaps"), [1.0], "closure.0.outside.loss.gaps: 1 for 19 groups"),
        (("closure", 0, "n_outside"), None, "closure.0.n_outside: None with 4 metrics outside"),
        (("strata_null",), {"agreement": 0.1, "null": [], "runs": 9, "z": None, "p": 1.0}, "strata_null.null: 0 of 9"),
    ],
)
def test_strata_that_no_later_step_could_use_are_refused(
    routed: Any, keys: tuple[str | int, ...], value: Any, problem: str
) -> None:
    with pytest.raises(HarnessError, match="is damaged") as caught:
        parse_record(edited(routed.record, *keys, value=value), "3f9c", "")
    assert problem in caught.value.what


@pytest.mark.parametrize(
    ("keys", "value", "problem"),
    [
        (("strata", 0, "n_tested"), 3, "candidate 1: it is judged on"),
        (("strata", 0, "n_proposed"), 3, "candidate 1: it is proposed on"),
        (("strata", 0, "n_proposed"), 400, "its strata hold"),
        (("strata", 0, "name"), "nine", "candidates are of strata ['0'], which it does not describe"),
        ((*GAP, "gap"), 9.0, "candidate 1: loss: its gap is 9.0, but its changes inside and outside make"),
        ((*GAP, "p"), 0.5, "candidate 1: loss: p of its gap is 0.5"),
        ((*GAP, "z"), 99.0, "candidate 1: loss: z of its gap is 99.0"),
        ((*GAP, "interval"), [7.0, 8.0], "candidate 1: loss: its interval outside [7.0, 8.0]"),
        (
            ("strata_null",),
            {"agreement": 0.9, "null": [0.1, 0.2, 0.3], "runs": 3, "z": 7.0, "p": 0.5},
            "p and z of the random strata are 0.5 and 7.0",
        ),
    ],
)
def test_figures_of_strata_that_do_not_follow_from_others_are_named(
    routed: Any, keys: tuple[str | int, ...], value: Any, problem: str
) -> None:
    assert not [
        found for found in contradictions(routed.record) if "chosen" not in found and "tested groups" not in found
    ]
    found = list(contradictions(parse_record(edited(routed.record, *keys, value=value), "3f9c", "")))
    assert any(problem in each for each in found), found
