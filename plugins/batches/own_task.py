"""Examples of the task that a subject was made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from harness import Batch, BatchMethod, HarnessError, Vocabulary, hookimpl, rng_for
from harness.data.stages import FOR_COUNTERFACTUALS


@dataclass(frozen=True)
class OwnTask(BatchMethod):
    """Examples of the task that the subject was made for, with counterfactuals.

    The subject makes them: a compiled program asks for its own answers (``subject=compiled``), an implanted circuit for
    those of its task (``subject=implanted``). So one batch serves all tasks of a zoo: ``harness sweep subject=compiled
    subject.program=reverse,hist batch=own_task``.

    Errors: a subject that was made for no task, or for several.
    Source: none; the construction of the subject.
    """

    name: ClassVar[str] = "own_task"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_COUNTERFACTUALS
    n: Annotated[int, Ge(1)] = field(default=256, metadata={"help": "number of examples"})
    seed: int = field(default=0, metadata={"help": "seed of every draw"})

    def __call__(self, vocabulary: Vocabulary) -> Batch:
        if vocabulary.task is None:
            raise HarnessError(
                "batch own_task: this subject was not made for one task.",
                "Use a subject with a task of its own (subject=compiled, subject=implanted), or another batch: "
                "batch=synthetic_induction",
            )
        return vocabulary.task(self.n, rng_for(self.seed, "own task"))


@hookimpl
def harness_batches() -> list[type[OwnTask]]:
    return [OwnTask]
