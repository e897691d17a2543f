"""The sizes of groups that a selector takes."""

from __future__ import annotations

from harness import HarnessError

SMALLEST = "smallest group that may be chosen"
LARGEST = "largest group that may be chosen"
COUNT = "largest number of candidates"


def require_sizes(min_size: int, max_size: int | None) -> None:
    """Errors: ``min_size`` above ``max_size``."""
    if max_size is not None and min_size > max_size:
        raise HarnessError(
            f"selector.min_size={min_size}, selector.max_size={max_size}: no group has such a size.",
            "Set min_size <= max_size.",
        )
