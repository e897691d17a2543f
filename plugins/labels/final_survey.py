"""The survey at the end of training, for every checkpoint before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from harness import History, Labels, Recording, hookimpl

from .survey import Survey


@dataclass(frozen=True)
class FinalSurvey(Survey):
    r"""The classes that units have at the last checkpoint, with their selectivity at this one.

    .. math:: \operatorname{class}(h) = \operatorname{survey}(\text{recording at the last step})_h, \qquad
              \text{selectivity}_h = \operatorname{survey}(\text{recording at this step})_h

    A group of one class is then the same group at every step, and its damage can be followed through training
    (``partitioner=oracle``, ``experiment=trajectory``). Whether its units have the attention of their class at this
    step is what their selectivity says.

    Input: attention rows at the query, of this checkpoint and of the last one. Output: a class per unit, and its
    selectivities (dimensionless). Parameters are those of ``survey``.

    Errors: those of ``survey``; a subject without checkpoints.
    Source: the developmental closures of the closure paper (Xu 2026): heads classified at the final checkpoint, ablated
    at earlier ones.
    """

    name: ClassVar[str] = "final_survey"

    def __call__(self, recording: Recording, history: History) -> Labels:  # type: ignore[override]  # it asks for more
        now = super().__call__(recording)
        return replace(now, classes=super().__call__(history.final).classes)


@hookimpl
def harness_labels() -> list[type[FinalSurvey]]:
    return [FinalSurvey]
