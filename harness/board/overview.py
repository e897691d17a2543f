"""All boards of a folder beside each other: what each holds, its best method, random groups, and what that shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.board.check import read_board
from harness.board.markdown import plain, table
from harness.board.references import Kind
from harness.board.seal import Seal
from harness.records.workspace import write_atomically
from harness.util.errors import HarnessError

SCORES = {"known_circuits": ("known circuits: F", "recovers known circuits with F"),
          "beyond_random": ("1 - 2p", "scores 1 - 2p =")}  # fmt: skip
"""The scores that methods are ranked by, with their heads and how a sentence begins."""
BEGIN, END = "<!-- boards: begin -->", "<!-- boards: end -->"
"""Where ``README.md`` of the folder has the table."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Scored:
    """A row of a board by one score; ``interval``: 95 %, by bootstrap over tasks (None: one subject and batch)."""

    method: str
    value: float
    interval: Interval | None
    seconds: float | None

    @property
    def text(self) -> str:
        """The value, with its interval."""
        return f"{self.value:.2f}" + (f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]" if self.interval else "")


@dataclass(frozen=True)
class Summary:
    """One protocol of one board, by one score.

    ``subjects``, ``tasks``: those that the score is over; ``cells``: of all tasks of the protocol. ``best``: the
    unsupervised method with the highest score among those with all tasks, chosen on these same tasks; ``random``: the
    best of the rows of random groups. None: there is none.
    """

    board: str
    score: str
    subjects: tuple[str, ...]
    tasks: int
    methods: int
    cells: int
    best: Scored | None
    random: Scored | None
    command: str
    seal: str

    @property
    def holds(self) -> str:
        """Its subjects and tasks in words."""
        shown = ", ".join(self.subjects[:3]) + (f" and {len(self.subjects) - 3} more" if self.subjects[3:] else "")
        return f"{shown}: {self.tasks} task{'s' * (self.tasks != 1)}"

    @property
    def finding(self) -> str:
        """What best and random show together, in a sentence."""
        head, verb = SCORES[self.score]
        where = f"{self.board} ({self.subjects[0] if self.subjects else 'no tasks'}{' ...' * bool(self.subjects[1:])})"
        if self.best is None:
            return f"{where}: no unsupervised method has a result on every task ({head})."
        who = f"the best of {self.methods} unsupervised methods" if self.methods > 1 else "the one unsupervised method"
        said = f"{where}: {who} {verb} {self.best.text}"
        if self.random is None:
            return f"{said}; random groups are not on it."
        if self.best.interval is None or self.random.interval is None:
            return (
                f"{said}, random groups {self.random.text}. Without several subjects or batches there is no interval."
            )
        if self.best.interval[0] > self.random.interval[1]:
            return f"{said}, random groups {self.random.text}; the intervals are disjoint."
        return f"{said}, random groups {self.random.text}; the intervals overlap."


def summaries(folder: Path) -> list[Summary]:
    """The boards of all folders in a folder, by name. Errors: there is none; a damaged one."""
    places = sorted(path.parent for path in folder.glob("*/board.json"))
    if not places:
        raise HarnessError(
            f"{folder} holds no boards (*/board.json).", "Make one: harness leaderboard out=leaderboards/mine"
        )
    return [summary for place in places for summary in _of_board(place)]


def as_markdown(boards: Sequence[Summary]) -> str:
    """Findings, then a row per board."""
    rows = [["board", "holds", "methods", "cells", "score", "best method", "best [95 %]", "random groups", "s/cell"]]
    for each in boards:
        best = each.best
        rows.append(
            [
                each.board,
                each.holds,
                str(each.methods),
                str(each.cells),
                SCORES[each.score][0],
                best.method if best else "-",
                best.text if best else "-",
                each.random.text if each.random else "-",
                f"{best.seconds:.1f}" if best and best.seconds is not None else "-",
            ]
        )
    return "\n".join([*(f"- {plain(each.finding)}" for each in boards), "", table(rows), NOTE])


NOTE = (
    "The best method is chosen on the tasks that its score is over; its interval does not count that. Intervals: 95 %, "
    "by bootstrap over tasks."
)


def write(folder: Path) -> list[Summary]:
    """Write ``index.html`` and, where ``README.md`` has a place for it, the table."""
    from harness.board.page import environment

    boards = summaries(folder)
    page = environment().get_template("overview.html").render(boards=boards, scores=SCORES, note=NOTE)
    write_atomically(folder / "index.html", page)
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if BEGIN in text and END in text:
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        write_atomically(readme, f"{before}{BEGIN}\n{as_markdown(boards)}\n{END}{after}")
    return boards


def _of_board(folder: Path) -> list[Summary]:
    stored, seal = read_board(folder), Seal.of(folder)
    scored = [(board, score, _scored_tasks(board, score)) for board in stored.boards for score in SCORES]
    return [
        Summary(
            board=folder.name,
            score=score,
            subjects=tuple(dict.fromkeys(name.split(" · ")[0] for name in tasks)),
            tasks=len(tasks),
            methods=sum(row["kind"] == Kind.METHOD for row in board["rows"]),
            cells=sum(len(row["cells"]) for row in board["rows"]),
            best=_highest(score, [row for row in board["rows"] if row["kind"] == Kind.METHOD and not row["missing"]]),
            random=_highest(score, [row for row in board["rows"] if _is_random(row)]),
            command=str(stored.lineage["command"]),
            seal=seal.sentence if seal else "",
        )
        for board, score, tasks in scored
        if tasks
    ]


def _scored_tasks(board: Mapping[str, Any], score: str) -> list[str]:
    """The names of the tasks on which any row has this score."""
    by_base = [row["by_task"] for row in board["rows"]]
    return [
        task["name"]
        for task in board["tasks"]
        if any((each.get(task["base"]) or {}).get(score) is not None for each in by_base)
    ]


def _highest(score: str, rows: Sequence[Mapping[str, Any]]) -> Scored | None:
    scored = [row for row in rows if row["scores"][score] is not None]
    if not scored:
        return None
    best = max(scored, key=lambda row: float(row["scores"][score]))
    interval = best[f"{score}_interval"]
    value = float(best["scores"][score])
    return Scored(best["method"], value, tuple(interval) if interval else None, best["seconds"])


def _is_random(row: Mapping[str, Any]) -> bool:
    """Whether a row proposes random groups: its name has the partitioner as a word."""
    words = {word.split("(")[0] for word in row["method"].split()}
    return row["kind"] == Kind.BASELINE and "random" in words
