"""Boards: which rows are ranked, tied or only listed, and how boards are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.board.columns import METHOD, RANK, nonempty
from harness.board.markdown import markdown
from harness.board.table import Board, build
from harness.board.write import as_csv, write_boards
from harness.closure.statistics import wilson_interval
from harness.closure.verdict import Verdict
from harness.data.grouping import Stability
from harness.records.record import Record, Status
from harness.records.workspace import Workspace

Make = Callable[..., Any]
PASS, NULL = Verdict.PASS, Verdict.NULL


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


def test_methods_are_ranked_by_the_share_of_closures_they_pass(make_record: Make) -> None:
    board = one(results(make_record, worst=[NULL, NULL], best=[PASS, PASS], middle=[PASS, NULL]))
    assert [(row.rank, row.method, row.passed, row.tests) for row in board.rows] == [
        (1, "best", 2, 2),
        (2, "middle", 1, 2),
        (3, "worst", 0, 2),
    ]
    assert [row.passed_interval for row in board.rows] == [wilson_interval(n, 2) for n in (2, 1, 0)]
    assert board.rows[1].verdicts == {"pass": 1, "null": 1}


def test_tied_rows_share_a_rank_and_the_next_rank_skips_them(make_record: Make) -> None:
    board = one(results(make_record, a=[PASS, PASS], b=[NULL, PASS], c=[PASS, NULL], d=[NULL, NULL]))
    assert [(row.rank, row.method) for row in board.rows] == [(1, "a"), (2, "b"), (2, "c"), (4, "d")]


def test_tied_rows_are_ordered_by_q(make_record: Make, make_effect: Make) -> None:
    records = [make_record(method=method, effect=make_effect(p=p)) for method, p in {"a": 0.04, "b": 0.01}.items()]
    assert [(row.rank, row.method) for row in one(records).rows] == [(1, "b"), (1, "a")]


@pytest.mark.parametrize("status", [None, Status.FAILED, Status.INTERRUPTED, Status.INVALID])
def test_a_method_that_lacks_a_task_is_listed_and_not_ranked(make_record: Make, status: Status | None) -> None:
    records = results(make_record, whole=[NULL, NULL], lacking=[PASS])
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


def test_q_values_are_corrected_over_all_tests_of_the_board(make_record: Make, make_effect: Make) -> None:
    """Benjamini-Hochberg by hand: p = .01, .02, .03, .5 -> q = .04, .04, .04, .5."""
    p = {("a", "s0"): 0.01, ("a", "s1"): 0.03, ("b", "s0"): 0.02, ("b", "s1"): 0.5}
    records = [make_record(method=m, subject=s, effect=make_effect(p=value)) for (m, s), value in p.items()]
    found = {row.method: row.q for row in one(records).rows}
    assert found == pytest.approx({"a": 0.04, "b": 0.5})  # the largest of a row's own


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


def test_every_task_has_equal_weight_whatever_its_number_of_candidates(make_record: Make) -> None:
    """One of one passed and one of three: 2/3 by task, though 2 of 4 tests passed."""
    three = make_record(subject="s1", verdict=NULL)
    mixed = replace(three, closure=(replace(three.closure[0], verdict=PASS), *three.closure * 2))
    row = one([make_record(subject="s0"), mixed]).rows[0]
    assert (row.passed, row.tests, row.score) == (2, 4, pytest.approx(2 / 3))


def test_truth_is_the_best_overlap_of_a_candidate_with_a_planted_circuit(make_record: Make) -> None:
    """The candidate has three units, two of them among the four planted: F1 = 2 * 2 / (3 + 4)."""
    circuits = {"far": ["L5H1", "L5H2"], "near": ["L0H1", "L1H0", "L3H3", "L3H4"]}
    record = make_record()
    planted = replace(record, provenance={**record.provenance, "subject": {"circuits": circuits}})
    assert one([planted]).rows[0].f1 == pytest.approx(4 / 7)
    assert one([record]).rows[0].f1 is None
    assert one([replace(planted, candidates=())]).rows[0].f1 == 0.0


def test_references_are_always_rows_and_never_ranked(make_record: Make) -> None:
    command = "harness run subject=tiny signal=max_attention affinity=ising affinity.l2=0.1 partitioner=spectral"
    records = [make_record(), make_record(method="random", partitioner={"name": "random"})]
    (board,) = build([replace(record, provenance={**record.provenance, "command": command}) for record in records])
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
        "affinity=ising", "affinity.l2=0.1", "signal=attribution", "partitioner=top_k"
    ]  # fmt: skip


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
    heads = [RANK.head, METHOD.head, "T1", "T2", *(column.head for column in nonempty([board]))]
    assert header == heads
    assert all(set(cell) == {"-"} for cell in ruler)
    assert {len(row) for row in rows} == {len(heads)}
    named = [(row[0].split(" ")[0], row[1]) for row in rows]
    assert named == [("1", "best"), ("1", "tied"), ("3", "a\0b, c"), ("-", "lacking")]
    assert rows[2][2:4] == ["null -2.00", "no candidate"]
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
