"""The command about what is kept of earlier computing: cache."""

from __future__ import annotations

import time
from argparse import Namespace
from collections import defaultdict

from harness.cli.session import Session, lines
from harness.util.bytesize import parse_size, write_size
from harness.util.cache import Cache, Stored
from harness.util.errors import HarnessError


def cache(arguments: Namespace) -> int:
    """``show``: entries and bytes per kind; ``prune``: down to ``cache_limit=``, or everything where none is told."""
    if arguments.words not in (["show"], ["prune"]):
        raise HarnessError("cache: say what to do with it.", "Examples: harness cache show · harness cache prune")
    session = Session.open(arguments)
    words = dict(word.split("=", 1) for word in session.overrides)
    pruning = arguments.words == ["prune"]
    for key in words.keys() - ({"workspace", "cache_limit"} if pruning else {"workspace"}):
        raise HarnessError(f"'{key}={words[key]}' has no effect here.", f"Example: {_EXAMPLE[pruning]}")
    kept = Cache(session.workspace.root / "cache")
    if pruning:
        dropped = kept.prune(_limit(words.get("cache_limit", "0B")))
        session.note(f"{len(dropped)} entries dropped, {write_size(_bytes(dropped))}")
    session.print(_table(kept), _by_kind(kept.stored()))
    return 0


_EXAMPLE = {False: "harness cache show workspace=runs", True: "harness cache prune workspace=runs cache_limit=1GB"}


def _limit(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise HarnessError(f"cache_limit: {error}.", f"Example: {_EXAMPLE[True]}") from error


def _table(kept: Cache) -> str:
    stored = kept.stored()
    now = time.time()
    rows = [("kind", "entries", "size", "last used")]
    for kind, of in sorted(_by_kind(stored).items()):
        days = (now - of["used"]) / 86400
        rows.append(
            (kind, str(of["entries"]), write_size(of["bytes"]), f"{days:.0f} days ago" if days >= 1 else "today")
        )
    return f"{lines(rows, '')}\n{len(stored)} entries, {write_size(_bytes(stored))} in {kept.folder}"


def _by_kind(stored: list[Stored]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"entries": 0, "bytes": 0, "used": 0})
    for entry in stored:
        of = found[entry.kind]
        of["entries"] += 1
        of["bytes"] += entry.bytes
        of["used"] = max(of["used"], int(entry.used))
    return dict(found)


def _bytes(stored: list[Stored]) -> int:
    return sum(entry.bytes for entry in stored)
