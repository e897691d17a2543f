"""Published changes by ablation, group by group, and p among these groups.

Source: the closure paper's published result files: change of loss, accuracy and target logit, of the candidate and of
its five controls. Tests 3 to 5 take controls from any layer, so their groups do not have the candidate's profile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.closure.comparison import p_among

Changes = tuple[float, tuple[float, ...]]
"""Of the candidate, and of each control."""


@dataclass(frozen=True)
class Published:
    """One test. Every metric has the change by the candidate, and by each of its controls."""

    number: int
    loss: Changes
    accuracy: Changes
    target_logit: Changes


TESTS = (
    Published(
        1,
        loss=(1.8531, (1.6500, -0.4161, 0.2952, 0.5122, 0.9508)),
        accuracy=(-0.0075, (-0.0035, 0.0065, 0.0110, 0.0, 0.0)),
        target_logit=(-1.5713, (-1.0065, 0.5386, 0.1267, -0.0856, -0.4339)),
    ),
    Published(
        2,
        loss=(2.6867, (2.4005, 1.7634, 1.2587, 0.6069, 1.2986)),
        accuracy=(-0.0405, (-0.0400, -0.0330, -0.0355, -0.0100, -0.0155)),
        target_logit=(-2.3510, (-1.8349, -1.4534, -0.9498, 0.0749, -0.9955)),
    ),
    Published(
        3,
        loss=(1.4353, (-0.0599, -0.1229, -0.1355, -0.0990, -0.1895)),
        accuracy=(-0.1740, (-0.0095, -0.0015, 0.0, -0.0055, -0.0055)),
        target_logit=(-4.8787, (-0.1813, 0.0117, 0.0184, -0.0113, -0.1894)),
    ),
    Published(
        4,
        loss=(0.0498, (-0.4144, -0.3629, -0.1666, -0.0036, -0.2320)),
        accuracy=(-0.0685, (0.0060, 0.0105, -0.0075, -0.0065, 0.0030)),
        target_logit=(-3.0030, (-0.3765, -0.2497, -0.3449, -0.3186, -0.2479)),
    ),
    Published(
        5,
        loss=(-0.6468, (-0.0515, 0.0153, -0.2324, 0.0156, -0.1669)),
        accuracy=(-0.0173, (-0.0204, -0.0078, 0.0063, -0.0361, -0.0126)),
        target_logit=(-1.5182, (-0.8350, -0.5897, -0.4643, -1.1859, -0.4854)),
    ),
)
GAP: Changes = (
    -1.7534,
    tuple(inside - outside for inside, outside in zip(
        TESTS[4].target_logit[1], (-0.1742, -0.2216, -0.1585, -0.1257, -0.1179), strict=True
    )),
)  # fmt: skip
"""Test 5: the change of the target logit inside the stratum minus that outside."""
NULL: Changes = (0.1913, (0.0470, 0.1377, 0.0852, 0.0359, 0.0860, 0.0920, 0.0888, 0.0584, 0.0724, 0.1513))
"""Test 5: the largest agreement (ARI) within a route stratum, and within the strata of ten random divisions."""
AGREEMENT = {
    "OLMo": {"ising": (0.028, 0.183, 0.148, 0.169, 0.155), "mutual_information": (0.335, 0.393, 0.481, 0.502, 0.477)},
    "Pythia": {"ising": (0.164, 0.202, 0.035, 0.107, 0.145), "mutual_information": (0.441, 0.480, 0.361, 0.261, 0.431)},
    "OLMoE": {
        "ising": (-0.017, -0.075, 0.166, 0.193, 0.176),
        "mutual_information": (0.027, 0.098, 0.110, 0.074, 0.150),
    },
}
"""ARI with the labels on synthetic induction, by model and affinity, at k = 4, 6, 8, 10, 12."""
FIRST_TOKEN = {
    "Pythia-160M": (12, 12, 62, 0),
    "Pythia-410M": (24, 16, 223, 0),
    "Pythia-1B": (16, 8, 69, 0),
    "OLMoE": (16, 16, 174, 0),
    "OLMo-1B": (16, 16, 200, 0),
}
"""Layers, heads per layer, first-token heads, and how many of them are in the first two layers."""


def p_of_published(test: Published) -> str:
    """p of the candidate's damage among its controls', on loss, accuracy and target logit."""
    by_metric = ((1, test.loss), (-1, test.accuracy), (-1, test.target_logit))
    return " / ".join(f"{p_of(changes, damage):.2f}" for damage, changes in by_metric)


def p_of(changes: Changes, damage: int = 1) -> float:
    r""":math:`(1 + \#\{d c_i \ge d c\}) / (1 + n)`, where ``damage`` is the direction d of a change for the worse."""
    own, others = changes
    return p_among(damage * own, damage * np.array(others))
