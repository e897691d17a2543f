"""Labels from a subject that knows its units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import HarnessError, Labels, hookimpl


@dataclass(frozen=True)
class Truth:
    """What the subject itself knows of its units: the roles that were planted in it.

    Nothing is estimated: agreement with these labels is agreement with the truth. Units that play no role (filler) have
    no class, and take no part in agreement.

    Input: truth, the subject's own labels. Output: those, a class per unit or None.

    Errors: a subject whose units nobody planted.
    Source: none; it is the construction of the subject.
    """

    name: ClassVar[str] = "truth"

    def __call__(self, truth: Labels | None) -> Labels:
        if truth is None:
            raise HarnessError(
                "labels truth: this subject does not know the roles of its units.",
                "Use a planted one (subject=planted batch=planted), or labels=survey.",
            )
        return truth


@hookimpl
def harness_labels() -> list[type[Truth]]:
    return [Truth]
