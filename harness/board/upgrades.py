"""Boards of earlier schemas, read as boards of today: one small function per schema turns it into the next.

As for records, a function renames and computes nothing: figures that an older board does not have, or that had another
meaning, are not compared (``CHANGED_3``, ``CHANGED_4``). ``tests/old`` has a board of schema 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.records.upgrades import ADDED_5, SETTINGS_2, Json, renamed

PREFIX = "closure-harness/board/"
SCHEMA = f"{PREFIX}4"
ROW_1 = {
    "interval": "passed_interval",
    "truth": "f1",
    "label_chosen": "chosen_by_labels",
    "frontier": "pareto_optimal",
}
RESULT_1 = {
    "interval": "effect_interval",
    "standing": "beyond_controls",
    "truth": "f1",
    "label_chosen": "chosen_by_labels",
}

CHANGED_3 = frozenset(
    {"comparison", "rank", "rank_interval", "score", "p", "q", "f1", "pareto_optimal"}
    | {"base", "level", "groups", "discoveries", "correlations", "losses_per_logit"}
    | {"scores", "by_task", "score_by_task", "known_circuits_interval", "beyond_random_interval"}
)
"""Keys whose figures have another meaning since schema 3, or exist since then."""
CHANGED_4 = frozenset({"digest", "also"})
"""Since schema 4, tasks have digests of their content alone."""


def upgraded(data: Json) -> Json:
    """The board in today's schema; unchanged where no function reads its schema."""
    while upgrade := UPGRADES.get(str(data["schema"])):
        data = upgrade(data)
    return data


def _from_1(data: Json) -> Json:
    """Schema 2 names figures in full, and settings as records of schema 3 do."""
    return {"schema": f"{PREFIX}2", "lineage": data["made"], "boards": [_board_1(board) for board in data["boards"]]}


def _board_1(board: Json) -> Json:
    settings = renamed(board["judges"], SETTINGS_2)
    return {**renamed(board, {"judges": "settings"}), "settings": settings, "rows": [_row_1(r) for r in board["rows"]]}


def _row_1(row: Json) -> Json:
    return {
        **renamed(row, ROW_1),
        "results": {task: renamed(result, RESULT_1) for task, result in row["results"].items()},
        "missing": [renamed(missing, {"why": "reason"}) for missing in row["missing"]],
    }


def _from_2(data: Json) -> Json:
    """Schema 3 ranks by other scores, and corrects p over the distinct groups of methods: ``CHANGED_3``.

    It says which test was used, as records of schema 5 do.
    """
    added = {key: str(value) for key, value in ADDED_5.items() if key not in ("prune", "size_curve")}
    boards = [{**board, "settings": {**board["settings"], **added}} for board in data["boards"]]
    return {**data, "schema": f"{PREFIX}3", "boards": boards}


def _from_3(data: Json) -> Json:
    """Schema 4 says which records others sent, and which older ones are left out."""
    boards = [
        {"left_out": [], **board, "rows": [{"added": [], **row} for row in board["rows"]]} for board in data["boards"]
    ]
    return {"schema": f"{PREFIX}4", "lineage": {"added": [], **data["lineage"]}, "boards": boards}


UPGRADES: Mapping[str, Callable[[Json], Json]] = {
    f"{PREFIX}1": _from_1,
    f"{PREFIX}2": _from_2,
    f"{PREFIX}3": _from_3,
}
"""By schema: the function that converts its boards to the next schema."""
