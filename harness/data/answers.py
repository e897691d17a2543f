"""Sets of answers: all token ids that count as right on an example, and all that count as wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from harness.util.errors import HarnessError

NONE = -1
"""Fills a set that is smaller than the largest one."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The right and the wrong answers of every example: token ids [examples, most], ``-1`` after the last one.

    Errors: an example without a right or a wrong answer; an answer that is right and wrong.
    """

    right: Int[np.ndarray, "examples _"]
    wrong: Int[np.ndarray, "examples _"]

    def __post_init__(self) -> None:
        for row, sets in enumerate(zip(self.right.tolist(), self.wrong.tolist(), strict=True)):
            right, wrong = ({token for token in answers if token != NONE} for answers in sets)
            if not right or not wrong:
                raise HarnessError(
                    f"example {row} has no {'wrong' if right else 'right'} answer.",
                    "Give at least one right and one wrong answer to every example.",
                )
            if both := right & wrong:
                raise HarnessError(
                    f"example {row}: token {min(both)} is a right and a wrong answer.", "Keep it in one of the two."
                )

    @classmethod
    def of(cls, right: Sequence[Sequence[int]], wrong: Sequence[Sequence[int]]) -> Answers:
        """From sets of any sizes, one of each kind per example."""
        return cls(_padded(right), _padded(wrong))

    def __len__(self) -> int:
        return len(self.right)

    def take(self, examples: Int[np.ndarray, " chosen"]) -> Answers:
        """Those of these examples."""
        return Answers(self.right[examples], self.wrong[examples])

    @property
    def swapped(self) -> Answers:
        """The wrong answers as the right ones."""
        return Answers(self.wrong, self.right)

    @property
    def several(self) -> bool:
        """Whether any example has more than one right answer."""
        return bool(((self.right != NONE).sum(axis=1) > 1).any())


def _padded(sets: Sequence[Sequence[int]]) -> Int[np.ndarray, "examples _"]:
    padded = np.full((len(sets), max(map(len, sets), default=0)), NONE, dtype=np.int64)
    for row, answers in enumerate(sets):
        padded[row, : len(answers)] = answers
    return padded
