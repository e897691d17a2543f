"""The one reader of records: whoever wrote a file, it gives a record that every later step can use, or a sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.records.flaws import flaws
from harness.records.record import SCHEMA, Record, adapter, laid_out
from harness.records.upgrades import UPGRADES, upgraded
from harness.util.errors import HarnessError
from harness.util.json_files import content_of, parse_json

MOST_BYTES = 2**26
"""Largest size of a record or a board: a record of 100,000 units has a tenth of this."""


def read_record(path: Path) -> Record:
    """A record from disk, validated.

    Errors: a file that is no JSON, or larger or deeper than any record; a record of another schema; a field that is
    missing, unknown or of a wrong type; NaN and infinity; parts that contradict each other
    (:func:`harness.records.flaws.flaws`).
    """
    name, remedy = path.parent.name, f"Redo its cell with the same command and --force, or move the file away: {path}"
    try:
        data = content_of(path, MOST_BYTES)
    except (ValueError, OSError) as error:
        raise HarnessError(f"record {name} is damaged: {_sentence(error)}.", remedy) from error
    return _record(data, name, remedy)


def parse_record(text: str | bytes, name: str, remedy: str) -> Record:
    """A record from its JSON, validated. Errors: those of :func:`read_record`, with this ``name`` and ``remedy``."""
    try:
        data = parse_json(text.encode() if isinstance(text, str) else text, MOST_BYTES)
    except ValueError as error:
        raise HarnessError(f"record {name} is damaged: {_sentence(error)}.", remedy) from error
    return _record(data, name, remedy)


def _record(data: Any, name: str, remedy: str) -> Record:
    from pydantic import ValidationError

    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA and (not isinstance(schema, str) or schema not in UPGRADES):
        readable = f"{', '.join(map(repr, UPGRADES))} and {SCHEMA!r}"
        raise HarnessError(f"record {name} has schema {schema!r:.99}; this harness reads {readable}.", remedy)
    try:
        current = upgraded(data)
    except (AttributeError, TypeError, ValueError, LookupError, HarnessError) as error:
        raise HarnessError(
            f"record {name} is damaged: it does not read as one of schema {schema!r}.", remedy
        ) from error
    if "original" in data:  # a field of the class, never of a file
        raise HarnessError(f"record {name} is damaged: original: unexpected key.", remedy)
    try:
        # As JSON: a list may then stand for a tuple, and nothing else for anything.
        record: Record = adapter().validate_json(json.dumps(current), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise HarnessError(f"record {name} is damaged: {where}: {first['msg'].lower()}.", remedy) from error
    if found := next(flaws(record), None):
        raise HarnessError(f"record {name} is damaged: {found}.", remedy)
    return record if schema == SCHEMA else replace(record, original=laid_out(data))


def _sentence(error: ValueError | OSError) -> str:
    """The error in one line, without the path, which the remedy names."""
    return str(error.strerror if isinstance(error, OSError) else error).rstrip(".")
