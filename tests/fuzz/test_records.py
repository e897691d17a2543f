"""Mutated records: a sentence that names the file, or a record that every page and board can show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from harness.board.card import card
from harness.board.compare_groups import compare_groups, groups_text
from harness.board.lineage import Lineage
from harness.board.markdown import markdown
from harness.board.recomputed import contradictions
from harness.board.submission import problems
from harness.board.table import build
from harness.board.write import as_csv, as_json, cells_as_csv
from harness.records.reader import parse_record
from harness.records.record import Record
from harness.registry.config import registry
from harness.util.errors import HarnessError
from tests.fuzz.generated import generated
from tests.planted_records import planted_records

OLD = sorted((Path(__file__).parents[1] / "old").glob("record_*.json"))
Place = tuple[str | int, ...]

HOSTILE = [
    "",
    "..",
    "../../x",
    "/etc/passwd",
    "a/b",
    "a\u2028b\x85",
    "|`<b>&\\",
    "\x1b[31m",
    "$\\frac{",
    "\x00",
    "L99H99",
]
NUMBERS = st.sampled_from([0, -1, 1, 2, 99, 10**9, 2**63 - 1, 0.5, -0.0, 1e308, -1e308, 5e-324])
VALUES = st.one_of(
    *(st.none(), st.booleans(), NUMBERS, st.sampled_from(HOSTILE), st.text(max_size=8)),
    st.lists(st.integers(-2, 9), max_size=4),
    st.sampled_from(["[]", "{}", "[[]]", '{"name": 3}']).map(json.loads),
)


@cache
def texts() -> tuple[str, ...]:
    """Real records: of every schema, and four of today's."""
    return (*(path.read_text() for path in OLD), *(record.to_json() for record in planted_records()))


@cache
def places(i: int) -> tuple[Place, ...]:
    """The places of all values in a record; of long lists, those of the first two entries."""
    return tuple(_places(json.loads(texts()[i]), ()))


def _places(value: Any, here: Place) -> Iterator[Place]:
    if here:
        yield here
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in inside:
        yield from _places(item, (*here, key))


@st.composite
def mutated(draw: Callable[[Any], Any]) -> str:
    """A real record in which up to three values are replaced, removed, renamed or repeated."""
    i = draw(st.integers(0, len(OLD) + 3))
    data = json.loads(texts()[i])
    for *where, last in draw(st.lists(st.sampled_from(places(i)), min_size=1, max_size=3, unique=True)):
        inside = data
        try:
            for key in where:
                inside = inside[key]
            kind = draw(st.sampled_from(["replace", "replace", "remove", "rename", "repeat"]))
            if kind == "replace":
                inside[last] = draw(VALUES)
            elif kind == "remove":
                del inside[last]
            elif kind == "rename" and isinstance(inside, dict):
                inside[draw(st.sampled_from(HOSTILE))] = inside.pop(last)
            elif isinstance(inside, list):
                inside.append(inside[last])
        except (KeyError, IndexError, TypeError):  # an earlier change took it away
            continue
    return json.dumps(data)


BYTES = st.one_of(
    st.binary(max_size=64),
    st.text(max_size=64).map(str.encode),
    st.sampled_from(["[", '{"a":', '{"schema":"closure-harness/record/7","status":']).map(
        lambda part: part.encode() * 9999
    ),
    st.sampled_from(["NaN", "Infinity", "1e999", "-1e999", "9" * 400, "9" * 9999, '"\\ud800"', "[]", '""', "null"]).map(
        lambda value: texts()[-1].replace('"alpha": 0.05', f'"alpha": {value}').encode()
    ),
    st.integers(1, 10**4).map(lambda end: texts()[-1].encode()[:end]),
)


def check(refusal: HarnessError) -> None:
    """A sentence, which names the record."""
    if "record 3f9c " not in refusal.what and "cell " not in refusal.what:
        raise AssertionError(refusal.what)


@generated(BYTES)
def test_bytes_are_a_record_or_a_sentence(content: bytes) -> None:
    try:
        record = parse_record(content, "3f9c", "move it away")
    except HarnessError as error:
        check(error)
    else:
        assert parse_record(record.to_json(), "again", "") == record


def read(text: str) -> Record | None:
    """The record, or None for one that is refused with a sentence."""
    try:
        return parse_record(text, "3f9c", "")
    except HarnessError as error:
        check(error)
        return None


@generated(mutated())
def test_a_mutated_record_that_is_read_can_be_written_and_shown(text: str) -> None:
    if (record := read(text)) is None:
        return
    assert replace(parse_record(record.to_json(), "again", ""), original=record.original) == record
    assert record.digest
    assert card(record)
    others = [*planted_records(), record]
    boards = build(others)
    assert markdown(boards)
    assert as_csv(boards) + cells_as_csv(boards)
    assert json.loads(as_json(boards, Lineage.of(others, "harness leaderboard")))


@generated(mutated())
def test_a_mutated_record_is_compared_or_refused(text: str) -> None:
    if (record := read(text)) is not None:
        try:
            assert groups_text(compare_groups(record, planted_records()[0]))
        except HarnessError as error:
            check(error)


@cache
def plugins() -> Any:
    return registry()


@generated(mutated())
def test_a_mutated_record_is_not_added_in_silence(text: str) -> None:
    """A record that differs from the honest one in a figure that the harness can compute is refused."""
    if (record := read(text)) is None:
        return
    board = [each for each in planted_records() if "pearson" in each.cell.method]
    found = problems({"theirs": record}, board, plugins())
    assert all(isinstance(sentence, str) and sentence for sentence in found)
    if not found and record not in board:  # it may differ in what is taken as told, and in nothing else
        assert list(contradictions(record)) == []
