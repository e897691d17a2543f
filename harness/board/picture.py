"""The picture of a cell's affinity, drawn beside its record when the cell has finished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.grouping import Affinity, Partition
from harness.records.record import Record
from harness.records.workspace import atomically
from harness.registry.hookspecs import CellFinished, hookimpl
from harness.util.cache import Cache, Entry
from harness.util.fingerprint import code_of, content


@dataclass(frozen=True, eq=False)
class AffinityPicture:
    """Draws ``affinity.png`` from the record and the affinity beside it; the cache holds each picture once."""

    cache: Cache

    @hookimpl
    def harness_cell_finished(self, event: CellFinished) -> None:
        """Draw the affinity of a cell that has one."""
        matrix = event.folder / "affinity.safetensors"
        if event.record.partition is not None and matrix.is_file():
            self._draw(event.record, matrix, event.folder / "affinity.png")

    def _draw(self, record: Record, matrix: Path, picture: Path) -> None:
        from safetensors.numpy import load_file

        assert record.partition is not None
        arrays, labels = load_file(matrix), np.array(record.partition.labels)
        units = record.unit_space
        candidate = units.find(record.candidates[0].units) if record.candidates else ()
        key = content(code_of("harness.board.figures.affinity"), arrays, units, labels, candidate)
        with atomically(picture) as beside:
            if kept := self.cache.read("picture", key):
                beside.write_bytes(kept.arrays["png"].tobytes())
                return
            from harness.board.figures.affinity import draw_affinity

            draw_affinity(Affinity.of(arrays, units, {}), Partition(record.partition.k, labels), candidate, beside)
            png = np.frombuffer(beside.read_bytes(), dtype=np.uint8)
        self.cache.write("picture", key, Entry({"png": png}))
