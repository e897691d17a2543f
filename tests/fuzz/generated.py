"""Properties that hold for generated inputs: 50 of a kind in the quick suite, 2,000 in the slow one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

QUICK, SLOW = 50, 2000


def generated(*strategies: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """A test of a property without fixtures, given inputs of these strategies. A property makes its own folders."""

    def test_of(holds: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("n", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)])
        def test(n: int) -> None:
            settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck))(
                given(*strategies)(holds)
            )()

        test.__doc__ = holds.__doc__
        return test

    return test_of
