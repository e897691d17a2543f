"""Scores from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, HarnessError, Rows, Signal, Source, UnitSpace, digest_files, hookimpl
from harness.data.importances import FORMS, read_importances
from harness.util.json_files import read_json
from harness.util.paths import expanded, is_file


@dataclass(frozen=True)
class Precomputed(Signal):
    """One score per unit that was computed elsewhere: importances of MIB, or a JSON object of labels and numbers.

    Heads are named ``a3.h5`` or ``L3H5``, MLP layers ``m3`` or ``L3.mlp``. It gives a ranking and no activity over
    examples: use it with methods that take scores (``partitioner=top_k``, ``elbow``, ``threshold``) and with ``harness
    curve``. ``harness ranking out=FILE.json`` writes such a file.

    Input: units. Output: activity [1, units], in the unit of the file.

    Errors: no file; one of another model: units without a score, or scores without a unit; nodes without a number.
    Source: the file; its form is that of Mueller et al. 2025 (MIB).
    """

    name: ClassVar[str] = "precomputed"
    source: ClassVar[Source] = ""  # it does not read the model
    path: str = field(default="", metadata={"help": "JSON file of node scores", "by_content": True})
    absolute: bool = field(default=False, metadata={"help": "rank by the size of scores, whatever their sign"})

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        """Nothing is recorded for it."""
        return np.zeros(rows.values.shape[:2])

    def __call__(self, units: UnitSpace) -> Activity:  # type: ignore[override]  # a signal may ask for units alone
        if not self.path:
            raise HarnessError("signal precomputed: no file is given. Example: signal.path=importances.json", FORMS)
        scores = read_importances("signal.path", self.path, units)
        return Activity((np.abs(scores) if self.absolute else scores)[None], units)

    def fingerprint(self) -> str:
        """Digest of the file's content. Empty: there is no file."""
        place = expanded(self.path)
        return digest_files(place) if is_file(place) else ""

    def check_files(self) -> None:
        """The file is JSON."""
        if self.path:
            read_json("signal.path", self.path, FORMS)


@hookimpl
def harness_signals() -> list[type[Precomputed]]:
    return [Precomputed]
