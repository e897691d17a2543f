"""What of a pass fits into memory, and how much of it is worth having: known without loading a model."""

from __future__ import annotations

from dataclasses import dataclass

ON_CPU, ON_GPU = 4096, 1 << 16
"""Rows x positions beyond which a pass is no faster: it leaves the processor's cache, or fills the GPU."""


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
        is made of. A copy of the logits for each of: the model, float32, the untouched ones, what metrics make of them.
        """
        return cls(memory, itemsize * 8 * (widest + hidden), 6 * 4 * vocabulary, positions)

    def rows(self, length: int) -> int:
        """Rows of this many positions that fit into one pass; at least one."""
        fit = self.memory // (length * self.per_position + self.per_row)
        return max(1, min(fit, self.positions // length))
