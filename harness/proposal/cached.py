"""Steps of a proposal that take time, affinities and partitions: the same code and inputs make each only once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.data.grouping import Affinity, Partition
from harness.data.units import UnitSpace
from harness.util.cache import Cache, Entry
from harness.util.fingerprint import content, identity


def made(stage: str, method: Any, given: Mapping[str, Any], units: UnitSpace, cache: Cache) -> Any:
    """What a method of a stage makes of what it is given, or has made of the same before, in any cell."""
    if cache.folder is None or stage not in ("affinity", "partitioner"):  # other stages take no longer than to look up
        return method(**given)
    try:
        key = content(identity(method), given, units)
    except TypeError:  # given something that cannot be told from something else
        return method(**given)
    if entry := cache.read(stage, key):
        if stage == "affinity":
            return Affinity.of(entry.arrays, units, entry.about)
        return [Partition(labels=entry.arrays[str(i)], **about) for i, about in enumerate(entry.about)]
    result = method(**given)
    if kept := _entry(result):
        cache.write(stage, key, kept)
    return result


def _entry(result: Any) -> Entry | None:
    """An affinity or partitions as they are kept; None for what else a plugin may return."""
    if type(result) is Affinity:
        return Entry(result.arrays(), result.diagnostics)
    if isinstance(result, list) and all(type(found) is Partition and found.stability is None for found in result):
        about = [{"k": found.k, "setting": found.setting, "diagnostics": found.diagnostics} for found in result]
        return Entry({str(i): found.labels for i, found in enumerate(result)}, about)
    return None
