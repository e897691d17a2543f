"""Threads: numerical libraries use one each, independent pieces of work and forward passes use all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use: all, or ``OMP_NUM_THREADS``, which launchers of several jobs set."""
    from joblib import cpu_count

    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list has one number per nesting level
    return min(int(limit), cpu_count()) if limit.isdigit() and int(limit) else int(cpu_count())


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP, including torch's, to one thread: contention makes small fits fifty times slower.

    For the CPU stages of a cell, where ``spread`` uses the other cores. Forward passes of a model run outside of it.
    """
    # A library that is loaded later starts with all its threads, so those of scipy and scikit-learn are loaded first.
    import sklearn.utils  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``[work(item) for item in items]`` on all cores, for work that is mostly matrix products (they need no GIL).

    Use it within ``one_thread``. The result does not depend on the number of cores.
    """
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(work, items))
