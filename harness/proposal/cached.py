"""Caches the slow steps of a proposal, affinities and partitions: for equal code and inputs they are computed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.data.grouping import Affinity, Partition
from harness.data.units import UnitSpace
from harness.util.cache import Cache, Entry
from harness.util.fingerprint import content, identity


def cached_call(stage: str, method: Any, arguments: Mapping[str, Any], units: UnitSpace, cache: Cache) -> Any:
    """The result of a method, from the cache if any cell has called it with equal arguments before."""
    if cache.folder is None or stage not in ("affinity", "partitioner"):  # other stages are as fast as a look-up
        return method(**arguments)
    try:
        key = content(identity(method), arguments, units)
    except TypeError:  # an argument has no digest
        return method(**arguments)
    if entry := cache.read(stage, key):
        if stage == "affinity":
            return Affinity.of(entry.arrays, units, entry.about)
        return [Partition(labels=entry.arrays[str(i)], **about) for i, about in enumerate(entry.about)]
    result = method(**arguments)
    if entry := _entry(result):
        cache.write(stage, key, entry)
    return result


def _entry(result: Any) -> Entry | None:
    """An affinity or partitions as a cache entry; None for any other result."""
    if type(result) is Affinity:
        return Entry(result.arrays(), result.diagnostics)
    if isinstance(result, list) and all(
        type(partition) is Partition and partition.stability is None for partition in result
    ):
        about = [
            {"k": partition.k, "setting": partition.setting, "diagnostics": partition.diagnostics}
            for partition in result
        ]
        return Entry({str(i): partition.labels for i, partition in enumerate(result)}, about)
    return None
