"""Records that others send to a board: what judges is compared, what can be computed again is computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.board.recomputed import contradictions
from harness.board.submission import problems
from harness.records.reader import parse_record
from harness.records.record import Record, Status
from harness.registry.config import registry
from tests.planted_records import planted_records

pytestmark = pytest.mark.unchecked

Json = dict[str, Any]
Edit = Callable[[Json], object]


@pytest.fixture(scope="module")
def board() -> list[Record]:
    """Pearson on both worlds."""
    return [record for record in planted_records() if "pearson" in record.cell.method]


@pytest.fixture(scope="module")
def theirs() -> list[Record]:
    """Cosine on both worlds: a method that the board does not have."""
    return [record for record in planted_records() if "cosine" in record.cell.method]


def edited(records: Sequence[Record], edit: Edit) -> list[Record]:
    """The records as their sender would have changed them."""
    changed = []
    for record in records:
        data = json.loads(record.to_json())
        edit(data)
        changed.append(parse_record(json.dumps(data), record.cell.id, ""))
    return changed


def unknown_method(data: Json) -> None:
    """An affinity that nobody has installed."""
    data["config"]["affinity"] = {"name": "secret"}
    data["cell"] |= {"row": "123456789abc", "method": "output_norm secret spectral"}


def wrong(added: Sequence[Record], present: Sequence[Record]) -> list[str]:
    return problems({f"{i}.json": record for i, record in enumerate(added)}, present, registry())


# ----------------------------------------------------------------------------------------------------------------------
# What is sent in good faith
# ----------------------------------------------------------------------------------------------------------------------


def test_honest_records_have_no_problem(board: list[Record], theirs: list[Record]) -> None:
    assert wrong(theirs, board) == []
    assert wrong(edited(theirs, unknown_method), board) == []
    assert wrong(board, board) == []  # the same ones again


def test_what_differs_between_machines_is_no_problem(board: list[Record], theirs: list[Record]) -> None:
    """Where results are written, how long they took, and the last digits of sums."""

    def elsewhere(data: Json) -> None:
        data["config"] |= {"workspace": "/home/me", "tracking": "none", "cache": False}
        data["seconds"]["closure"] = 99.0
        data["provenance"] |= {"python": "3.12.0", "platform": "another"}

    assert wrong(edited(theirs, elsewhere), board) == []


def test_another_seed_is_a_repetition(board: list[Record], theirs: list[Record]) -> None:
    """Its halves are others, so that baselines are not compared."""
    assert wrong(edited(theirs, lambda data: data["config"].update(seed=1)), board) == []


# ----------------------------------------------------------------------------------------------------------------------
# Who is judged, on what, and how
# ----------------------------------------------------------------------------------------------------------------------


def config(**changes: Any) -> Edit:
    return lambda data: data["config"].update(changes)


def cell(**changes: Any) -> Edit:
    return lambda data: data["cell"].update(changes)


JUDGED = [
    (config(alpha=0.99), "alpha is 0.99, the board has 0.05"),
    (config(split="none"), "split is none, the board has half"),
    (config(controls={"name": "layer_matched", "n": 19, "seed": 0}), "controls is "),
    (config(metric={"loss": {"name": "loss"}}), "metric is "),
    (config(labels={"name": "nobody_has_it"}), "labels is "),
    (config(intervention={"name": "mean"}), "intervention is "),
    (config(statistic="share"), "statistic is share"),
    (config(test="disjoint"), "test is disjoint"),
    (config(check_task=False), "check_task is False"),
    (config(futility=None), "futility is None"),
    (config(scope="active"), "scope is active"),
    (config(deciding="all"), "deciding is all"),
    (config(null_proposals=3), "null_proposals is 3"),
    (config(contrast={"name": "planted"}), "contrast is "),
    (lambda data: data["config"]["batch"].update(n=9), "batch is "),
    (lambda data: data["config"]["subject"].update(seed=7), "has another model, other units or other examples"),
    (cell(protocol="another"), "its protocol (another) is not the board's"),
    (cell(subject="gpt"), "its subject is called 'gpt', on the board 'planted-"),
    (cell(intervention="mean"), "its intervention is called 'mean', on the board 'zero'"),
    (lambda data: data["provenance"]["batch"].update(digest="0"), "has another model, other units or other examples"),
    (lambda data: data["provenance"]["batch"].update(n=10**9), "it has 1000000000 examples"),
    (config(group=["L0H1"]), "named by hand"),
    (lambda data: data.update(status="failed"), "the cell is failed"),
]


@pytest.mark.parametrize(("edit", "problem"), JUDGED)
@pytest.mark.parametrize("installed", [True, False])
def test_how_a_method_is_judged_is_that_of_the_board(
    board: list[Record], theirs: list[Record], edit: Edit, problem: str, installed: bool
) -> None:
    """Also where the method is not installed, so that its cell cannot be built here."""
    added = theirs if installed else edited(theirs, unknown_method)
    assert any(problem in line for line in wrong(edited(added, edit), board))


def test_what_follows_from_the_configuration_is_computed_again(board: list[Record], theirs: list[Record]) -> None:
    assert any(
        "its row is 'x', but its configuration makes" in line for line in wrong(edited(theirs, cell(row="x")), board)
    )
    renamed = wrong(edited(theirs, cell(method="the best")), board)
    assert any("its method is 'the best', but its configuration makes" in line for line in renamed)
    labelled = wrong(edited(theirs, cell(supervised=["chooser"])), board)
    assert any("its supervised is" in line for line in labelled)


def test_a_protocol_is_computed_again_without_the_method(board: list[Record], theirs: list[Record]) -> None:
    """Settings that the records of a board share do not make another protocol true."""
    forged = [*edited(board, cell(protocol="forged"))]
    found = wrong(edited(edited(theirs, unknown_method), cell(protocol="forged")), forged)
    assert any("its protocol is 'forged', but its configuration makes" in line for line in found)


def test_one_method_has_one_row(board: list[Record], theirs: list[Record]) -> None:
    taken = board[0].cell.row
    found = wrong(edited(edited(theirs, unknown_method), cell(row=taken)), board)
    assert any(f"row {taken} has 2 methods" in line for line in found)


def test_a_missing_task_is_named_with_the_command_to_run(board: list[Record], theirs: list[Record]) -> None:
    (found,) = wrong(theirs[:1], board)
    assert "cosine" in found
    assert "no record of task 'planted-1 · planted(n=64) (answer) · zero'; run: harness run" in found
    assert "subject.seed=1" in found


def test_no_record_of_the_board_is_replaced(board: list[Record]) -> None:
    better = edited(board[:1], lambda data: data.update(reason="better"))
    found = wrong(better, board)
    assert any(f"the board already has this method on this task (cell {board[0].cell.id})" in line for line in found)


def test_a_submission_has_one_record_per_method_seed_and_task(board: list[Record], theirs: list[Record]) -> None:
    twice = [*theirs, *edited(theirs[:1], cell(id="another"))]
    assert any("0.json, 2.json: records of one method, seed and task" in line for line in wrong(twice, board))
    assert any(f"cell {theirs[0].cell.id} occurs twice" in line for line in wrong([*theirs, theirs[0]], board))


# ----------------------------------------------------------------------------------------------------------------------
# Figures
# ----------------------------------------------------------------------------------------------------------------------


def effect(**changes: Any) -> Edit:
    def change(data: Json) -> None:
        effects = data["closure"][0]["effects"]
        effects[next(iter(effects))].update(changes)

    return change


def closure(**changes: Any) -> Edit:
    return lambda data: data["closure"][0].update(changes)


def partition(**changes: Any) -> Edit:
    return lambda data: data["partitions"][0].update(changes)


def circuits(data: Json) -> None:
    data["provenance"]["subject"]["circuits"] = {"mine": data["candidates"][0]["units"]}


FIGURES = [
    (effect(p=0.001), "p is 0.001, but its"),
    (effect(p=None), "p is None, but its"),
    (effect(p_adjusted=5.0), "corrected p is 5.0, but the p-values make"),
    (effect(p_adjusted=0.001), "corrected p is 0.001, but the p-values make"),
    (effect(z=99.0), "z is 99.0, but its"),
    (effect(share=0.99), "share is 0.99, but its"),
    (effect(disjoint=1), "1 compared groups are said to share no unit"),
    (effect(statistic=99.0), "its statistic is 99.0, but what its units add makes"),
    (effect(baseline=99.0), "baseline 99.0 and change"),
    (effect(ablated=-99.0), "do not make -99.0"),
    (effect(interval=[99.0, 100.0]), "its interval [99.0, 100.0] does not hold"),
    (effect(harmed=True, helped=True), "is called certain in the other direction"),
    (effect(bound=-99.0), "above the bound -99.0"),
    (effect(damage=1), "its direction, or whether it decides"),
    (effect(decides=False), "its direction, or whether it decides"),
    (effect(saturated=True), "saturated is True, on the board False"),
    (closure(verdict="pass"), "its verdict is pass, but its numbers make"),
    (closure(reason="It is the best."), "its reason is 'It is the best.', but its numbers make"),
    (closure(n_examples=10**9), "it was judged on 1000000000 examples"),
    (closure(n_proposed=10**9), "it was proposed on 1000000000 examples"),
    (closure(profile={"L0.attn": 1}), "is not one of"),
    (effect(bound=99.0), "does not agree with the bound 99.0"),
    (closure(n_tested=10**9), "it was tested on 1000000000 examples"),
    (closure(scope="active"), "scope=active"),
    (closure(comparable=10**9), "stopped early"),
    (closure(task_done=False), "the model does the task: False; on the board: True"),
    (circuits, "its known circuits are not those of the board's subject"),
    (partition(agreement={"ari": 1.0, "nmi": 1.0, "purity": 1.0}), "ari is 1.0, but its labels and classes make"),
    (partition(groups=99), "groups, not 99"),
    (partition(stability={"seeds": 2.0, "resamples": None}), "a stability of 2.0"),
    (lambda data: data["candidates"][0].update(purity=0.123), "purity is 0.123, but its classes make"),
    (lambda data: data["candidates"][0].update(size=99), "its size or sites are not those of its units"),
    (lambda data: data.update(candidates=data["candidates"][1:]), "the tested groups are not its candidates"),
    (lambda data: data.update(reason="The best."), "its status is ok ('The best.') with"),
    (lambda data: data.update(status="skipped"), "its status is skipped"),
    (partition(chosen=False), "0 partitions are chosen, of 1"),
    (lambda data: data["partitions"][0]["labels"].reverse(), "its units are not of one group of the chosen partition"),
    (lambda data: data["classes"].reverse(), "other classes than on the board"),
    (lambda data: data["config"].update(ddof=None), "no cell has its settings: ddof=None"),
    (lambda data: data["seconds"].update(closure=-1.0), "seconds: closure is -1.0"),
    (lambda data: data["cost"].update(forwards=-1), "cost: forwards is -1"),
    (
        lambda data: data["size_curve"].update(greedy=[9.0] * len(data["size_curve"]["greedy"])),
        "another damage by the best",
    ),
]


@pytest.mark.parametrize(("edit", "problem"), FIGURES)
def test_a_figure_that_is_not_what_the_others_make_is_named(
    board: list[Record], theirs: list[Record], edit: Edit, problem: str
) -> None:
    found = wrong([*edited(theirs[:1], edit), *theirs[1:]], board)
    assert any(problem in line for line in found), found
    assert all(line.startswith("0.json: ") or "no record of task" in line for line in found)


def test_units_of_another_model_are_refused(board: list[Record], theirs: list[Record]) -> None:
    def rename(data: Json) -> None:
        text = json.dumps(data).replace('"L0H', '"L99H')
        data.update(json.loads(text))

    assert any(
        "has another model, other units or other examples on the board" in line
        for line in wrong(edited(theirs, rename), board)
    )


def test_records_as_the_harness_writes_them_contradict_nothing() -> None:
    for record in planted_records():
        assert list(contradictions(record)) == []


def test_a_failed_record_is_refused_for_its_status_alone(board: list[Record], theirs: list[Record]) -> None:
    failed = edited(theirs[:1], lambda data: data.update(status=Status.FAILED.value, reason="no memory"))
    found = [line for line in wrong(failed, board) if line.startswith("0.json")]
    assert len(found) == 1
    assert "the cell is failed (no memory); run it again: harness run" in found[0]
