"""Importances of MIB: one score per node of a model, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.data.units import UnitSpace
from harness.util.errors import HarnessError
from harness.util.json_files import read_json

FORMS = (
    'Write {"nodes": {"a0.h0": {"score": 0.5}, "m0": {"score": 0.1}, ...}}, as MIB does, or {"L0H0": 0.5, ...}, with a '
    "score for every unit of the subject."
)
_HEAD, _MLP = re.compile(r"a(\d+)\.h(\d+)"), re.compile(r"m(\d+)")
_OURS = {re.compile(r"L(\d+)H(\d+)"): "a{}.h{}", re.compile(r"L(\d+)\.mlp"): "m{}"}
_ENDS = ("input", "logits")
"""Nodes of MIB that are no units."""


def read_importances(key: str, path: str, units: UnitSpace) -> Float[np.ndarray, " units"]:
    """The score of every unit, in order. Nodes of a family that the subject's units do not have are left out.

    Errors: a file of another model (units without a score, scores without a unit); scores that are no numbers.
    """
    content = read_json(key, path, FORMS)
    nodes = content.get("nodes", content) if isinstance(content, dict) else None
    if not isinstance(nodes, dict) or not nodes:
        raise HarnessError(f"{key}={path}: its content has none of the known forms.", FORMS)
    scores = {_label(name): _score(value, f"{key}={path}: node '{name}'") for name, value in nodes.items()}
    for end in _ENDS:
        scores.pop(end, None)
    families = {_family(label) for label in units.labels}
    unknown = [label for label in scores if label not in units.labels and _family(label) in families]
    missing = [label for label in units.labels if label not in scores]
    if unknown or missing:
        other = (
            f"it scores {unknown[0]}, which the subject does not have"
            if unknown
            else f"it has no score of {missing[0]}"
        )
        raise HarnessError(
            f"{key}={path}: it is of another model: {other} ({len(scores)} nodes, {len(units)} units).",
            "Choose the subject that the file is of, or make one for this subject: harness ranking out=FILE.json",
        )
    return np.array([scores[label] for label in units.labels])


def as_importances(units: UnitSpace, scores: Float[np.ndarray, " units"]) -> str:
    """A file of MIB: the score of every unit under its node's name, and the model's layers and heads."""
    heads = [match for label in units.labels if (match := re.fullmatch(r"L(\d+)H(\d+)", label))]
    config = (
        {f"n_{name}": 1 + max(int(m[i]) for m in heads) for i, name in ((1, "layers"), (2, "heads"))} if heads else {}
    )
    nodes = {_node(label): {"score": float(score)} for label, score in zip(units.labels, scores, strict=True)}
    return json.dumps({"cfg": config, "nodes": nodes}, indent=1)


def _label(node: str) -> str:
    """The unit that a node is: ``a3.h5`` is L3H5, ``m3`` is L3.mlp; other names stay."""
    if head := _HEAD.fullmatch(node):
        return f"L{int(head[1])}H{int(head[2])}"
    return f"L{int(mlp[1])}.mlp" if (mlp := _MLP.fullmatch(node)) else node


def _node(label: str) -> str:
    return next((form.format(*m.groups()) for pattern, form in _OURS.items() if (m := pattern.fullmatch(label))), label)


def _family(label: str) -> str:
    """The form of a label, without its numbers."""
    return re.sub(r"\d+", "", label)


def _score(value: Any, where: str) -> float:
    score = value.get("score") if isinstance(value, Mapping) else value
    if isinstance(score, bool) or not isinstance(score, int | float):
        what = "says whether it is in a circuit, not its score" if isinstance(score, bool) else "has no score"
        raise HarnessError(f"{where} {what}.", FORMS)
    return float(score)
