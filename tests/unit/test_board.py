"""Boards and cards: who is ranked, who shares a rank, who is only listed, and what a person reads."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.board.card import card
from harness.board.table import Board, build
from harness.board.write import COLUMNS, as_csv, markdown, write_boards
from harness.closure.anatomy import OnInput
from harness.closure.statistics import wilson_interval
from harness.closure.verdict import Verdict
from harness.groups import Stability
from harness.record import Record, Status
from harness.workspace import Workspace

Make = Callable[..., Any]
PASS, NULL = Verdict.PASS, Verdict.NULL


def one(records: list[Record]) -> Board:
    (board,) = build(records)
    return board


def results(make: Make, **verdicts: list[Verdict]) -> list[Record]:
    """Each method's verdict on the subjects s0, s1, ..."""
    return [
        make(method=method, subject=f"s{i}", verdict=verdict)
        for method, found in verdicts.items()
        for i, verdict in enumerate(found)
    ]


def test_of_two_records_of_one_method_on_one_task_the_newest_counts(make_record: Make) -> None:
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
    assert [row.interval for row in board.rows] == [wilson_interval(n, 2) for n in (2, 1, 0)]
    assert board.rows[1].verdicts == {"pass": 1, "null": 1}


def test_ties_share_a_rank_and_the_next_one_counts_them(make_record: Make) -> None:
    board = one(results(make_record, a=[PASS, PASS], b=[NULL, PASS], c=[PASS, NULL], d=[NULL, NULL]))
    assert [(row.rank, row.method) for row in board.rows] == [(1, "a"), (2, "b"), (2, "c"), (4, "d")]


def test_within_a_tie_the_smaller_q_comes_first_on_the_same_rank(make_record: Make, make_effect: Make) -> None:
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
    assert lacking.missing == ("s1 · synthetic_induction (successor) · zero",)


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
    assert one([make_record(effects={"loss": make_effect(damage=1)})]).rows[0].q is None


def test_groups_named_by_hand_are_no_methods(make_record: Make) -> None:
    by_hand = make_record(method="by hand: L0H1", group=["L0H1"])
    assert [row.method for row in one([by_hand, make_record(method="a")]).rows] == ["a"]
    assert build([by_hand]) == []


def test_records_of_different_protocols_are_never_on_one_board(make_record: Make) -> None:
    boards = build([make_record(method=m, protocol=p) for m, p in (("a", "p2"), ("b", "p1"), ("c", "p1"))])
    assert [(board.protocol, len(board.rows)) for board in boards] == [("p1", 2), ("p2", 1)]


def test_the_effect_of_a_row_is_the_mean_over_its_tests_and_its_interval_narrows(
    make_record: Make, make_effect: Make
) -> None:
    effects = [make_effect(delta=-2.0, interval=(-2.98, -1.02)), make_effect(delta=-4.0, interval=(-4.98, -3.02))]
    records = [make_record(subject=f"s{i}", effect=effect) for i, effect in enumerate(effects)]
    row = one(records).rows[0]
    assert row.effect == pytest.approx(-3.0)
    # Standard errors of 0.5 each: that of the mean is 0.5 / sqrt(2).
    assert row.effect_interval == pytest.approx((-3 - 0.98 / math.sqrt(2), -3 + 0.98 / math.sqrt(2)))


def test_agreement_is_that_at_the_chosen_number_of_groups(make_record: Make) -> None:
    assert one([make_record()]).rows[0].agreement == 0.25
    assert one([make_record(partition=None)]).rows[0].agreement is None
    assert not one([make_record()]).rows[0].label_chosen
    assert not one([make_record(supervised=("selector",))]).rows[0].label_chosen
    assert one([make_record(supervised=("chooser",))]).rows[0].label_chosen
    assert one([make_record(supervised=("partitioner",))]).rows[0].label_chosen


def test_stability_is_that_on_resampled_examples_or_else_over_orders_and_seeds(make_record: Make) -> None:
    assert one([make_record()]).rows[0].stability == 0.4
    found = make_record().partitions[1]
    assert one([make_record(partition=replace(found, stability=Stability(0.9, None)))]).rows[0].stability == 0.9
    assert one([make_record(partition=replace(found, stability=None))]).rows[0].stability is None


def test_seconds_are_those_of_a_cell(make_record: Make) -> None:
    assert one(results(make_record, a=[PASS, PASS])).rows[0].seconds == 2.0


def test_no_records_make_no_board() -> None:
    assert build([]) == []


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
    for line, row in zip(read, board.rows, strict=True):
        assert line["method"] == row.method
        assert line["rank"] == (str(row.rank) if row.rank else "")
        assert (int(line["tests"]), int(line["passed"])) == (row.tests, row.passed)
        assert (float(line["passed_low"]), float(line["passed_high"])) == row.interval
        assert (float(line["effect_target_logit"]) if line["effect_target_logit"] else None) == row.effect
        assert (float(line["q"]) if line["q"] else None) == row.q
        assert line["missing"] == "; ".join(row.missing)
        assert line["cells"].split(" ")[0] in row.cells[0]


def test_a_board_in_markdown_is_a_table_with_a_cell_for_every_column(mixed: list[Record]) -> None:
    text = markdown([one(mixed)])
    table = [line for line in text.splitlines() if line.startswith("|")]
    header, ruler, *rows = [
        [cell.strip() for cell in line.replace("\\|", "\0").strip("|").split("|")] for line in table
    ]
    assert tuple(header) == COLUMNS
    assert all(set(cell) == {"-"} for cell in ruler)
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert [(row[0], row[1]) for row in rows] == [("1", "best"), ("1", "tied"), ("3", "a\0b, c"), ("-", "lacking")]
    assert len({len(line) for line in table}) == 1  # aligned
    assert "- not ranked: lacking: 1 task(s) missing: s1 · synthetic_induction (successor) · zero" in text
    assert "## Protocol protocol" in text


def test_boards_are_rebuilt_from_the_records_of_a_workspace(mixed: list[Record], tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    for i, record in enumerate(mixed):
        workspace.write(Record(**{**vars(record), "cell": type(record.cell)(**{**vars(record.cell), "id": f"c{i}"})}))
    boards, path = write_boards(workspace)
    assert path.read_text() == markdown(boards)
    assert path.with_suffix(".csv").read_text() == as_csv(boards)
    assert [row.method for row in boards[0].rows] == ["best", "tied", "a|b, c", "lacking"]


# ----------------------------------------------------------------------------------------------------------------------
# Cards
# ----------------------------------------------------------------------------------------------------------------------


def test_a_card_gives_the_answer_first_and_then_the_numbers_that_carry_it(make_record: Make, make_effect: Make) -> None:
    effects = {
        "target_logit": make_effect(),
        "loss": make_effect(
            baseline=1.0, ablated=3.5, delta=2.5, interval=(2.0, 3.0), damage=1, z=3.25, p_adjusted=0.02
        ),
    }
    lines = card(make_record(effects=effects, verdict=Verdict.WEAK_PASS)).splitlines()
    assert lines[0].startswith("L0H1 L1H0 L1H2   3 units, 2 layers")
    assert lines[1].startswith("WEAK PASS  because")
    logit, loss = (next(line for line in lines if line.strip().startswith(name)) for name in ("target logit", "loss"))
    assert logit.split()[2] == "v"  # damage lowers it
    assert loss.split()[1] == "^"  # damage raises it
    assert {"1.00", "3.50", "+2.50", "+2.00", "+3.00", "+3.2", "0.020"} <= set(loss.split())
    assert "all units of these layers: target logit -4.00 (this group: 50 %)" in "\n".join(lines)
    assert "proposed on 30 examples, tested on 20 others; 99 distinct controls" in "\n".join(lines)
    assert "note: affinity: constant: 1 unit (L0H0)" in "\n".join(lines)


def test_a_card_says_what_was_tested_on_the_same_examples(make_record: Make) -> None:
    assert "the p-values flatter" in card(make_record(split="none"))
    assert "named by hand, tested on all 20 examples" in card(make_record(group=["L0H1"]))


def test_a_card_says_when_the_labels_chose_the_number_of_groups(make_record: Make) -> None:
    assert "k = 3; agreement with the labels: ARI 0.25; found again (ARI): 0.90 on other orders" in card(make_record())
    by_labels = make_record(supervised=("chooser",))
    assert "k = 3 (chosen by the labels); agreement" in card(by_labels)


def test_a_card_shows_what_is_not_defined_as_a_dash_and_what_is_saturated_in_words(
    make_record: Make, make_effect: Make
) -> None:
    bare = make_effect(controls=(), z=None, p=None, p_adjusted=None, interval=None, saturated=True)
    line = next(line for line in card(make_record(effect=bare)).splitlines() if line.strip().startswith("target logit"))
    assert line.split("one example")[1].split() == ["none", "-", "-", "-", "(saturated:", "cannot", "get", "worse)"]


def test_a_card_names_layers_without_enough_controls(make_record: Make) -> None:
    record = make_record()
    closure = type(record.closure[0])(**{**vars(record.closure[0]), "shortfall": {"L0": 2}})
    text = card(Record(**{**vars(record), "closure": (closure,)}))
    assert "not fully matched: L0 lacks 2" in text


def test_a_card_counts_the_layers_of_units_of_every_kind(make_record: Make) -> None:
    record = make_record()
    closure = type(record.closure[0])(**{**vars(record.closure[0]), "units": ("L2E1", "L2E40", "L11E3")})
    assert "3 units, 2 layers" in card(Record(**{**vars(record), "closure": (closure,)}))


def test_a_card_says_what_is_inside_the_group(make_record: Make) -> None:
    text = card(make_record())
    assert "lost without: L0H1 50 %  L1H0 0 %  L1H2 25 %" in text
    assert "interaction -0.25" in text
    assert "alone it keeps 75 %" in text
    assert "idle L1H0" in text
    assert "active on 7 examples: -3.00 (p 0.010), elsewhere -0.12" in text
    assert "on the other batch -0.50" in text
    assert "against the best of permuted data p 0.020" in text


def test_a_card_says_when_the_group_was_never_active(make_record: Make) -> None:
    record = make_record()
    (closure,) = record.closure
    inside = replace(closure.anatomy["target_logit"], on_input=OnInput(0, None, (), None, None, None, None))
    never = replace(closure, anatomy={"target_logit": inside})
    assert "never active on these examples" in card(replace(record, closure=(never,)))


@pytest.mark.parametrize("note", [0.93, 7, "odd", {"a": 1}, ["L0H0"], True])
def test_a_card_shows_whatever_a_plugin_notes(make_record: Make, note: Any) -> None:
    record = Record(**{**vars(make_record()), "diagnostics": {"affinity": {"spectral_radius": note}}})
    assert "note: affinity: spectral radius:" in card(record)


@pytest.mark.parametrize("note", [0, "", [], {}, None, False])
def test_a_card_is_silent_about_what_is_empty(make_record: Make, note: Any) -> None:
    record = Record(**{**vars(make_record()), "diagnostics": {"affinity": {"spectral_radius": note}}})
    assert "note:" not in card(record)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_a_card_of_what_did_not_finish_says_why(make_record: Make, status: Status) -> None:
    first = card(make_record(status=status)).splitlines()[0]
    assert first == f"{status.value.upper()}  no reason"


def test_a_card_ends_with_where_the_record_lies_and_what_to_type_next(make_record: Make, tmp_path: Path) -> None:
    last = card(make_record(), tmp_path).splitlines()[-2:]
    assert str(tmp_path / "record.json") in last[0]
    assert "harness show partitioner spectral" in last[1]
