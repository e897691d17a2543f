"""Units without a model, for an affinity or an activity from a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Never

import numpy as np
from jaxtyping import Float

from harness import (
    Batch,
    HarnessError,
    Reader,
    Recording,
    Rows,
    Subject,
    SubjectMethod,
    Tick,
    Unit,
    UnitSpace,
    Vectors,
    digest,
    hookimpl,
)
from harness.data.requests import check_sources
from harness.util.arrays import one_array, shape_of, shapes_of
from harness.util.errors import without_model
from harness.util.json_files import read_json

MOST = 2**20  # units


@dataclass(frozen=True)
class Precomputed(SubjectMethod):
    """Units without a model: activity or affinities from files can be grouped, but groups cannot be tested.

    With ``activity`` [observations, units], groups are proposed on all observations, which ``signal=activation`` reads;
    there is no batch. The units are then ``u0``, ``u1``, ... of one site, unless ``units`` lists them.

    Otherwise units are attention heads, index = layer * heads + head, or the units that a file lists. Without
    ``units``, their number is the size of the matrix (of ``affinity.key``, in a file of several). Layers x heads must
    then be the only shape of that size that contains every head in the labels (published label files name all heads).
    By default, ``matrix``, ``matrix_key`` and ``labels`` are those of the cell.

    A list of units is a JSON file of labels, ``["a", "b"]``, or of units, ``[{"label": "a", "site": "layer1", "depth":
    1, "family": "neuron"}]``, of which only the label is required.

    Errors: nothing gives the units; several shapes fit, or none; activity that is NaN, or has another number of units;
    a step that needs a model.
    Source: none.
    """

    name: ClassVar[str] = "precomputed"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {
        "labels": "none",
        "signal": "activation",
        "binarizer": "none",
        "affinity": "pearson_knn",
        "chooser": "modularity",  # a matrix cannot be computed again from other observations
    }
    units: str = field(
        default="", metadata={"help": '16x16 (layers x heads), or a JSON file: ["L0H0", ...]; empty: from the files'}
    )
    activity: str = field(
        default="",
        metadata={"help": "observations x units: .npy, .npz, .safetensors or .csv file", "by_content": True},
    )
    key: str = field(default="", metadata={"help": "name of the activity in a file of several arrays"})
    matrix: str | None = field(
        default=None,
        metadata={
            "help": "matrix whose size is the number of units",
            "follows": "affinity.path",
            "by_content": True,
        },
    )
    matrix_key: str | None = field(
        default=None,
        metadata={"help": "name of the matrix in a file of several arrays", "follows": "affinity.key"},
    )
    labels: str | None = field(
        default=None,
        metadata={"help": "labels whose heads give layers x heads", "follows": "labels.path", "by_content": True},
    )

    def __call__(self) -> WithoutModel:
        values = self._activity() if self.activity else None
        units = self._given() if self.units else self._inferred() if values is None else numbered(values.shape[1])
        if values is not None and values.shape[1] != len(units):
            raise HarnessError(
                f"subject.activity={self.activity}: it has {values.shape[1]} columns; subject.units={self.units} gives "
                f"{len(units)} units.",
                "Give one column per unit, in the order of the units.",
            )
        source = self.activity or self.matrix
        label = f"precomputed {Path(source).stem}" if source else "precomputed"
        about = {"matrix": self.matrix, "activity": self.activity or None, "n_units": len(units)}
        return WithoutModel(units, about, label, values)

    def fingerprint(self) -> str:
        """Digest of the units and their activity, from any source."""
        try:
            return self().digest
        except HarnessError:
            return ""

    def _activity(self) -> Float[np.ndarray, "observations units"]:
        values = one_array("subject.activity", self.activity, self.key)
        if values.ndim != 2 or values.dtype.kind not in "biuf" or not values.size:
            raise HarnessError(
                f"subject.activity={self.activity}: the array has the shape {values.shape} and dtype {values.dtype}.",
                "Give numbers [observations, units].",
            )
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise HarnessError(
                f"subject.activity={self.activity}: {len(bad)} numbers are NaN or infinite; the first is in row "
                f"{bad[0, 0]}, column {bad[0, 1]}.",
                "Remove these observations, or these units.",
            )
        return values.astype(np.float32)

    def _given(self) -> UnitSpace:
        if shape := re.fullmatch(r"(\d{1,9})x(\d{1,9})", self.units):
            return self._heads(int(shape[1]), int(shape[2]))
        match read_json("subject.units", self.units):
            case {"n_layers": int(layers), "n_heads": int(heads)}:
                return self._heads(layers, heads)
            case [*labels] if all(isinstance(label, str) for label in labels):
                return UnitSpace.from_labels(labels)
            case [*entries] if all(isinstance(entry, dict) and "label" in entry for entry in entries):
                return UnitSpace(tuple(_unit(entry) for entry in entries))
        forms = (
            'Write a list ["L0H0", "L0H1", ...] or [{"label": "a", "site": "layer1", "depth": 1}, ...], or '
            '{"n_layers": 16, "n_heads": 16}.'
        )
        raise HarnessError(f"subject.units={self.units}: its content has none of the known forms.", forms)

    def _heads(self, layers: int, heads: int) -> UnitSpace:
        if layers * heads > MOST or min(layers, heads) < 1:
            raise HarnessError(
                f"subject.units={self.units}: {layers} layers of {heads} heads are not 1 to {MOST} units.",
                "Give layers x heads: subject.units=16x16",
            )
        return UnitSpace.heads([heads] * layers)

    def _inferred(self) -> UnitSpace:
        if not self.matrix:
            raise HarnessError(
                "subject precomputed: nothing gives its units.",
                "Give the activity (subject.activity=A.npy), the matrix (affinity=precomputed affinity.path=J.npy), or "
                "the units (subject.units=16x16).",
            )
        n = _size(self.matrix, self.matrix_key or "")
        labelled = list(_heads(read_json("labels.path", self.labels))) if self.labels else []
        layers, heads = (max(1, max(column) + 1) for column in zip(*labelled, strict=True)) if labelled else (1, 1)
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


class WithoutModel(Subject):
    """Units without a model. They can be grouped, but not tested.

    ``activity`` [observations, units]: what was measured elsewhere. Its rows are the examples that readers see.
    """

    reads: None = None

    def __init__(
        self,
        units: UnitSpace,
        about: Mapping[str, Any],
        label: str = "precomputed",
        activity: Float[np.ndarray, "observations units"] | None = None,
    ) -> None:
        self.units, self.about, self.label = units, about, label
        self.observations: Batch | None = None
        if activity is not None:
            self.sources = {"activation": "the activity [observations, units, 1]"}
            self.observations = Vectors("observations", activity, np.zeros(len(activity), dtype=np.int64), "none")

    @property
    def digest(self) -> str:
        """Digest of the units and their activity."""
        return digest(self.units.digest, self.observations.digest if self.observations else None)

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick) -> Recording:
        """Every reader reads the activity, site by site. Errors: there is none; another source."""
        if self.observations is None or not isinstance(batch, Vectors):
            raise without_model(self.label)
        check_sources(self, readers)
        examples = np.arange(len(batch))
        places = [self.units.at_sites([site]) for site in self.units.sites]
        back = np.argsort(np.concatenate(places))
        readings = {}
        for name, reader in readers.items():
            rows = [
                Rows("activation", site, batch.inputs[:, list(units), None], batch, batch, examples)
                for site, units in zip(self.units.sites, places, strict=True)
            ]
            readings[name] = np.concatenate([np.asarray(reader.read(seen)) for seen in rows], axis=1)[:, back]
        tick(len(batch))
        return Recording(batch, self.units, readings)

    def evaluate(self, *_: Any, **__: Any) -> Never:
        """Errors: always, because there is no model."""
        raise without_model(self.label)


def numbered(n: int) -> UnitSpace:
    """Units ``u0``, ``u1``, ... of one site."""
    return UnitSpace.from_labels(f"u{unit}" for unit in range(n))


def _unit(entry: Mapping[str, Any]) -> Unit:
    """A unit as a JSON file describes it. Errors: a key that units do not have; a depth that is not a whole number."""
    values = {"site": "units", "depth": 0, "family": "unit", **entry}
    if set(values) != {"label", "site", "depth", "family"} or not isinstance(values["depth"], int):
        raise HarnessError(
            f"subject.units: {json.dumps(entry)} does not describe a unit.",
            'Write {"label": "a", "site": "layer1", "depth": 1, "family": "neuron"}; only the label is required.',
        )
    return Unit(str(values["label"]), str(values["site"]), values["depth"], str(values["family"]))


def _size(path: str, key: str) -> int:
    """The size of the square matrix in a file: of the one with this name, or of all that there are."""
    shapes = [shape_of("affinity.path", path, key)] if key else shapes_of("affinity.path", path)
    sizes = {shape[0] for shape in shapes if len(shape) == 2 and shape[0] == shape[1]}
    if len(sizes) != 1:
        raise HarnessError(
            f"affinity.path={path}: it must contain square matrices of one size (shapes: "
            f"{', '.join(map(str, shapes))}).",
            "Choose one (affinity.key=J), or give the units: subject.units=16x16 (layers x heads)",
        )
    return sizes.pop()


def _heads(node: Any) -> Iterator[tuple[int, int]]:
    """Every head in a JSON document, in any of the forms "L0H1", "L0_H1" and {"layer": 0, "head": 1}."""
    match node:
        case str() if head := re.fullmatch(r"L(\d{1,9})_?H(\d{1,9})", node):
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
