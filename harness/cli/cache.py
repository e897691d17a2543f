"""The command about cached results: cache."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections import defaultdict

from harness.cli.session import Session, lines
from harness.cli.words import key_of
from harness.util.bytesize import parse_size, write_size
from harness.util.cache import Cache, Stored
from harness.util.errors import HarnessError


def cache(arguments: Namespace) -> int:
    """``show``: entries and bytes per kind. ``prune``: remove entries down to ``cache_limit=``, by default all."""
    if arguments.words not in (["show"], ["prune"]):
        raise HarnessError("cache takes one word: show or prune.", "Examples: harness cache show · harness cache prune")
    session = Session.open(arguments)
    pruning = arguments.words == ["prune"]
    limits = [word for word in session.overrides if key_of(word) == "cache_limit"]
    if limits and not pruning:
        raise HarnessError(f"'{limits[0]}' has no effect here.", f"Example: {_EXAMPLE[pruning]}")
    store = Cache(session.workspace.root / "cache")
    if pruning:
        limit = _limit(session.settings.cache_limit if limits else "0B")
        dropped = store.prune(limit)
        session.note(f"{len(dropped)} entries removed, {write_size(_bytes(dropped))}")
        kept = [entry for entry in store.stored() if not os.access(entry.file.parent, os.W_OK)]
        if _bytes(kept) > limit:
            raise HarnessError(
                f"{len(kept)} entries in {store.folder} cannot be removed: you have no permission to write there.",
                "Prune as the user who owns the folder.",
            )
    session.print(_table(store), _by_kind(store.stored()))
    return 0


_EXAMPLE = {False: "harness cache show workspace=runs", True: "harness cache prune workspace=runs cache_limit=1GB"}


def _limit(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise HarnessError(f"cache_limit: {error}.", f"Example: {_EXAMPLE[True]}") from error


def _table(store: Cache) -> str:
    stored = store.stored()
    now = time.time()
    rows = [("kind", "entries", "size", "last used")]
    for kind, sums in sorted(_by_kind(stored).items()):
        days = (now - sums["used"]) / 86400
        used = "before the clock was set back" if not sums["used"] else f"{days:.0f} days ago" if days >= 1 else "today"
        rows.append((kind, str(sums["entries"]), write_size(sums["bytes"]), used))
    return f"{lines(rows, '')}\n{len(stored)} entries, {write_size(_bytes(stored))} in {store.folder}"


def _by_kind(stored: list[Stored]) -> dict[str, dict[str, int]]:
    by_kind: dict[str, dict[str, int]] = defaultdict(lambda: {"entries": 0, "bytes": 0, "used": 0})
    for entry in stored:
        sums = by_kind[entry.kind]
        sums["entries"] += 1
        sums["bytes"] += entry.bytes
        sums["used"] = max(sums["used"], int(entry.used))
    return dict(by_kind)


def _bytes(stored: list[Stored]) -> int:
    return sum(entry.bytes for entry in stored)
