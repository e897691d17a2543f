"""Boards: which rows are ranked, tied or only listed, and how boards are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.board.board import Board
from harness.board.columns import METHOD, RANK, nonempty
from harness.board.found import found, separated
from harness.board.markdown import markdown
from harness.board.table import build
from harness.board.write import as_csv, write_boards
from harness.closure.size_curve import SizeCurve
from harness.closure.statistics import wilson_interval
from harness.closure.verdict import Verdict
from harness.data.grouping import Stability
from harness.records.record import Record, Status
from harness.records.workspace import Workspace

Make = Callable[..., Any]
PASS, WEAK, NULL = Verdict.PASS, Verdict.WEAK_PASS, Verdict.NULL


def one(records: list[Record]) -> Board:
    """The only board of the records, without references that were not run."""
    (board,) = build(records)
    return replace(board, rows=tuple(row for row in board.rows if row.cells))


def results(make: Make, **verdicts: list[Verdict]) -> list[Record]:
    """Each method's verdict on the subjects s0, s1, ..."""
    return [
        make(method=method, subject=f"s{i}", verdict=verdict)
        for method, found in verdicts.items()
        for i, verdict in enumerate(found)
    ]


def test_the_newest_record_of_a_method_on_a_task_counts(make_record: Make) -> None:
    old = make_record(cell="old", verdict=NULL, started="2026-01-01T00:00:00+00:00")
    new = make_record(cell="new", verdict=PASS, started="2026-01-02T00:00:00+00:00")
    for records in ([old, new], [new, old]):
        (row,) = one(records).rows
        assert (row.passed, row.tests, row.cells) == (1, 1, ("new",))


def scored(make: Make, make_effect: Make, **p_values: list[float | None]) -> list[Record]:
    """Each method's p on the subjects s0, s1, ..."""
    return [
        make(method=method, subject=f"s{i}", effect=make_effect(p=p))
        for method, found in p_values.items()
        for i, p in enumerate(found)
    ]


def test_methods_are_ranked_by_their_mean_score(make_record: Make, make_effect: Make) -> None:
    """1 - 2p: .98 and .9; .9 and 0; -.2 and 0 where p is undefined."""
    board = one(scored(make_record, make_effect, worst=[0.6, None], best=[0.01, 0.05], middle=[0.05, 0.5]))
    assert [(row.rank, row.method) for row in board.rows] == [(1, "best"), (2, "middle"), (3, "worst")]
    assert [row.score for row in board.rows] == pytest.approx([0.94, 0.45, -0.1])
    assert [row.passed_interval for row in board.rows] == [wilson_interval(2, 2)] * 3


def test_tied_rows_share_a_rank_and_the_next_rank_skips_them(make_record: Make, make_effect: Make) -> None:
    board = one(scored(make_record, make_effect, a=[0.1, 0.1], b=[0.2, 0.3], c=[0.3, 0.2], d=[0.5, 0.5]))
    assert [(row.rank, row.method) for row in board.rows] == [(1, "a"), (2, "b"), (2, "c"), (4, "d")]


def test_a_method_that_passed_nothing_has_no_rank_whatever_its_score(make_record: Make, make_effect: Make) -> None:
    records = scored(make_record, make_effect, ranked=[0.2, 0.2])
    records += [make_record(method="none", subject=f"s{i}", verdict=NULL, effect=make_effect(p=0.01)) for i in (0, 1)]
    weak = [make_record(method="weak", subject=f"s{i}", verdict=verdict) for i, verdict in enumerate((WEAK, NULL))]
    assert [(row.rank, row.method) for row in one([*records, *weak]).rows] == [
        (1, "weak"),
        (2, "ranked"),
        (None, "none"),
    ]
    assert [RANK.text(row) for row in one(records).rows] == ["1", "-"]


def test_interventions_on_the_same_examples_are_one_task(make_record: Make, make_effect: Make) -> None:
    """Scores .8, .4 and 0 by intervention on s0, and .6 on s1: (.4 + .6) / 2, over two tasks."""

    def cell(subject: str, intervention: str, p: float) -> Record:
        record = make_record(
            subject=subject, cell=subject + intervention, effect=make_effect(p=p), intervention={"name": intervention}
        )
        return replace(record, cell=replace(record.cell, intervention=intervention))

    cells = [("s0", "zero", 0.1), ("s0", "mean", 0.3), ("s0", "patching", 0.5), ("s1", "zero", 0.2)]
    board = one([cell(*each) for each in cells])
    (row,) = board.rows
    assert len(board.tasks) == 4
    assert list(row.score_by_task.values()) == pytest.approx([0.4, 0.6])
    assert row.score == pytest.approx(0.5)


def test_no_more_than_three_candidates_count_in_the_order_of_the_selector(make_record: Make, make_effect: Make) -> None:
    """p = .1, .2, .3 and then .5: the mean of .8, .6 and .4."""
    closures = tuple(make_record(effect=make_effect(p=p)).closure[0] for p in (0.1, 0.2, 0.3, 0.5))
    assert one([replace(make_record(), closure=closures)]).rows[0].score == pytest.approx(0.6)


@pytest.mark.parametrize("verdict", [Verdict.UNDERPOWERED, Verdict.TASK_NOT_DONE])
def test_a_group_that_could_not_be_tested_scores_as_random_groups_do(
    make_record: Make, make_effect: Make, verdict: Verdict
) -> None:
    records = [make_record(subject="s0", effect=make_effect(p=0.1)), make_record(subject="s1", verdict=verdict)]
    board = one(records)
    assert (board.rows[0].score, board.groups) == (pytest.approx(0.4), 1)


def test_a_method_that_proposes_nothing_has_the_score_of_random_groups(make_record: Make, make_effect: Make) -> None:
    records = scored(make_record, make_effect, silent=[0.1])
    records.append(make_record(method="silent", subject="s1", status=Status.SKIPPED))
    assert one(records).rows[0].score == pytest.approx(0.4)


def test_the_size_curve_is_shown_and_not_ranked_by(make_record: Make, make_effect: Make) -> None:
    """1 - 2p = .8. Damage 3 and 4 between pools of 1 and 2 and greedy groups of 5 and 4: (1/2 + 1) / 2 = .75."""
    curve = SizeCurve((1, 2), ("L0H0", "L0H1"), ("L1H0", "L1H1"), 5, (3.0, 4.0), (5.0, 4.0), (1.0, 2.0))
    plain = [make_record(method=method, effect=make_effect(p=0.1)) for method in ("a", "b")]
    rows = one([replace(plain[0], size_curve=curve), plain[1]]).rows
    assert [row.score for row in rows] == pytest.approx([0.8, 0.8])
    assert [row.rank for row in rows] == [1, 1]
    assert {row.scores.size_curve for row in rows} == {0.75, None}


def test_tied_rows_are_ordered_by_q(make_record: Make, make_effect: Make) -> None:
    """Scores of .8: two candidates with p = .1, or one with .04 and one with .16."""
    p_values = {"a": (0.04, 0.16), "b": (0.1, 0.1)}
    records = []
    for i, (method, pair) in enumerate(p_values.items()):
        closures = [make_record(effect=make_effect(p=p)).closure[0] for p in pair]
        named = tuple(replace(closure, units=(f"L{i}H{j}",)) for j, closure in enumerate(closures))
        records.append(replace(make_record(method=method), closure=named))
    board = one(records)
    assert [(row.rank, row.method) for row in board.rows] == [(1, "b"), (1, "a")]
    assert [row.q for row in board.rows] == pytest.approx([0.4 / 3, 0.16])


@pytest.mark.parametrize("status", [None, Status.FAILED, Status.INTERRUPTED, Status.INVALID])
def test_a_method_that_lacks_a_task_is_listed_and_not_ranked(make_record: Make, status: Status | None) -> None:
    records = results(make_record, whole=[PASS, NULL], lacking=[PASS])
    if status:
        records.append(make_record(method="lacking", subject="s1", status=status))
    whole, lacking = one(records).rows
    assert (whole.method, whole.rank) == ("whole", 1)
    assert (lacking.method, lacking.rank) == ("lacking", None)
    (missing,) = lacking.missing
    assert missing.task == "s1 · synthetic_induction (successor) · zero"
    assert missing.reason == (f"{status.value}: no reason" if status else "not run")
    if status is Status.INVALID:
        assert not missing.command  # it would be refused again


def test_a_task_without_a_proposal_counts_as_a_test_not_passed(make_record: Make) -> None:
    records = results(make_record, silent=[PASS], other=[PASS, PASS])
    records.append(make_record(method="silent", subject="s1", status=Status.SKIPPED))
    other, silent = one(records).rows
    assert (other.method, other.passed, other.tests) == ("other", 2, 2)
    assert (silent.method, silent.passed, silent.tests, silent.rank, silent.missing) == ("silent", 1, 2, 2, ())


def test_several_candidates_of_a_cell_are_several_tests(make_record: Make) -> None:
    record = make_record(method="twice")
    doubled = Record(**{**vars(record), "closure": record.closure * 2})
    assert (one([doubled]).rows[0].tests, one([doubled]).rows[0].passed) == (2, 2)


def test_q_values_are_corrected_over_the_distinct_groups_of_methods(make_record: Make, make_effect: Make) -> None:
    """Benjamini-Hochberg by hand: p = .01, .02, .03, .5 -> q = .04, .04, .04, .5.

    A group that two methods propose is one test, and the groups of references are none.
    """
    p = {("a", "s0"): 0.01, ("a", "s1"): 0.03, ("b", "s2"): 0.02, ("b", "s3"): 0.5, ("c", "s0"): 0.01}
    records = [make_record(method=m, subject=s, effect=make_effect(p=value)) for (m, s), value in p.items()]
    baseline = make_record(method="random", subject="s0", effect=make_effect(p=0.9), partitioner={"name": "random"})
    records.append(replace(baseline, closure=(replace(baseline.closure[0], units=("L0H0",)),)))
    bridge = [make_record(method="d", subject=f"s{i}", status=Status.SKIPPED) for i in range(4)]  # joins the tasks
    board = one([*records, *bridge])
    found = {row.method: row.q for row in board.rows}
    assert found == {"a": pytest.approx(0.04), "b": 0.5, "c": pytest.approx(0.04), "d": None, "random": None}
    assert (board.groups, board.discoveries) == (4, 3)


def test_records_without_a_p_have_no_q(make_record: Make, make_effect: Make) -> None:
    assert one([make_record(effect=make_effect(p=None, controls=()))]).rows[0].q is None
    assert one([make_record(effects={"loss": make_effect(damage=1, p=None)})]).rows[0].q is None


def test_the_first_metric_that_decides_is_judged(make_record: Make, make_effect: Make) -> None:
    shown = make_effect(damage=1, decides=False)
    board = one([make_record(effects={"loss": shown, "kl": make_effect(p=0.5, damage=1)})])
    assert (board.metric, board.damage, board.rows[0].q) == ("kl", 1, 0.5)


def test_groups_given_by_hand_are_not_rows(make_record: Make) -> None:
    by_hand = make_record(method="by hand: L0H1", group=["L0H1"])
    assert [row.method for row in one([by_hand, make_record(method="a")]).rows] == ["a"]
    assert build([by_hand]) == []


def test_records_of_different_protocols_are_never_on_one_board(make_record: Make) -> None:
    boards = build([make_record(method=m, protocol=p) for m, p in (("a", "p2"), ("b", "p1"), ("c", "p1"))])
    ranked = [(board.protocol, [row.method for row in board.rows if row.rank]) for board in boards]
    assert ranked == [("p1", ["b", "c"]), ("p2", ["a"])]


def test_the_same_task_on_other_examples_is_another_board(make_record: Make) -> None:
    """Batches of one name can hold different examples (an older version of the method); the digest differs."""
    records = [
        replace(record, provenance={**record.provenance, "batch": {"n": 50, "digest": digest}})
        for digest, record in (("old", make_record(method="a")), ("new", make_record(method="b")))
    ]
    boards = build(records)
    assert sorted([row.method for row in board.rows if row.rank] for board in boards) == [["a"], ["b"]]


def test_methods_that_share_no_task_are_not_ranked_together(make_record: Make) -> None:
    boards = build([make_record(method="a", subject="s0"), make_record(method="b", subject="s1")])
    assert [[row.method for row in board.rows if row.rank] for board in boards] == [["a"], ["b"]]
    joined = build([make_record(method=m, subject=s) for m, s in (("a", "s0"), ("b", "s1"), ("c", "s0"), ("c", "s1"))])
    assert [[row.method for row in board.rows if row.rank] for board in joined] == [["c"]]  # the others lack a task


def test_every_task_has_equal_weight_whatever_its_number_of_candidates(make_record: Make, make_effect: Make) -> None:
    """1 - 2p: .8 by one candidate, and 0, .2 and .4 by three: the mean of .8 and .2."""
    three = tuple(make_record(effect=make_effect(p=p)).closure[0] for p in (0.5, 0.4, 0.3))
    records = [make_record(subject="s0", effect=make_effect(p=0.1)), replace(make_record(subject="s1"), closure=three)]
    row = one(records).rows[0]
    assert (row.tests, row.score) == (4, pytest.approx(0.5))


def test_known_circuits_are_scored_by_precision_and_recall(make_record: Make) -> None:
    """Three units, two of them among the four of a circuit: F1 = 2 * 2 / (3 + 4) = 4/7. The other circuit is not found.

    P = 4/7, R = (4/7 + 0) / 2 = 2/7, F = 2 P R / (P + R) = 8/21.
    """
    circuits = {"far": ["L5H1", "L5H2"], "near": ["L0H1", "L1H0", "L3H3", "L3H4"]}
    record = make_record()
    planted = replace(record, provenance={**record.provenance, "subject": {"circuits": circuits}})
    row = one([planted]).rows[0]
    assert (row.scores.known_circuits, row.score) == (pytest.approx(8 / 21), pytest.approx(8 / 21))
    assert row.scores.beyond_random is None
    assert one([record]).rows[0].scores.known_circuits is None
    assert one([replace(planted, candidates=())]).rows[0].scores.known_circuits == 0.0


def test_metrics_go_together_by_the_ranks_of_their_damages(make_record: Make, make_effect: Make) -> None:
    """Logit changes -1, -2, -4 with loss changes .5, 1, 2: the same order, and half a nat per logit lost.

    Accuracy falls in the opposite order. A group that two methods propose counts once.
    """
    changes = [(-1.0, 0.5, -0.3), (-2.0, 1.0, -0.2), (-4.0, 2.0, -0.1)]
    records = [
        make_record(
            method=method,
            subject=f"s{i}",
            effects={
                "target_logit": make_effect(delta=logit),
                "loss": make_effect(delta=loss, damage=1),
                "accuracy": make_effect(delta=accuracy),
            },
        )
        for method in ("a", "b")
        for i, (logit, loss, accuracy) in enumerate(changes)
    ]
    board = one(records)
    assert {correlation.metrics: (correlation.rho, correlation.groups) for correlation in board.correlations} == {
        ("target_logit", "loss"): (pytest.approx(1.0), 3),
        ("target_logit", "accuracy"): (pytest.approx(-1.0), 3),
        ("loss", "accuracy"): (pytest.approx(-1.0), 3),
    }
    assert [(each.subject, each.slope) for each in board.losses_per_logit] == [
        (f"s{i}", pytest.approx(-0.5)) for i in range(3)
    ]
    assert "loss per logit" in markdown([board])


@pytest.mark.parametrize(
    ("intervals", "groups"),
    [([], 0), ([(1, 3)] * 4, 1), ([(1, 1), (2, 4), (3, 5), (5, 6), (6, 6)], 3), ([(1, 2), (2, 3), (3, 4)], 2)],
)
def test_separated_groups_are_the_most_intervals_without_overlap(intervals: list[tuple[int, int]], groups: int) -> None:
    """By hand and by trying every subset: of the five, (1, 1), (2, 4) and (5, 6) are disjoint, and no four are."""
    subsets = [
        chosen
        for size in range(len(intervals) + 1)
        for chosen in combinations(sorted(intervals), size)
        if all(a[1] < b[0] for a, b in pairwise(chosen))
    ]
    assert separated(intervals) == max(map(len, subsets)) == groups


def test_the_board_says_what_was_found(make_record: Make, make_effect: Make) -> None:
    """The first is best on all six tasks. Both propose the same group on each, and its larger p counts."""
    p_values = {"first": [0.01] * 6, "second": [0.3] * 6}
    board = one(scored(make_record, make_effect, **p_values))
    assert [RANK.text(row) for row in board.rows] == ["1", "2"]
    assert found(board) == (
        "Found: 0 of 6 distinct groups do more damage than random groups at a false discovery rate of 0.05. Rank "
        "intervals separate 2 groups among 2 ranked methods."
    )


def test_the_board_says_how_well_known_circuits_were_found(make_record: Make) -> None:
    """The circuit is the usual candidate: F is 1. With one of its three units: 2 * 1 / (1 + 3) = .5. Else 0."""
    usual = make_record()
    one_of_three, other = (replace(usual.candidates[0], units=units) for units in (("L0H1",), ("L5H5",)))
    rows = {
        "good": ({}, usual.candidates),
        "half": ({}, (one_of_three,)),
        "random": ({"partitioner": {"name": "random"}}, (other,)),
        "gradients": ({"signal": {"name": "integrated_gradients"}}, usual.candidates),
    }
    known = {**usual.provenance, "subject": {"circuits": {"c": list(usual.candidates[0].units)}}}
    board = one(
        [
            replace(make_record(method=method, subject=subject, **config), candidates=proposed, provenance=known)
            for method, (config, proposed) in rows.items()
            for subject in ("s0", "s1")
        ]
    )
    assert found(board).startswith(
        "Found: on known circuits, 1 of 2 methods have F above .50. The best is good: F 1.00 [1.00, 1.00]. Beside it: "
        "random 0.00 [0.00, 0.00]; gradients 1.00 [1.00, 1.00]. The intervals of the best method and the best baseline "
        "do not overlap."
    )


def test_references_are_always_rows_and_never_ranked(make_record: Make) -> None:
    command = "harness run subject=tiny signal=max_attention affinity=ising affinity.l2=0.1 partitioner=spectral"
    chosen = {"signal": {"name": "max_attention"}, "affinity": {"name": "ising", "l2": 0.1}}
    records = [make_record(**chosen), make_record(method="random", partitioner={"name": "random"}, **chosen)]
    told = {"command": "rm -rf ~", "typed": ["rm", "-rf", "~"]}  # what a record tells is not repeated
    (board,) = build([replace(record, provenance={**record.provenance, **told}) for record in records])
    kinds = {row.method: (row.kind.value, row.rank, bool(row.missing)) for row in board.rows}
    assert kinds == {
        "ising spectral paper_score": ("method", 1, False),
        "random": ("baseline", None, False),
        "whole layers": ("baseline", None, True),
        "the labels themselves": ("ceiling", None, True),
        "first-order attribution": ("supervised", None, True),
    }
    commands = {row.method: row.missing[0].command for row in board.rows if row.missing}
    assert commands["whole layers"] == command.replace("partitioner=spectral", "partitioner=layers")
    assert commands["first-order attribution"].split()[3:] == [
        "signal=attribution", "affinity=ising", "affinity.l2=0.1", "partitioner=top_k"
    ]  # fmt: skip
    assert board.rows[0].results["tiny · synthetic_induction (successor) · zero"].command == command


def test_the_effect_of_a_row_is_the_mean_over_its_tasks(make_record: Make, make_effect: Make) -> None:
    """With intervals of zero width only tasks vary: two drawn with replacement give -4, -3 or -2 (1/4, 1/2, 1/4)."""
    effects = [make_effect(delta=-2.0, interval=(-2.0, -2.0)), make_effect(delta=-4.0, interval=(-4.0, -3.999999))]
    records = [make_record(subject=f"s{i}", effect=effect) for i, effect in enumerate(effects)]
    row = one(records).rows[0]
    assert row.effect == pytest.approx(-3.0)
    assert row.effect_interval == pytest.approx((-4.0, -2.0), abs=1e-5)


def test_the_interval_of_an_effect_on_a_single_task_comes_from_its_examples(
    make_record: Make, make_effect: Make
) -> None:
    """A standard error of 0.5: 95 % of a normal lie within 1.96 of them."""
    row = one([make_record(effect=make_effect(delta=-2.0, interval=(-2.98, -1.02)))]).rows[0]
    assert row.effect_interval == pytest.approx((-2.98, -1.02), abs=0.08)


def test_agreement_is_that_at_the_chosen_number_of_groups(make_record: Make) -> None:
    assert (one([make_record()]).rows[0].ari, one([make_record()]).rows[0].nmi) == (0.25, 0.5)
    assert one([make_record(partition=None)]).rows[0].ari is None
    assert not one([make_record()]).rows[0].chosen_by_labels
    assert not one([make_record(supervised=("selector",))]).rows[0].chosen_by_labels
    assert one([make_record(supervised=("chooser",))]).rows[0].chosen_by_labels
    assert one([make_record(supervised=("partitioner",))]).rows[0].chosen_by_labels


def test_stability_is_shown_under_resampling_and_otherwise_over_orders_and_seeds(make_record: Make) -> None:
    assert one([make_record()]).rows[0].stability == 0.4
    found = make_record().partitions[1]
    assert one([make_record(partition=replace(found, stability=Stability(0.9, None)))]).rows[0].stability == 0.9
    assert one([make_record(partition=replace(found, stability=None))]).rows[0].stability is None


def test_seconds_are_those_of_a_cell(make_record: Make) -> None:
    assert one(results(make_record, a=[PASS, PASS])).rows[0].seconds == 2.0


def test_no_records_make_no_board() -> None:
    assert build([]) == []


def test_methods_without_a_finished_record_are_listed(make_record: Make) -> None:
    (row,) = one([make_record(status=Status.FAILED)]).rows
    assert (row.rank, row.results, row.seconds) == (None, {}, None)


# ----------------------------------------------------------------------------------------------------------------------
# Written
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(make_record: Make) -> list[Record]:
    """A ranked pair, a tie and an incomplete row; a method whose name would break a table."""
    return [
        *results(make_record, best=[PASS, PASS], tied=[PASS, PASS], lacking=[NULL]),
        make_record(method="a|b, c", subject="s0", verdict=NULL),
        make_record(method="a|b, c", subject="s1", status=Status.SKIPPED),
    ]


def test_a_board_in_csv_reads_back_as_its_rows(mixed: list[Record]) -> None:
    board = one(mixed)
    read = list(csv.DictReader(io.StringIO(as_csv([board]))))
    assert len(read) == len(board.rows) == 4

    def number(text: str) -> Any:
        return pytest.approx(float(text)) if text else None

    for line, row in zip(read, board.rows, strict=True):
        assert line["method"] == row.method
        assert line["rank"] == (str(row.rank) if row.rank else "")
        assert (int(line["tests"]), int(line["passed"])) == (row.tests, row.passed)
        assert row.passed_interval == (number(line["passed_interval_low"]), number(line["passed_interval_high"]))
        assert (row.effect, row.q, row.ari) == (number(line["effect"]), number(line["q"]), number(line["ari"]))
        assert line["missing"] == "; ".join(missing.task for missing in row.missing)
        assert line["cells"].split(" ")[0] in row.cells[0]


def test_a_board_in_markdown_is_a_table_with_a_cell_for_every_column(mixed: list[Record]) -> None:
    board = one(mixed)
    text = markdown([board])
    table = [line for line in text.splitlines() if line.startswith("|")]
    header, ruler, *rows = [
        [cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")] for line in table
    ]
    heads = [RANK.head, METHOD.head, *(column.head for column in nonempty([board])), "T1", "T2"]
    assert header == heads
    assert all(set(cell) == {"-"} for cell in ruler)
    assert {len(row) for row in rows} == {len(heads)}
    named = [(row[0].split(" ")[0], row[1]) for row in rows]
    assert named == [("1-2", "best"), ("1-2", "tied"), ("-", "a\0b, c"), ("-", "lacking")]
    assert rows[2][-2:] == ["null -2.00", "no candidate"]
    assert len({len(line) for line in table}) == 1  # aligned
    missing = "1 of 2 tasks missing: s1 · synthetic_induction (successor) · zero (not run)"
    assert f"- not ranked: lacking: {missing}" in text
    assert "## Protocol protocol" in text


def test_a_reason_shared_by_several_missing_tasks_is_given_once(make_record: Make) -> None:
    records = results(make_record, whole=[NULL, NULL, NULL], lacking=[PASS])
    records += [make_record(method="lacking", subject=f"s{i}", status=Status.INVALID) for i in (1, 2)]
    names = ", ".join(f"s{i} · synthetic_induction (successor) · zero" for i in (1, 2))
    assert f"- not ranked: lacking: 2 of 3 tasks missing: {names} (invalid: no reason)\n" in markdown([one(records)])


def test_boards_are_rebuilt_from_the_records_of_a_workspace(mixed: list[Record], tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    for i, record in enumerate(mixed):
        workspace.write(Record(**{**vars(record), "cell": type(record.cell)(**{**vars(record.cell), "id": f"c{i}"})}))
    boards, path = write_boards(workspace)
    assert path.read_text().startswith(markdown(boards))
    assert path.with_suffix(".csv").read_text() == as_csv(boards)
    assert [row.method for row in boards[0].rows if row.cells] == ["best", "tied", "a|b, c", "lacking"]
