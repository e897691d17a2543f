"""Boards as Markdown: for a terminal, and for a page that a forge shows."""

from __future__ import annotations

from collections.abc import Sequence

from harness.board.columns import METHOD, RANK, explanation, number, shown, verdict
from harness.board.lineage import Made
from harness.board.table import Board, Row

DAMAGE = {1: "raises", -1: "lowers"}


def markdown(boards: Sequence[Board]) -> str:
    """All boards, with what their columns mean."""
    parts = ["# Leaderboard\n"]
    columns = shown(boards)
    for board in boards:
        parts.append(f"## Protocol {board.protocol}\n")
        parts.append(f"{plain(', '.join(f'{key} {told}' for key, told in board.judges.items()))}\n")
        parts.append(f"Effect and q are of {plain(board.metric)}, which damage {DAMAGE[board.damage]}.\n")
        parts.append("\n".join(f"- T{i}: {plain(task.name)}" for i, task in enumerate(board.tasks, 1)) + "\n")
        heads = [RANK.head, METHOD.head, *(f"T{i}" for i in range(1, len(board.tasks) + 1)), *(c.head for c in columns)]
        rows = [
            [RANK.text(row), METHOD.text(row), *_on_tasks(row, board), *(column.text(row) for column in columns)]
            for row in board.rows
        ]
        parts.append(_table([heads, *rows]))
        parts += [_missing(row) for row in board.rows if row.missing]
        parts.append(_compared(board))
    parts.append("\n".join(f"- **{head}**: {text}" for head, text in explanation(columns)) + "\n")
    return "\n".join(parts)


def source(boards: Sequence[Board], made: Made) -> str:
    """What made the board, and each of its cells."""
    parts = ["\n## Made by\n", _code([made.command, *made.sweeps])]
    parts.append(", ".join(f"{plain(name)} {plain(' / '.join(found))}" for name, found in made.lock.items()) + "\n")
    parts.append("## Every cell again\n")
    for board in boards:
        for row in board.rows:
            if row.results:
                parts.append(f"{plain(row.method)}:\n")
                parts.append(_code([result.command for result in row.results.values()]))
    parts.append("## Records (SHA-256)\n")
    parts.append(_code([f"{cell} {found}" for cell, found in made.records.items()]))
    return "\n".join(parts)


def plain(text: str) -> str:
    """Text that Markdown shows as it is: names in records are whatever their authors wrote."""
    shown = _printable(text)
    for special in ("\\", "`", "|"):
        shown = shown.replace(special, f"\\{special}")
    for after in "([:":  # a link, or the address of one
        shown = shown.replace(f"]{after}", f"]\\{after}")
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _on_tasks(row: Row, board: Board) -> list[str]:
    found = [row.results.get(task.name) for task in board.tasks]
    return [f"{verdict(result)} {number(result.effect if result else None, '+.2f')}".strip() for result in found]


def _table(rows: Sequence[Sequence[str]]) -> str:
    escaped = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in escaped) for column in range(len(escaped[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in escaped]
    lines = ["| " + " | ".join(row) + " |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _missing(row: Row) -> str:
    tasks: dict[str, list[str]] = {}
    for missing in row.missing:
        tasks.setdefault(missing.why, []).append(missing.task)
    lacks = "; ".join(f"{', '.join(those)} ({why})" for why, those in tasks.items())
    commands = [missing.command for missing in row.missing if missing.command]
    text = f"- not ranked: {plain(row.method)}: {len(row.missing)} task(s) missing: {plain(lacks)}\n"
    return text + (f"\n{_code(commands, '      ')}" if commands else "")


def _compared(board: Board) -> str:
    found = board.comparison
    if found.reason:
        return f"Are the rows told apart? Not asked: {plain(found.reason)}.\n"
    ranks = sorted(zip(found.mean_ranks, found.methods, strict=True))
    listed = "\n".join(f"- {rank:.2f} {plain(method)}" for rank, method in ranks)
    return (
        f"Are the rows told apart? Friedman's test over {found.tasks} tasks: p = {found.p:.3g}. Mean ranks by how far "
        f"each stands beyond its controls; two rows differ where theirs are more than {found.critical_difference:.2f} "
        f"apart (Nemenyi, 5 %):\n\n{listed}\n"
    )


def _code(lines: Sequence[str], indent: str = "    ") -> str:
    """Lines as code; a line break inside one would end the block."""
    return "".join(f"{indent}{_printable(line)}\n" for line in lines)


def _printable(text: str) -> str:
    """Without what moves a terminal's cursor or breaks a line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
