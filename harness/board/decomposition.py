"""What a card says of a decomposition: how faithful it is, and how near to the mechanisms of a toy that are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

MASKS = {
    "masked": "importances as masks",
    "stochastic": "stochastic masks",
    "adversarial": "the most harmful masks",
    "unmasked": "all subcomponents",
    "nothing": "no subcomponent",
}
BY_MATRIX = {
    "l0": "needed by an example",
    "exact": "exact features",
    "identity_errors": "identity errors",
    "dense_errors": "dense errors",
    "mmcs": "MMCS",
    "ml2r": "ML2R",
}
"""Measures of :mod:`harness.decomposition.fidelity`, in words."""
SHOWN = 6
"""Matrices of which a measure is shown."""


def fidelity_notes(decomposition: object) -> list[str]:
    """One line of errors, and one of measures by matrix. None where there are none, as of an exact decomposition."""
    if not isinstance(decomposition, Mapping):
        return []
    numbers = {str(key): f"{value:.3g}" for key, value in decomposition.items() if isinstance(value, (int, float))}
    errors = [f"{numbers[key]} with {words}" for name, words in MASKS.items() if (key := f"error {name}") in numbers]
    by_matrix: dict[str, list[str]] = defaultdict(list)
    for key, number in numbers.items():
        measure, _, matrix = key.partition(" ")
        if matrix and measure in BY_MATRIX:
            by_matrix[measure].append(f"{matrix} {number}")
    measures = [
        f"{words}: {', '.join(by_matrix[measure][:SHOWN])}{', ...' if len(by_matrix[measure]) > SHOWN else ''}"
        for measure, words in BY_MATRIX.items()
        if measure in by_matrix
    ]
    lines = [f"{decomposition.get('errors', 'error')} of the decomposed model: {', '.join(errors)}"] if errors else []
    return [f"  note: subject: {line}" for line in (*lines, *(["; ".join(measures)] if measures else []))]
