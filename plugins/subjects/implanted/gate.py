"""The gate: what a model must do before it is shipped, measured on the weights as they are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from harness import HeadSubject, Tokens, method, rng_for

from .circuits import HEADS, LAYERS, Head, Layout, Task

INTERVENTIONS = ("zero", "mean", "resample")
VERDICTS = {"zero": "pass", "mean": "pass", "resample": "pass", "patching": "pass"}
"""What a closure test should say of a circuit, by intervention. It should pass no group of decoys."""
SUBSETS, LARGEST = 20, 8
"""Random sets of heads outside the circuit, and heads in one of them at most."""

LEAST_RIGHT, LEAST_ALONE, LEAST_WITHOUT_SOME = 0.95, 0.9, 0.95
MOST_LEFT, MOST_OF_DECOYS = 0.05, 0.3
"""The bounds of :class:`Figures`."""


@dataclass(frozen=True)
class Figures:
    """What is measured for a task. Each is the worst over zero, mean and resample ablation, unless said otherwise.

    ``accuracy``, ``logit_difference``: with all heads. ``accuracy_alone``: with all heads outside the circuit ablated.
    ``accuracy_without_some``: the least of 20 sets of 2 to 8 heads outside it. ``share_left_without_circuit``: of the
    logit difference, if the circuit is ablated, by zero or mean. ``lost_without_decoys``: how much of it is lost if
    all decoys are ablated, in logits.
    """

    accuracy: float
    accuracy_alone: float
    accuracy_without_some: float
    logit_difference: float
    share_left_without_circuit: float
    lost_without_decoys: float

    @property
    def faults(self) -> Iterator[str]:
        """What does not pass."""
        least = {
            "accuracy": LEAST_RIGHT,
            "accuracy_alone": LEAST_ALONE,
            "accuracy_without_some": LEAST_WITHOUT_SOME,
        }
        most = {"share_left_without_circuit": MOST_LEFT, "lost_without_decoys": MOST_OF_DECOYS}
        figures = asdict(self) | {"share_left_without_circuit": abs(self.share_left_without_circuit)}
        for name, bound in least.items():
            if figures[name] < bound:
                yield f"{name.replace('_', ' ')} {figures[name]:.3f} < {bound}"
        for name, bound in most.items():
            if figures[name] > bound:
                yield f"{name.replace('_', ' ')} {figures[name]:.3f} > {bound}"


def measured(subject: HeadSubject, heads: Layout, task: Task, batch: Tokens, subsets: int = SUBSETS) -> Figures:
    """The figures of a task on a batch of its examples."""
    circuit = heads.circuit(task)
    outside = [head for head in np.ndindex(LAYERS, HEADS) if head not in circuit]
    some = list(_some(outside, subsets, rng_for(0, "implanted gate")))
    groups = [(), tuple(outside), circuit, heads.decoys_of(task), *some]
    evaluated = {name: _means(subject, batch, groups, name) for name in INTERVENTIONS}
    right = {name: means[0] for name, means in evaluated.items()}
    difference = {name: means[1] for name, means in evaluated.items()}
    whole = difference["zero"][0]
    worst = partial(max, key=abs)
    return Figures(
        accuracy=float(right["zero"][0]),
        accuracy_alone=float(min(values[1] for values in right.values())),
        accuracy_without_some=float(min(values[4:].min() for values in right.values())),
        logit_difference=float(whole),
        share_left_without_circuit=float(worst(difference[name][2] / whole for name in ("zero", "mean"))),
        lost_without_decoys=float(max(whole - values[3] for values in difference.values())),
    )


def faults_of(figures: Mapping[Task, Figures]) -> list[str]:
    """Why a model is not shipped; empty if it is."""
    return [f"{task}: {fault}" for task, of in figures.items() for fault in of.faults]


def rounded(figures: Figures) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(figures).items()}


def _some(outside: Sequence[Head], n: int, rng: np.random.Generator) -> Iterator[tuple[Head, ...]]:
    for _ in range(n):
        chosen = rng.choice(len(outside), rng.integers(2, LARGEST + 1), replace=False)
        yield tuple(outside[place] for place in sorted(chosen))


def _means(
    subject: HeadSubject, batch: Tokens, groups: Sequence[tuple[Head, ...]], intervention: str
) -> Float[np.ndarray, "metrics groups"]:
    """Accuracy and logit difference under the ablation of each group."""
    metrics = [method("metric", name) for name in ("accuracy", "logit_difference")]
    units = [tuple(layer * HEADS + head for layer, head in group) for group in groups]
    evaluated = subject.evaluate(batch, units, method("intervention", intervention), metrics)
    means: Float[np.ndarray, "metrics groups"] = evaluated.mean(axis=2)
    return means
