"""What readers make of a batch while it streams through a model in parts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from harness.data.batch import Batch
from harness.data.recording import Reader, Rows, Source


class Readings:
    """Reductions of every reader, micro-batch by micro-batch and layer by layer."""

    def __init__(self, batch: Batch, readers: Mapping[str, Reader]) -> None:
        self._batch, self._part, self._readers = batch, batch, readers
        self._made: dict[str, dict[int, list[np.ndarray]]] = {name: {} for name in readers}
        self._examples: list[np.ndarray] = []

    def wants(self, source: Source) -> bool:
        """Whether any reader reads this."""
        return any(reader.source == source for reader in self._readers.values())

    def begin(self, examples: Int[np.ndarray, " chosen"]) -> Batch:
        """The next micro-batch: what is shown from now on is of these examples."""
        self._examples.append(examples)
        self._part = self._batch.take(examples)
        return self._part

    def show(self, source: Source, layer: int, values: Float[Tensor, "examples heads _"]) -> None:
        """Let every reader of this source reduce these rows."""
        if not self.wants(source):
            return
        seen = Rows(source, layer, values.detach().float().cpu().numpy(), self._part, self._batch, self._examples[-1])
        for name, reader in self._readers.items():
            if reader.source == source:
                self._made[name].setdefault(layer, []).append(np.asarray(reader.read(seen)))

    def joined(self) -> dict[str, np.ndarray]:
        """Each reader's reductions [examples, units, ...], examples in the order of the batch."""
        back = np.argsort(np.concatenate(self._examples))
        return {
            name: np.concatenate([np.concatenate(layers[layer]) for layer in sorted(layers)], axis=1)[back]
            for name, layers in self._made.items()
        }
