"""What of a pass fits into memory, and how much of it is worth having: known without loading a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

ON_CPU, ON_GPU = 6144, 1 << 16
"""Rows x positions beyond which a pass is no faster: it leaves the processor's cache, or fills the GPU."""


@dataclass(frozen=True)
class Load:
    """Rows that a pass has for each example: on average over layers, which take the time, and at most, which have to
    fit.
    """

    mean: float = 1.0
    most: int = 1

    @classmethod
    def throughout(cls, rows: int) -> Load:
        """As many in every layer."""
        return cls(float(rows), rows)


@dataclass(frozen=True)
class Room:
    """What of a pass fits into ``memory`` bytes.

    ``per_position``: bytes that one position of one row takes while a block works on it; ``per_row``: bytes of its
    logits and what metrics make of them; ``positions``: rows x positions beyond which a pass is no faster.
    """

    memory: int
    per_position: int
    per_row: int
    positions: int

    @classmethod
    def of(cls, memory: int, positions: int, itemsize: int, hidden: int, widest: int, vocabulary: int) -> Room:
        """For a model of ``itemsize`` bytes per number, whose widest module is handed ``widest`` of them per position.

        Inside a block: its input, normed and rotated copies of it, and what the widest module is handed and what that
        is made of. A copy of the logits for each of: the model, float32, the baseline ones, what metrics make of them.
        """
        return cls(memory, itemsize * 8 * (widest + hidden), 6 * 4 * vocabulary, positions)

    def rows(self, length: int) -> int:
        """Rows of this many positions that fit into one pass and are worth having; at least one."""
        return self.examples(length, Load())

    def examples(self, length: int, load: Load) -> int:
        """Examples of this many positions for one pass; at least one."""
        return max(1, min(self._fit(length) // load.most, int(self.positions / (length * load.mean))))

    def conditions(self, n: int, examples: int, length: int, load: Load) -> int:
        """How many of ``n`` conditions to evaluate in one pass of these examples, beside the baseline model.

        ``load``: that of all of them. They are dealt out evenly.
        """
        parts = math.ceil(examples * load.mean * length / self.positions)
        return max(1, min(math.ceil(n / parts), self._fit(length) // examples - 1))

    def _fit(self, length: int) -> int:
        return self.memory // (length * self.per_position + self.per_row)
