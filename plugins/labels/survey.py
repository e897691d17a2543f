"""The supervised survey: where does each head look from the query?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from harness import UNCLASSIFIED, Batch, HarnessError, Labels, Recording, Rows, Source, hookimpl
from harness.data.batch import CLASSES

TRIES = 200  # per example, as published
SMALLEST = 1e-8  # of the baseline, as published; in half precision the ratio is an artefact of it


@dataclass(frozen=True)
class Survey:
    r"""Selectivity of every unit for six classes of head; the class is the best one that reaches ``threshold``.

    .. math:: \text{selectivity}_h(c) = \frac{\operatorname{mean}_e A^{(h)}_e[q_e, t_c(e)]}
              {\max(\operatorname{mean}_{e, b} A^{(h)}_e[q_e, b],\ 10^{-8})}

    with :math:`t_c` the batch's anchors (averaged where a class has several places). A ratio of means, not a mean of
    ratios. Ties go to the class named first: induction, previous-token, duplicate-token, first-token, self, local.

    Baseline positions b: ``others``: every position up to the query that is no class's target in this example, so that
    a head's own target never raises its baseline. ``drawn``: the paper's ``positions`` draws of ``RandomState(0)``: one
    list for all examples where they share a query (``randint(1, q)``, the last ``avoid_last`` positions rejected,
    distinct where ``unique``, other examples' targets not excluded), else one per example (in [1, q), the example's
    targets avoided, at most 200 tries, padded with the last).

    Input: attention rows at the query. Output: a class per unit and its selectivities (dimensionless).

    Errors: a batch without anchors, a non-positive threshold, a query with no position left for a drawn baseline.
    Source: the selectivity of the probe-circuit paper (Xu 2026), as its scripts compute it (threshold 30).
    """

    name: ClassVar[str] = "survey"
    source: ClassVar[Source] = "attention"
    threshold: float = field(default=30.0, metadata={"help": "least selectivity that makes a class"})
    baseline: Literal["others", "drawn"] = field(default="others", metadata={"help": "drawn is the paper's"})
    positions: int = field(default=50, metadata={"help": "baseline positions (drawn)"})
    unique: bool = field(default=True, metadata={"help": "draw distinct positions; the paper's small models do not"})
    avoid_last: int = field(default=6, metadata={"help": "positions before the query never drawn, the query included"})

    def __post_init__(self) -> None:
        if self.threshold <= 0 or self.positions < 1 or self.avoid_last < 0:
            raise HarnessError(
                f"labels.threshold={self.threshold}, labels.positions={self.positions}, "
                f"labels.avoid_last={self.avoid_last}: thresholds and counts must be positive."
            )

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads classes_and_baseline"]:
        """Attention on each class's target, and on the baseline positions last."""
        batch, attention = rows.batch, rows.values
        known = [name for name in CLASSES if name in batch.anchors]
        if not known:
            raise HarnessError(
                f"batch {batch.name} has no anchors, so no head can be classified.", f"Anchors: {', '.join(CLASSES)}"
            )
        example = np.arange(len(batch))[:, None]
        on_target = np.zeros((*attention.shape[:2], len(CLASSES)), dtype=np.float64)
        for name in known:
            places = attention[example, :, batch.anchors[name]]  # [examples, places, heads]
            on_target[:, :, CLASSES.index(name)] = places.mean(axis=1)
        if self.baseline == "others":
            free = batch.others(attention.shape[2])
            base = (
                np.einsum("eht,et->eh", attention.astype(np.float64), free) / np.maximum(free.sum(axis=1), 1)[:, None]
            )
        else:
            chosen = drawn_positions(self, rows.whole)[rows.examples]
            base = attention[example, :, chosen].mean(axis=1, dtype=np.float64)
        return np.concatenate([on_target, base[:, :, None]], axis=2)

    def __call__(self, recording: Recording) -> Labels:
        means = recording.readings["labels"].mean(axis=0)
        ratio = means[:, :-1] / np.maximum(means[:, -1:], SMALLEST)
        best = ratio.argmax(axis=1)
        classes = tuple(CLASSES[c] if ratio[unit, c] >= self.threshold else UNCLASSIFIED for unit, c in enumerate(best))
        return Labels(classes, recording.units, {name: ratio[:, c] for c, name in enumerate(CLASSES)})


@lru_cache(maxsize=2)
def drawn_positions(survey: Survey, batch: Batch) -> Int[np.ndarray, "examples positions"]:
    """The paper's baseline positions for every example of a batch."""
    rng = np.random.RandomState(0)
    queries = batch.query.tolist()
    if len(set(queries)) == 1:
        lists = [_one_list(rng, queries[0], survey)] * len(batch)
    else:
        targets = np.concatenate(list(batch.anchors.values()), axis=1).tolist()
        lists = [_own_list(rng, q, avoid, survey.positions) for q, avoid in zip(queries, targets, strict=True)]
    for example, kept in enumerate(lists):
        if not kept:
            raise HarnessError(
                f"batch {batch.name}: example {example} has no position left for a baseline.",
                "Its query stands too early: use labels.baseline=others or later queries.",
            )
    return np.array(lists)


def _one_list(rng: np.random.RandomState, query: int, survey: Survey) -> list[int]:
    """Positions for all examples of one query position."""
    allowed = set(range(1, query)) - set(range(query - survey.avoid_last + 1, query + 1))
    if allowed and not survey.unique:
        return [int(p) for p in rng.randint(1, query, survey.positions) if p in allowed]
    kept: list[int] = []
    while len(kept) < min(survey.positions, len(allowed)):
        position = int(rng.randint(1, query))
        if position in allowed and position not in kept:
            kept.append(position)
    return kept


def _own_list(rng: np.random.RandomState, query: int, avoid: list[int], wanted: int) -> list[int]:
    """Positions for one example."""
    kept: list[int] = []
    for _ in range(TRIES if query > 1 else 0):
        position = int(rng.randint(1, query))
        if position not in avoid and position not in kept:
            kept.append(position)
        if len(kept) == wanted:
            break
    return kept + kept[-1:] * (wanted - len(kept))


@hookimpl
def harness_labels() -> list[type[Survey]]:
    return [Survey]
