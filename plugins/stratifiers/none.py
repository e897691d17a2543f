"""No strata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import Strata, Stratifier, hookimpl


@dataclass(frozen=True)
class NoStrata(Stratifier):
    """All examples together: one stratum.

    Input: none. Output: strata of one name, which holds every example.
    Source: none.
    """

    name: ClassVar[str] = "none"

    def __call__(self) -> Strata:
        return Strata(("all",), lambda recording: np.zeros(len(recording.batch), dtype=np.int64))


@hookimpl
def harness_stratifiers() -> list[type[NoStrata]]:
    return [NoStrata]
