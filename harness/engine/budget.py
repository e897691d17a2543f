"""The maximum size of a pass: limited by memory, and by the size beyond which a pass is no faster. Loads no model."""

from __future__ import annotations

import math
from dataclasses import dataclass

ON_CPU, ON_GPU = 6144, 1 << 16
"""Rows x positions beyond which a pass is no faster: it leaves the processor's cache, or fills the GPU."""


@dataclass(frozen=True)
class Load:
    """Rows per example of a pass: the ``mean`` over layers decides the time, the ``most`` in any layer the memory."""

    mean: float = 1.0
    most: int = 1

    @classmethod
    def throughout(cls, rows: int) -> Load:
        """The same number of rows in every layer."""
        return cls(float(rows), rows)


@dataclass(frozen=True)
class Budget:
    """The largest pass: ``memory`` in bytes, and ``positions`` (rows x positions) beyond which a pass is no faster.

    ``per_position``: bytes that one position of one row takes while a block works on it; ``per_row``: bytes of a row's
    logits and of the values that metrics compute from them.
    """

    memory: int
    per_position: int
    per_row: int
    positions: int

    @classmethod
    def of(cls, memory: int, positions: int, itemsize: int, hidden: int, widest: int, vocabulary: int) -> Budget:
        """For a model with ``itemsize`` bytes per number, whose widest module takes ``widest`` numbers per position.

        Inside a block: its input, its normed and rotated copies, the input of the widest module and the values that it
        is computed from. Logits are held several times: the model's, in float32, the baseline's, and those of metrics.
        """
        return cls(memory, itemsize * 8 * (widest + hidden), 6 * 4 * vocabulary, positions)

    def rows(self, length: int) -> int:
        """Rows of this many positions in one pass; at least one."""
        return self.examples(length, Load())

    def examples(self, length: int, load: Load) -> int:
        """Examples of this many positions in one pass; at least one."""
        return max(1, min(self._fit(length) // load.most, int(self.positions / (length * load.mean))))

    def conditions(self, n: int, examples: int, length: int, load: Load) -> int:
        """How many of ``n`` conditions to evaluate in one pass of these examples, beside the baseline.

        ``load`` is that of all ``n``. Passes get about the same number of conditions each.
        """
        passes = math.ceil(examples * load.mean * length / self.positions)
        return max(1, min(math.ceil(n / passes), self._fit(length) // examples - 1))

    def _fit(self, length: int) -> int:
        return self.memory // (length * self.per_position + self.per_row)
