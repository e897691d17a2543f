"""Labels from a subject with known classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import HarnessError, LabelMethod, Labels, hookimpl


@dataclass(frozen=True)
class Truth(LabelMethod):
    """The true class of every unit, from the subject: the roles that were planted in it.

    Nothing is estimated, so agreement with these labels is agreement with the truth. Units without a role (filler) have
    no label, and agreement ignores them.

    Input: truth, the labels of the subject. Output: the same labels, a class per unit or None.

    Errors: a subject that does not know the classes of its units.
    Source: none; the construction of the subject.
    """

    name: ClassVar[str] = "truth"

    def __call__(self, truth: Labels | None) -> Labels:
        if truth is None:
            raise HarnessError(
                "labels truth: this subject does not know the roles of its units.",
                "Use a planted subject (subject=planted batch=planted), or labels=survey.",
            )
        return truth


@hookimpl
def harness_labels() -> list[type[Truth]]:
    return [Truth]
