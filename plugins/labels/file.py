"""Labels from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from harness import UNCLASSIFIED, HarnessError, LabelMethod, Labels, UnitSpace, digest_files, hookimpl
from harness.util.json_files import read_json
from harness.util.paths import expanded, is_file
from harness.util.text import is_one_line

Pairs = Sequence[tuple[Any, Any]]
SHOWN = 80  # characters of a wrong value
FORMS = """Forms: {"L0H1": "self", "L0H2": null, ...}; or the file that `harness survey` saves, \
{"units": [{"unit": "L0H1", "class": "self"}, ...]};
or the published one, {"classifications": [{"layer": 0, "head": 1, "classification": "self"}, ...]}"""


@dataclass(frozen=True)
class FromFile(LabelMethod):
    """Classes of units from a JSON file.

    Three forms are read:

    - a mapping ``{"L0H1": "self", "L0H2": null}`` (null: no label);
    - the file that ``harness survey`` saves;
    - the closure paper's published labels: a list ``classifications`` of ``{"layer": 0, "head": 1, "classification":
      "self"}``, and for all heads ``all_head_selectivity``, ``{"L0_H1": {"self": 759.2, ...}, ...}``.

    Units that the file does not name have no label.

    Input: units. Output: a class per unit, and its selectivities (dimensionless) if the file has them for all units.
    ``unclassified=class`` keeps ``unclassified`` as a class. With ``unclassified=drop`` such units have no label, so
    agreement and purity ignore them.

    Errors: no file; a file that is not JSON or has none of the forms; a unit that the subject does not have or that
    occurs twice; a class that is not text; a selectivity that is not a number.
    Source: closure paper, its scripts and published labels (where unclassified heads are a class).
    """

    name: ClassVar[str] = "file"
    path: str = field(default="", metadata={"help": "JSON file of labels", "by_content": True})
    unclassified: Literal["class", "drop"] = field(
        default="class", metadata={"help": "unclassified units form a class, or have no label"}
    )

    def __call__(self, units: UnitSpace) -> Labels:
        class_pairs, ratio_pairs = self._pairs(self._read(), units)
        classes = self._by_position(class_pairs, units)
        for unit, label in classes.items():
            if not (label is None or (isinstance(label, str) and label.strip() and is_one_line(label))):
                given = repr(label)[:SHOWN]
                raise self._wrong(
                    f"the class of {units.labels[unit]} is {given}.", "A class is a line of text, or null."
                )
        dropped = {UNCLASSIFIED} if self.unclassified == "drop" else set()
        labels = tuple(None if classes.get(unit) in dropped else classes.get(unit) for unit in range(len(units)))
        return Labels(labels, units, self._selectivity(self._by_position(ratio_pairs, units), units))

    def fingerprint(self) -> str:
        """The content of the file."""
        place = expanded(self.path)
        return digest_files(place) if is_file(place) else ""

    def check_files(self) -> None:
        """The file is JSON."""
        self._read()

    def _read(self) -> Any:
        if not self.path:
            raise HarnessError("labels file: no file is given.", "Give its path: labels.path=labels.json")
        return read_json("labels.path", self.path, FORMS)

    def _pairs(self, data: Any, units: UnitSpace) -> tuple[Pairs, Pairs]:
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
                case dict() if not data.keys().isdisjoint(units.labels):
                    return list(data.items()), []
        except (AttributeError, KeyError, TypeError) as error:
            raise self._wrong(
                f"an entry has the wrong form ({type(error).__name__}: {str(error)[:SHOWN]}).", FORMS
            ) from error
        raise self._wrong("its content has none of the known forms, or names no unit of this subject.", FORMS)

    def _by_position(self, pairs: Pairs, units: UnitSpace) -> dict[int, Any]:
        """Values by the position of their unit in the subject."""
        values: dict[int, Any] = {}
        for unit, value in pairs:
            try:
                (position,) = units.find([str(unit)])
            except HarnessError as error:
                raise self._wrong(error.what, error.fix) from error
            if position in values:
                raise self._wrong(f"unit '{unit}' occurs twice.", "Name each unit once.")
            values[position] = value
        return values

    def _selectivity(self, measured: Mapping[int, Any], units: UnitSpace) -> dict[str, Float[np.ndarray, " units"]]:
        """Selectivities by class, if every unit has one for the same classes."""
        for unit, ratios in measured.items():
            numbers = ratios.values() if isinstance(ratios, dict) else [None]
            if not all(isinstance(ratio, int | float) and not isinstance(ratio, bool) for ratio in numbers):
                raise self._wrong(f"a selectivity of {units.labels[unit]} is not a number.", "Give numbers only.")
        names = list(measured.get(0, {}))
        if len(measured) < len(units) or any(set(ratios) != set(names) for ratios in measured.values()):
            return {}
        return {name: np.array([measured[unit][name] for unit in range(len(units))], float) for name in names}

    def _wrong(self, what: str, fix: str) -> HarnessError:
        return HarnessError(f"labels.path={self.path}: {what}", fix)


@hookimpl
def harness_labels() -> list[type[FromFile]]:
    return [FromFile]
