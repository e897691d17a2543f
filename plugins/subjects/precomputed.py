"""Units without a model, for an affinity from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Never

import numpy as np

from harness import HarnessError, Subject, SubjectMethod, UnitSpace, digest, hookimpl
from harness.util.errors import without_model


@dataclass(frozen=True)
class Precomputed(SubjectMethod):
    """Units without a model: affinities from files can be grouped, but groups cannot be tested.

    Units: attention heads, index = layer * heads + head, or the units that a file lists. Without ``units``, their
    number is the size of the matrix. Layers x heads must then be the only shape of that size that contains every head
    in the labels (published label files name all heads). By default, ``matrix`` and ``labels`` are the files of the
    cell.

    Errors: nothing gives the units; several shapes fit, or none; a step that needs a model.
    Source: none.
    """

    name: ClassVar[str] = "precomputed"
    units: str = field(
        default="", metadata={"help": '16x16 (layers x heads), or a JSON file: ["L0H0", ...]; empty: from the files'}
    )
    matrix: str | None = field(
        default=None,
        metadata={
            "help": "matrix whose size is the number of units",
            "follows": "affinity.path",
            "by_content": True,
        },
    )
    labels: str | None = field(
        default=None,
        metadata={"help": "labels whose heads give layers x heads", "follows": "labels.path", "by_content": True},
    )

    def __call__(self) -> WithoutModel:
        units = self._given() if self.units else self._inferred()
        label = f"precomputed {Path(self.matrix).stem}" if self.matrix else "precomputed"
        return WithoutModel(units, {"matrix": self.matrix, "n_units": len(units)}, label)

    def fingerprint(self) -> str:
        """Digest of the units, from any source."""
        try:
            return digest(self().units.labels)
        except HarnessError:
            return ""

    def _given(self) -> UnitSpace:
        if shape := re.fullmatch(r"(\d+)x(\d+)", self.units):
            return UnitSpace.heads([int(shape[2])] * int(shape[1]))
        match _json("subject.units", self.units):
            case {"n_layers": int(layers), "n_heads": int(heads)}:
                return UnitSpace.heads([heads] * layers)
            case [*labels] if all(isinstance(label, str) for label in labels):
                return UnitSpace.from_labels(labels)
        forms = 'Write a list ["L0H0", "L0H1", ...], or {"n_layers": 16, "n_heads": 16}.'
        raise HarnessError(f"subject.units={self.units}: its content has none of the known forms.", forms)

    def _inferred(self) -> UnitSpace:
        if not self.matrix:
            raise HarnessError(
                "subject precomputed: nothing gives its units.",
                "Give the matrix (affinity=precomputed affinity.path=J.npy), or the units (subject.units=16x16).",
            )
        n = _size(self.matrix)
        labelled = list(_heads(_json("labels.path", self.labels))) if self.labels else []
        layers, heads = (max(column) + 1 for column in zip(*labelled, strict=True)) if labelled else (1, 1)
        shapes = [(rows, n // rows) for rows in range(layers, n + 1) if n % rows == 0 and n // rows >= heads]
        if len(shapes) == 1:
            return UnitSpace.heads([shapes[0][1]] * shapes[0][0])
        if not shapes:
            raise HarnessError(
                f"affinity.path={self.matrix}: {n} units cannot have {layers} or more layers of {heads} or more heads, "
                f"which labels.path={self.labels} names.",
                "Give a matrix and labels of the same units, or list the units: subject.units=FILE.json",
            )
        likely = min(shapes, key=lambda shape: abs(shape[0] - shape[1]))
        options = ", ".join(f"{rows}x{columns}" for rows, columns in shapes)
        raise HarnessError(
            f"affinity.path={self.matrix}: {n} units can have several shapes: {options} (layers x heads).",
            f"Choose one: subject.units={likely[0]}x{likely[1]}",
        )


@dataclass(frozen=True)
class WithoutModel(Subject):
    """Units only: nothing to read, nothing to record. They can be grouped, but not tested."""

    units: UnitSpace
    about: Mapping[str, Any]
    label: str
    reads: None = None

    def record(self, *_: Any, **__: Any) -> Never:
        """Errors: always, because there is no model."""
        raise without_model(self.label)

    evaluate = record


def _size(path: str) -> int:
    """The size of the square matrix in a file."""
    try:
        content = np.load(Path(path).expanduser(), mmap_mode="r", allow_pickle=False)
        arrays = [content] if isinstance(content, np.ndarray) else list(content.values())
    except Exception as error:  # a damaged archive can raise anything
        why = getattr(error, "strerror", None) or "it is not an .npy or .npz file of numbers"
        raise HarnessError(f"affinity.path={path}: {why}.", "Give a matrix: affinity.path=J.npy (or .npz)") from error
    sizes = {array.shape[0] for array in arrays if array.ndim == 2 and array.shape[0] == array.shape[1]}
    if len(sizes) != 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise HarnessError(
            f"affinity.path={path}: it must contain square matrices of one size (shapes: {shapes}).",
            "Give the units: subject.units=16x16 (layers x heads)",
        )
    return int(sizes.pop())


def _json(key: str, path: str) -> Any:
    try:
        return json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or f"it is not JSON: {error}"
        raise HarnessError(f"{key}={path}: {why}.", f"Give a JSON file: {key}=FILE.json") from error


def _heads(node: Any) -> Iterator[tuple[int, int]]:
    """Every head in a JSON document, in any of the forms "L0H1", "L0_H1" and {"layer": 0, "head": 1}."""
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
