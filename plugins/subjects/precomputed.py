"""Units without a model, for an affinity that was computed elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from harness import HarnessError, Unit, UnitSpace, digest, hookimpl
from harness.util.errors import without_model


@dataclass(frozen=True)
class Precomputed:
    """Units without a model behind them: what was computed elsewhere is grouped here, and cannot be tested.

    Units: attention heads, index = layer * heads + head, or whatever a file lists. Without ``units``, their number is
    the size of the matrix, and layers x heads the one shape of that size which holds every head that the labels name
    (published label files name all). ``matrix`` and ``labels`` are those of the cell, where it has them.

    Errors: nothing that tells the units, several shapes that fit, or none; whatever asks for a model.
    """

    name: ClassVar[str] = "precomputed"
    units: str = field(
        default="", metadata={"help": '16x16 (layers x heads), or a JSON file: ["L0H0", ...]; none: by size and labels'}
    )
    matrix: str | None = field(
        default=None,
        metadata={
            "help": "matrix whose size tells the number of units",
            "follows": "affinity.path",
            "by_content": True,
        },
    )
    labels: str | None = field(
        default=None,
        metadata={"help": "labels whose heads tell layers x heads", "follows": "labels.path", "by_content": True},
    )

    def __call__(self) -> WithoutModel:
        units = self._told() if self.units else self._inferred()
        label = f"precomputed {Path(self.matrix).stem}" if self.matrix else "precomputed"
        return WithoutModel(units, {"matrix": self.matrix, "n_units": len(units)}, label)

    def fingerprint(self) -> str:
        """The units, whatever they were found from."""
        try:
            return digest(self().units.labels)
        except HarnessError:
            return ""

    def _told(self) -> UnitSpace:
        if shape := re.fullmatch(r"(\d+)x(\d+)", self.units):
            return UnitSpace.heads([int(shape[2])] * int(shape[1]))
        match _json("subject.units", self.units):
            case {"n_layers": int(layers), "n_heads": int(heads)}:
                return UnitSpace.heads([heads] * layers)
            case [*labels] if all(isinstance(label, str) for label in labels):
                return UnitSpace(tuple(map(Unit.parse, labels)))
        forms = 'It holds a list ["L0H0", "L0H1", ...], or {"n_layers": 16, "n_heads": 16}.'
        raise HarnessError(f"subject.units={self.units}: it has neither form that can be read.", forms)

    def _inferred(self) -> UnitSpace:
        if not self.matrix:
            raise HarnessError(
                "subject precomputed: nothing tells its units.",
                "Name the matrix (affinity=precomputed affinity.path=J.npy), or the units (subject.units=16x16).",
            )
        n = _size(self.matrix)
        named = list(_heads(_json("labels.path", self.labels))) if self.labels else []
        layers, heads = (max(column) + 1 for column in zip(*named, strict=True)) if named else (1, 1)
        fit = [(of, n // of) for of in range(layers, n + 1) if n % of == 0 and n // of >= heads]
        if len(fit) == 1:
            return UnitSpace.heads([fit[0][1]] * fit[0][0])
        if not fit:
            raise HarnessError(
                f"affinity.path={self.matrix}: {n} units cannot be the {layers} layers of {heads} heads, or more, that "
                f"labels.path={self.labels} names.",
                "Give a matrix and labels of the same units, or say what they are: subject.units=FILE.json",
            )
        likely = min(fit, key=lambda shape: abs(shape[0] - shape[1]))
        shapes = ", ".join(f"{of}x{each}" for of, each in fit)
        raise HarnessError(
            f"affinity.path={self.matrix}: {n} units can be any of {shapes} (layers x heads).",
            f"Say which: subject.units={likely[0]}x{likely[1]}",
        )


@dataclass(frozen=True)
class WithoutModel:
    """Units, and nothing behind them: no vocabulary, no context, nothing to record. They can be grouped, not tested."""

    units: UnitSpace
    about: Mapping[str, Any]
    label: str
    vocab_size: int = 0
    context: int = 0
    encode: None = None

    def record(self, *_: Any) -> NoReturn:
        """Refused."""
        raise without_model(self.label)

    evaluate = record


def _size(path: str) -> int:
    """How many rows and columns the square matrix in a file has."""
    try:
        held = np.load(Path(path).expanduser(), mmap_mode="r", allow_pickle=False)
        arrays = [held] if isinstance(held, np.ndarray) else list(held.values())
    except Exception as error:  # whatever a damaged archive makes zip say
        why = getattr(error, "strerror", None) or "it is no .npy or .npz file of numbers"
        raise HarnessError(f"affinity.path={path}: {why}.", "Give a matrix: affinity.path=J.npy (or .npz)") from error
    sizes = {array.shape[0] for array in arrays if array.ndim == 2 and array.shape[0] == array.shape[1]}
    if len(sizes) != 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise HarnessError(
            f"affinity.path={path}: no square matrix tells the number of units (shapes: {shapes}).",
            "Say what the units are: subject.units=16x16 (layers x heads)",
        )
    return int(sizes.pop())


def _json(key: str, path: str) -> Any:
    try:
        return json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or f"it is not JSON: {error}"
        raise HarnessError(f"{key}={path}: {why}.", f"Give a JSON file: {key}=FILE.json") from error


def _heads(node: Any) -> Iterator[tuple[int, int]]:
    """Every head that a JSON document names, in whatever form: "L0H1", "L0_H1", {"layer": 0, "head": 1}."""
    match node:
        case str() if head := re.fullmatch(r"L(\d+)_?H(\d+)", node):
            yield int(head[1]), int(head[2])
        case list():
            for item in node:
                yield from _heads(item)
        case dict():
            yield from _heads([*node.keys(), *node.values()])
            if isinstance(node.get("layer"), int) and isinstance(node.get("head"), int):
                yield node["layer"], node["head"]


@hookimpl
def harness_subjects() -> list[type[Precomputed]]:
    return [Precomputed]
