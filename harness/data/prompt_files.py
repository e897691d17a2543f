"""Files of prompts: the harness's own columns, and those of other projects."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.data.prompts import Answer, Prompt, Words
from harness.util.errors import HarnessError
from harness.util.json_files import LARGEST, parse_json
from harness.util.paths import expanded, is_file, why_no_file
from harness.util.text import decoded

Row = Mapping[str, Any]
Read = Callable[[Row, str, str, Mapping[str, int]], Prompt]
"""A row, the chosen column, where it stands, and positions that all rows share -> its prompt."""
FORMS = """Columns of a row, in JSONL, JSON (a list) or CSV:
  clean, answers, and if there are: counterfactual, wrong_answers, positions, document
  EAP-IG: clean, corrupted, and label ([right, wrong]) or correct_idx, incorrect_idx
  auto-circuit: {"prompts": [{clean, corrupt, answers, wrong_answers}], "word_idxs": {...}}
  MIB: prompt, choices, answerKey, NAME_counterfactual {prompt, choices, answerKey}"""
_IDS = re.compile(r"\[\s*\d+(\s*,\s*\d+)*\s*\]")
_SUFFIX = "_counterfactual"


def read_prompts(path: str, counterfactual: str = "") -> tuple[str, list[Prompt]]:
    """The form of a file, by name, and its prompts. ``counterfactual``: the column to use, where there are several.

    Errors: a file that cannot be read; columns of no known form; a row whose values have the wrong type.
    """
    rows, places = _rows(path)
    if not rows:
        raise _refused(path, "it has no rows")
    form, read = _form(path, rows[0])
    prompts = []
    for number, row in enumerate(rows, start=1):
        try:
            prompts.append(read(row, counterfactual, f"batch.path={path}: row {number}", places))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            what = f"column {error} is missing" if isinstance(error, KeyError) else str(error)
            raise _refused(path, f"row {number}: {what}") from error
    return form, prompts


def _refused(path: str, why: str) -> HarnessError:
    return HarnessError(f"batch.path={path}: {why}.", FORMS)


def _rows(path: str) -> tuple[list[Row], Mapping[str, int]]:
    """The rows of a file, and positions that all of them share (auto-circuit)."""
    file = expanded(path)
    if not is_file(file):
        raise _refused(path, why_no_file(file))
    if file.stat().st_size > LARGEST:
        raise _refused(path, f"it is larger than {LARGEST >> 20} MiB")
    content = file.read_bytes()
    try:
        if file.suffix.lower() in (".csv", ".tsv"):
            return _table(decoded(content), "\t" if file.suffix.lower() == ".tsv" else ","), {}
        if file.suffix.lower() in (".jsonl", ".ndjson"):
            lines = [line for line in decoded(content).split("\n") if line.strip()]
            return [_object(parse_json(line.encode()), i) for i, line in enumerate(lines, start=1)], {}
        value = parse_json(content)
    except (ValueError, csv.Error) as error:
        raise _refused(path, str(error)) from error
    match value:
        case {"prompts": [*rows]}:
            return list(rows), {str(name): place for name, place in (value.get("word_idxs") or {}).items()}
        case [*rows] if all(isinstance(row, dict) for row in rows):
            return rows, {}
    raise _refused(path, "its content is not a list of rows")


def _object(value: Any, number: int) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"line {number} is not an object")  # noqa: TRY004  # a fault of the file
    return value


def _table(text: str, separator: str) -> list[Row]:
    """Rows of a CSV file; a cell with a JSON list is a list."""
    rows: list[Row] = []
    for number, row in enumerate(csv.DictReader(io.StringIO(text), delimiter=separator), start=1):
        if None in row or None in row.values():
            raise ValueError(f"row {number} does not have as many cells as the header")
        rows.append({name: _cell(cell) for name, cell in row.items() if name})
    return rows


def _cell(cell: str) -> Any:
    if cell[:1] in ("[", "{"):
        for written in (cell, cell.replace("'", '"')):  # lists that Python has written
            try:
                return json.loads(written)
            except ValueError:
                continue
    return cell


def _form(path: str, first: Row) -> tuple[str, Read]:
    columns = set(first)
    if "clean" in columns and ({"label", "correct_idx"} & columns):
        return "EAP-IG", _eap
    if {"clean", "corrupt", "answers"} <= columns:
        return "auto-circuit", _auto_circuit
    if {"clean", "answers"} <= columns:
        return "harness", _own
    if "prompt" in columns and ({"choices", "answerKey"} <= columns or "label" in columns):
        return "MIB", _mib
    raise _refused(path, f"its columns are {', '.join(sorted(columns)[:12]) or 'empty'}: no known form")


def _own(row: Row, chosen: str, where: str, _: Mapping[str, int]) -> Prompt:
    other = row.get(chosen or "counterfactual") or None
    document = row.get("document")
    return Prompt(
        _words(row["clean"]),
        _answers(row["answers"]),
        _answers(row.get("wrong_answers")),
        None if other is None else _words(other),
        {str(name): _whole(place) for name, place in (row.get("positions") or {}).items()},
        None if document in (None, "") else str(document),
        where,
    )


def _eap(row: Row, chosen: str, where: str, _: Mapping[str, int]) -> Prompt:
    right: tuple[Answer, ...]
    wrong: tuple[Answer, ...]
    if "correct_idx" in row:
        if "incorrect_idx" not in row:
            raise ValueError("it has correct_idx and no incorrect_idx: which answers are wrong is not in the file")
        right, wrong = (_ids(row[name]) for name in ("correct_idx", "incorrect_idx"))
    else:
        label = row["label"]
        if not isinstance(label, list) or len(label) != 2:
            raise ValueError(f"label is {label!r}, not [right, wrong]: which answers are wrong is not in the file")
        right, wrong = (_answers(part) for part in label)
    other = row.get(chosen or "corrupted") or None
    return Prompt(_words(row["clean"]), right, wrong, None if other is None else _words(other), where=where)


def _auto_circuit(row: Row, chosen: str, where: str, places: Mapping[str, int]) -> Prompt:
    named = {name: _whole(place) for name, place in places.items()}
    return Prompt(
        _words(row["clean"]),
        _answers(row["answers"]),
        _answers(row.get("wrong_answers")),
        _words(row[chosen or "corrupt"]),
        named,
        where=where,
    )


def _mib(row: Row, chosen: str, where: str, _: Mapping[str, int]) -> Prompt:
    names = [name for name in row if name.endswith(_SUFFIX) and row[name]]
    name = chosen if chosen in row else f"{chosen}{_SUFFIX}" if chosen else names[0] if len(names) == 1 else ""
    if not name and names:
        raise ValueError(f"it has several counterfactuals; choose one: batch.counterfactual={names[0]} (of {names})")
    other = row[name] if name else None
    prompt = row["prompt"]
    right, rest = _choice(row, prompt)
    wrong = rest
    if other is not None and not isinstance(row.get("choices"), list):
        theirs, _rest = _choice(other, prompt)
        wrong = tuple(answer for answer in theirs if answer not in right) or rest
    return Prompt(_words(prompt), right, wrong, None if other is None else _words(other["prompt"]), where=where)


def _choice(row: Row, prompt: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The right choice of a MIB row, and the others, as continuations of the prompt."""
    if "choices" not in row:
        return (_after(prompt, str(row["label"])),), ()
    choices = row["choices"]
    texts = [_after(prompt, str(text)) for text in (choices["label"] if isinstance(choices, dict) else choices)]
    right = texts[_whole(row["answerKey"])]
    return (right,), tuple(text for text in texts if text != right)


def _after(prompt: str, answer: str) -> str:
    """MIB writes answers without the space that separates them from the prompt."""
    return answer if prompt[-1:].isspace() or answer[:1].isspace() else f" {answer}"


def _words(value: Any) -> Words:
    if isinstance(value, str):
        return tuple(json.loads(value)) if _IDS.fullmatch(value) else value
    if isinstance(value, list) and value and all(isinstance(token, int) for token in value):
        return tuple(value)
    raise TypeError(f"{value!r:.80} is neither text nor a list of token ids")


def _answers(value: Any) -> tuple[Answer, ...]:
    values = value if isinstance(value, list) else [] if value in (None, "") else [value]
    for answer in values:
        if not isinstance(answer, str | int) or isinstance(answer, bool) or answer == "":
            raise TypeError(f"the answer {answer!r:.80} is neither text nor a token id")
    return tuple(values)


def _ids(value: Any) -> tuple[int, ...]:
    """Token ids; a CSV file has them as text."""
    return tuple(_whole(token) for token in (value if isinstance(value, list) else [value]))


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit())):
        raise TypeError(f"{value!r:.80} is not a whole number")
    return int(value)


def fingerprint(path: str) -> str:
    """Digest of a file of prompts. Empty: there is none."""
    from harness.util.digest import digest_files

    file: Path = expanded(path)
    return digest_files(file) if is_file(file) else ""
