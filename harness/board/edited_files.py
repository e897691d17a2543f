"""Where a file of a board differs from what its records make: the row, the column and both figures."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import islice

SHOWN = 12
"""How many differences of one file are named."""
_METHOD = re.compile(r'<td data-order="[^"]*">(?P<method>.+)</td>')


def edits(name: str, stored: str, expected: str) -> Iterator[str]:
    """The differences of one file, one sentence each. Figures drawn in a page are not compared."""
    stored, expected = _undrawn(stored), _undrawn(expected)
    if stored == expected:
        return
    found = _of_csv(stored, expected) if name.endswith(".csv") else _of_lines(name, stored, expected)
    first = list(islice(found, SHOWN + 1))
    yield from (f"{name}{sentence}" for sentence in first[:SHOWN])
    if len(first) > SHOWN:
        yield f"{name}: more differences follow"
    if not first:
        yield f"{name} differs from what these records make"


def _undrawn(text: str) -> str:
    """The text of a page without its drawings: they differ between versions of matplotlib."""
    return re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)


def _of_csv(stored: str, expected: str) -> Iterator[str]:
    rows, wanted = (list(csv.DictReader(io.StringIO(text))) for text in (stored, expected))
    if len(rows) != len(wanted):
        yield f" has {len(rows)} rows, its records make {len(wanted)}"
    for row, right in zip(rows, wanted, strict=False):
        where = ", ".join(filter(None, (f", row '{right['method']}'", right.get("task"))))
        for column in dict.fromkeys([*right, *row]):
            if row.get(column) != right.get(column):
                yield f"{where}: {column}: {_told(row.get(column), right.get(column))}"


def _of_lines(name: str, stored: str, expected: str) -> Iterator[str]:
    lines, wanted = stored.split("\n"), expected.split("\n")
    for kind, i, j, k, m in SequenceMatcher(None, lines, wanted, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        pairs = j - i == m - k
        for at in range(max(j - i, m - k)):
            given = lines[i + at] if i + at < j else None
            right = wanted[k + at] if k + at < m else None
            cells = _cells(given, right) if pairs and name.endswith(".md") else []
            head = _above(wanted, k + at, cells) if cells else ""
            row = "" if right is None else _row(name, wanted, k + at)
            for place, (was, makes) in enumerate(cells or [(given, right)]):
                if was != makes:
                    column = f": {head[place]}" if head else ""
                    yield f", line {i + at + 1}{row}{column}: {_told(was, makes)}"


def _cells(given: str | None, right: str | None) -> list[tuple[str, str]]:
    """The cells of two rows of one table in Markdown; none where they are no such rows."""
    if given is None or right is None:
        return []
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in (given, right)]
    table = given.startswith("|") and right.startswith("|") and len(rows[0]) == len(rows[1])
    return list(zip(*rows, strict=True)) if table else []


def _above(lines: Sequence[str], at: int, cells: Sequence[object]) -> list[str]:
    """The head of the table that a line is in."""
    while at > 0 and lines[at - 1].startswith("|"):
        at -= 1
    head = [cell.strip() for cell in lines[at].split("|")]
    return head if len(head) == len(cells) else [""] * len(cells)


def _row(name: str, lines: Sequence[str], at: int) -> str:
    """The method whose row a line of a table or page is in, in words."""
    if name.endswith(".md"):
        parts = [cell.strip() for cell in re.split(r"(?<!\\)\|", lines[at])] if lines[at].startswith("|") else []
        return f", row '{parts[2]}'" if len(parts) > 2 else ""
    while at >= 0 and not lines[at].startswith(("<tr", "</tr")):
        at -= 1
    found = [match for line in lines[at : at + 3] if (match := _METHOD.fullmatch(line))] if at >= 0 else []
    return f", row '{html.unescape(found[-1]['method'])}'" if found else ""


def _told(given: str | None, makes: str | None) -> str:
    """The two texts, shortened."""
    has, right = ("nothing" if text is None else f"'{text:.80}'" for text in (given, makes))
    return f"the file has {has}, its records make {right}"
