"""Decompositions by name: a target, its examples and the settings that were measured to work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """``overrides``: the target and its examples, as words of the command line. ``settings``: of the decomposition."""

    overrides: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


def _toy(kind: str, *more: str) -> tuple[str, ...]:
    return ("subject=toy", f"subject.kind={kind}", "batch=sparse_features", "batch.n=65536", *more)


# Features are present three times as often as in the toys' training, because a step then teaches three times as much.
_SIGNED = ("batch.present=0.03", "batch.low=-1", "batch.answer=features_plus_relu", "batch.empty=false")
_RESIDUAL = {
    "subcomponents": 120, "minimality": 1e-5, "frequency": 5e-6, "layerwise": 0.0, "rows": 256, "steps": 2000,
    "rate": 2e-3, "start": "single", "spread": True,
}  # fmt: skip
_ATTENTION = [f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")]
_MLP = [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


def _matrices(layers: int, names: list[str]) -> list[str]:
    """Paths in a model of the Llama kind."""
    return [f"model.layers.{layer}.{name}" for layer in range(layers) for name in names]


RECIPES: Mapping[str, Recipe] = {
    "tms_5_2": Recipe(
        _toy("tms_5_2", "batch.empty=false"),
        {"subcomponents": 20, "hidden": 50, "steps": 1500, "minimality": 8e-4, "frequency": 4e-4},
        "5 features in 2 dimensions",
    ),
    "tms_5_2_id": Recipe(
        _toy("tms_5_2_id", "batch.empty=false"),
        {"subcomponents": 20, "hidden": 50, "steps": 1500, "minimality": 8e-4, "frequency": 4e-4},
        "the same with an identity matrix between",
    ),
    "tms_20_10": Recipe(
        _toy("tms_20_10"),
        {"subcomponents": 50, "hidden": 50, "minimality": 2.4e-4, "frequency": 1.2e-4, "start": "mixed"},
        "20 features in 10 dimensions",
    ),
    "tms_40_10": Recipe(_toy("tms_40_10"), {}, "40 features in 10 dimensions"),
    "residual_2x25": Recipe(
        _toy("residual_2x25", *_SIGNED),
        _RESIDUAL,
        "100 features, 2 blocks of 25 neurons; 95 are recovered in three minutes",
    ),
    "residual_3x17": Recipe(_toy("residual_3x17", *_SIGNED), _RESIDUAL, "102 features, 3 blocks of 17 neurons"),
    "residual_2x50": Recipe(_toy("residual_2x50", *_SIGNED), _RESIDUAL, "100 features, 2 blocks of 50 neurons"),
    "tiny": Recipe(
        ("subject=tiny", "batch=natural_text", "batch.n=512"),
        {
            "sites": _matrices(2, _ATTENTION),
            "subcomponents": 128,
            "rows": 8,
            "rate": 1e-3,
            "layerwise": 0.0,
            "minimality": 1e-3,
            "frequency": 5e-4,
        },
        "attention matrices of layers 0 and 1; not converged after minutes",
    ),
    "simplestories": Recipe(
        (
            "subject=hf",
            "subject.path=SimpleStories/SimpleStories-1.25M",
            "batch=natural_text",
            "batch.n=4096",
            "batch.target=next_token",
        ),
        {
            "sites": _matrices(4, [*_ATTENTION, *_MLP]),
            "subcomponents": 2000,
            "hidden": 500,
            "penalty": "lp",
            "p": 0.9,
            "minimality": 1e-3,
            "rows": 64,
            "rate": 5e-4,
            "steps": 50_000,
        },
        "28 matrices of SimpleStories-1.25M, for a GPU; not tried. It needs the weights, and stories: batch.text=FILE",
    ),
}
