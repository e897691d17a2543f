"""Who uses how many threads: numerical libraries one each, pieces of work and forward passes all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def cores() -> int:
    """Cores that this process may use: ``OMP_NUM_THREADS`` where it is set, as a launcher of several jobs sets it."""
    from joblib import cpu_count

    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list has one number per nesting level
    return min(int(told), cpu_count()) if told.isdigit() and int(told) else int(cpu_count())


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP, torch's included, on one thread: small fits in a loop are fifty times slower when threads fight.

    For a cell's CPU stages; ``spread`` makes use of the other cores. A model's forward passes belong outside.
    """
    # A library that is loaded later comes with all its threads: scipy's and scikit-learn's are loaded first.
    import sklearn.utils  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def spread(work: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """``[work(item) for item in items]`` on all cores, for work that is mostly matrix products (they need no GIL).

    To be used within ``one_thread``; the answer does not depend on the number of cores.
    """
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(work, items))
