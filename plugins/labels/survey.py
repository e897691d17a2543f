"""The supervised survey: which position each head attends to from the query."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt
from jaxtyping import Float, Int

from harness import (
    UNCLASSIFIED,
    HarnessError,
    LabelMethod,
    Labels,
    Recording,
    Rows,
    Source,
    Tokens,
    hookimpl,
    tokens_of,
)

TRIES = 200  # per example, as published
SMALLEST = 1e-8  # lower bound of the baseline, as published; in half precision it dominates the ratio


@dataclass(frozen=True)
class Survey(LabelMethod):
    r"""Selectivity of every unit for the batch's classes; its class is the best one that reaches ``threshold``.

    .. math:: \text{selectivity}_h(c) = \frac{\operatorname{mean}_e A^{(h)}_e[q_e, t_c(e)]}
              {\max(\operatorname{mean}_{e, b} A^{(h)}_e[q_e, b],\ 10^{-8})}

    :math:`t_c(e)` are the anchors of class c in the batch (a mean over them if a class has several). It is a ratio of
    means, not a mean of ratios. If several classes are equal, the first one in the batch is taken (on repeated tokens:
    induction, previous-token, duplicate-token, first-token, self, local).

    Baseline positions b:

    - ``others``: every position up to the query that is not a target of any class in this example, so a head's own
      target never raises its baseline;
    - ``drawn``: the paper's ``positions`` draws of ``RandomState(0)``. If all examples share a query position q, there
      is one list for all: ``randint(1, q)`` without the last ``avoid_last`` positions, distinct if ``unique``; targets
      of other examples are not excluded. Else there is one list per example: in [1, q) without the example's targets,
      at most 200 tries, padded with the last position drawn.

    Input: attention rows at the query. Output: a class per unit and its selectivities (dimensionless).

    Errors: a batch without anchors; a query with no position left for a drawn baseline.
    Source: the selectivity of the probe-circuit paper (Xu 2026), as its scripts compute it (threshold 30).
    """

    name: ClassVar[str] = "survey"
    source: ClassVar[Source] = "attention"
    threshold: Annotated[float, Gt(0)] = field(
        default=30.0, metadata={"help": "smallest selectivity that gives a class"}
    )
    baseline: Literal["others", "drawn"] = field(
        default="others", metadata={"help": "positions that a target is compared with; the paper uses drawn"}
    )
    positions: Annotated[int, Ge(1)] = field(default=50, metadata={"help": "number of baseline positions (drawn)"})
    unique: bool = field(
        default=True, metadata={"help": "draw distinct positions; the paper does not for its small models"}
    )
    avoid_last: Annotated[int, Ge(0)] = field(
        default=6, metadata={"help": "number of last positions that are never drawn, including the query"}
    )

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads classes_and_baseline"]:
        """Attention on the targets of each class; the last column is the baseline."""
        batch, attention = tokens_of(rows.batch, "labels survey"), rows.values
        if not batch.anchors:
            raise HarnessError(
                f"labels survey: batch {batch.name} has no anchors, so no head can be classified.",
                "Give it anchors (anchors={'induction': ..., 'self': ...}), or use labels=none.",
            )
        example = np.arange(len(batch))[:, None]
        on_target = np.zeros((*attention.shape[:2], len(batch.anchors)), dtype=np.float64)
        for column, name in enumerate(sorted(batch.anchors)):  # digests ignore the order of anchors, so readings must
            places = attention[example, :, batch.anchors[name]]  # [examples, places, heads]
            on_target[:, :, column] = places.mean(axis=1)
        if self.baseline == "others":
            free = batch.others(attention.shape[2])
            total = np.einsum("eht,et->eh", attention.astype(np.float64), free)
            base = total / np.maximum(free.sum(axis=1), 1)[:, None]
        else:
            drawn = drawn_positions(self, tokens_of(rows.whole, "labels survey"))[rows.examples]
            base = attention[example, :, drawn].mean(axis=1, dtype=np.float64)
        return np.concatenate([on_target, base[:, :, None]], axis=2)

    def __call__(self, recording: Recording) -> Labels:
        means = recording.readings["labels"].mean(axis=0)
        names = tuple(tokens_of(recording.batch, "labels survey").anchors)
        columns = [sorted(names).index(name) for name in names]
        ratio = means[:, columns] / np.maximum(means[:, -1:], SMALLEST)
        best = ratio.argmax(axis=1)
        classes = tuple(names[c] if ratio[unit, c] >= self.threshold else UNCLASSIFIED for unit, c in enumerate(best))
        return Labels(classes, recording.units, {name: ratio[:, c] for c, name in enumerate(names)})


@lru_cache(maxsize=2)
def drawn_positions(survey: Survey, batch: Tokens) -> Int[np.ndarray, "examples positions"]:
    """The paper's baseline positions for every example of a batch."""
    rng = np.random.RandomState(0)
    queries = batch.query.tolist()
    if len(set(queries)) == 1:
        lists = [_shared_list(rng, queries[0], survey)] * len(batch)
    else:
        targets = np.concatenate(list(batch.anchors.values()), axis=1).tolist()
        lists = [_list_of_example(rng, q, avoid, survey.positions) for q, avoid in zip(queries, targets, strict=True)]
    for example, positions in enumerate(lists):
        if not positions:
            raise HarnessError(
                f"labels survey: example {example} of batch {batch.name} has no position left for a baseline, because "
                "its query is too early.",
                "Use labels.baseline=others, or later queries.",
            )
    return np.array(lists)


def _shared_list(rng: np.random.RandomState, query: int, survey: Survey) -> list[int]:
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


def _list_of_example(rng: np.random.RandomState, query: int, avoid: list[int], wanted: int) -> list[int]:
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
