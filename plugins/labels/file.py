"""Labels that were found elsewhere."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from harness import UNCLASSIFIED, HarnessError, Labels, UnitSpace, digest_files, hookimpl

Pairs = Sequence[tuple[Any, Any]]
FORMS = """Forms: {"L0H1": "self", "L0H2": null, ...}; or what `harness survey` saves, \
{"units": [{"unit": "L0H1", "class": "self"}, ...]};
or the published one, {"classifications": [{"layer": 0, "head": 1, "classification": "self"}, ...]}"""


@dataclass(frozen=True)
class FromFile:
    """Classes of units out of a JSON file.

    Three forms are read. A mapping ``{"L0H1": "self", "L0H2": null}`` (null: unknown). What ``harness survey`` saves.
    The one in which the closure paper's labels are published: a list ``classifications`` of ``{"layer": 0, "head": 1,
    "classification": "self"}``, and beside it ``all_head_selectivity``, ``{"L0_H1": {"self": 759.2, ...}, ...}``, of
    classified and other heads. Of a unit without a class, nothing is known.

    Input: units. Output: a class per unit, and its selectivities (dimensionless) where the file has them for all units.
    ``unclassified=class`` keeps that as a class of its own; with ``drop`` such units are unknown, so that agreement and
    purity are over the others.

    Errors: no file, one that is not JSON or has none of the forms, a unit that is not the subject's or comes twice, a
    class that is not text, a selectivity that is not a number.
    Source: closure paper, its scripts and published labels (unclassified heads are a class there).
    """

    name: ClassVar[str] = "file"
    path: str = field(default="", metadata={"help": "JSON file of labels", "by_content": True})
    unclassified: Literal["class", "drop"] = field(default="class", metadata={"help": "a class of its own, or unknown"})

    def __call__(self, units: UnitSpace) -> Labels:
        named, measured = self._pairs(self._read())
        classes = self._placed(named, units)
        for unit, label in classes.items():
            if not (label is None or (isinstance(label, str) and label)):
                raise self._wrong(f"the class of {units.labels[unit]} is {label!r}.", "A class is text, or null.")
        unknown = {None, UNCLASSIFIED} if self.unclassified == "drop" else {None}
        known = {unit: label for unit, label in classes.items() if label not in unknown}
        found = tuple(known.get(unit) for unit in range(len(units)))
        return Labels(found, units, self._selectivity(self._placed(measured, units), units))

    def fingerprint(self) -> str:
        """The content of the file."""
        place = Path(self.path).expanduser()
        return digest_files(place) if place.is_file() else ""

    def _read(self) -> Any:
        if not self.path:
            raise HarnessError("labels file: no file is named.", "Name it: labels.path=labels.json")
        try:
            return json.loads(Path(self.path).expanduser().read_text(encoding="utf-8"), object_pairs_hook=self._once)
        except OSError as error:
            raise self._wrong(f"{error.strerror}.", "Give the path of a JSON file: labels.path=labels.json") from error
        except ValueError as error:
            raise self._wrong(f"not JSON: {error}.", FORMS) from error

    def _once(self, pairs: Pairs) -> dict[str, Any]:
        """A JSON object; Python would silently keep the last of two equal names."""
        names = Counter(name for name, _ in pairs)
        if len(names) < len(pairs):
            raise self._wrong(f"'{names.most_common(1)[0][0]}' comes twice.", "Name each unit once.")
        return dict(pairs)

    def _pairs(self, data: Any) -> tuple[Pairs, Pairs]:
        """Units and their classes, units and their selectivities."""
        try:
            match data:
                case {"classifications": [*heads]}:
                    measured = data.get("all_head_selectivity") or {}
                    return (
                        [(f"L{head['layer']}H{head['head']}", head["classification"]) for head in heads],
                        [(unit.replace("_", ""), ratios) for unit, ratios in measured.items()],
                    )
                case {"units": [*entries]}:
                    return (
                        [(entry["unit"], entry["class"]) for entry in entries],
                        [(entry["unit"], entry["selectivity"]) for entry in entries if entry.get("selectivity")],
                    )
                case dict() if any(re.match(r"L\d", name) for name in data):
                    return list(data.items()), []
        except (AttributeError, KeyError, TypeError) as error:
            raise self._wrong(f"an entry is not as it should be ({type(error).__name__}: {error}).", FORMS) from error
        raise self._wrong("it has none of the forms that can be read.", FORMS)

    def _placed(self, pairs: Pairs, units: UnitSpace) -> dict[int, Any]:
        """By position in the subject."""
        placed: dict[int, Any] = {}
        for unit, value in pairs:
            try:
                (position,) = units.find([str(unit)])
            except HarnessError as error:
                raise self._wrong(error.what, error.fix) from error
            if position in placed:
                raise self._wrong(f"unit '{unit}' comes twice.", "Name each unit once.")
            placed[position] = value
        return placed

    def _selectivity(self, measured: Mapping[int, Any], units: UnitSpace) -> dict[str, Float[np.ndarray, " units"]]:
        """Per class, if every unit has one for the same classes."""
        for unit, ratios in measured.items():
            numbers = ratios.values() if isinstance(ratios, dict) else [None]
            if not all(isinstance(ratio, int | float) and math.isfinite(ratio) for ratio in numbers):
                raise self._wrong(f"a selectivity of {units.labels[unit]} is not a number.", "Give numbers, or none.")
        names = list(measured.get(0, {}))
        if len(measured) < len(units) or any(set(ratios) != set(names) for ratios in measured.values()):
            return {}
        return {name: np.array([measured[unit][name] for unit in range(len(units))], float) for name in names}

    def _wrong(self, what: str, fix: str) -> HarnessError:
        return HarnessError(f"labels.path={self.path}: {what}", fix)


@hookimpl
def harness_labels() -> list[type[FromFile]]:
    return [FromFile]
