"""Batches: examples with a query position and a target each, and anchors; validated where they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from harness.util.digest import digest
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

# The survey's classes, in the order in which ties are broken (probe-circuit paper, Xu 2026).
HeadClass = Literal["induction", "previous-token", "duplicate-token", "first-token", "self", "local"]
CLASSES: tuple[str, ...] = get_args(HeadClass)
LOCAL = np.array([2, 3, 4, 5])  # steps back from the query that count as local


@runtime_checkable
class Vocabulary(Protocol):
    """What a batch must know of a subject to be written in its tokens."""

    @property
    def vocab_size(self) -> int:
        """How many token ids there are."""

    @property
    def context(self) -> int:
        """How many positions the subject can attend over."""

    @property
    def encode(self) -> Callable[[str], list[int]] | None:
        """Text to token ids, without special tokens; None for a subject without a tokenizer."""


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A counterfactual of every example: as long, asked at the same position, with another answer.

    ``tokens`` [examples, positions], ``target`` [examples]: the answer in the counterfactual.
    """

    tokens: Int[np.ndarray, "examples positions"]
    target: Int[np.ndarray, " examples"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples: token sequences, the position that is asked, the token that should come, and where to look for it.

    ``tokens`` [examples, positions] are right-padded; nothing after the query position can matter, and subjects cut it
    off. ``anchors[c]`` [examples, places] are the positions where a head of class ``c`` would look from the query.
    ``target_kind`` says what the target is (``successor``, ``repeat``, ``next_token``) and is shown on every result.
    ``counterfactual`` holds a counterfactual of every example, where the batch has one.
    Two batches are compared by ``digest``, not by ``==``.

    Errors: a query position outside the sequence, a negative token, a missing or mis-shaped part, no example at all.
    """

    name: str
    tokens: Int[np.ndarray, "examples positions"]
    query: Int[np.ndarray, " examples"]
    target: Int[np.ndarray, " examples"]
    anchors: Mapping[str, Int[np.ndarray, "examples _"]]
    target_kind: str
    notes: Mapping[str, Any] = field(default_factory=dict)
    counterfactual: Counterfactual | None = None

    def __post_init__(self) -> None:
        n, length = self.tokens.shape
        counterfactuals = (
            {} if self.counterfactual is None else {"target of a counterfactual": self.counterfactual.target}
        )
        if self.counterfactual is not None and self.counterfactual.tokens.shape != self.tokens.shape:
            raise HarnessError(
                f"batch {self.name}: its counterfactual has shape {self.counterfactual.tokens.shape}, not {(n, length)}."
            )
        if n == 0:
            raise HarnessError(f"batch {self.name}: no examples.", "Ask for at least one.")
        for part, values in {"query": self.query, "target": self.target, **counterfactuals, **self.anchors}.items():
            if len(values) != n:
                raise HarnessError(f"batch {self.name}: {n} sequences but {len(values)} entries in '{part}'.")
        for part, places in self.anchors.items():
            if places.ndim != 2 or not places.shape[1]:
                raise HarnessError(
                    f"batch {self.name}: anchors of '{part}' have shape {places.shape}.",
                    "Give positions [examples, places], one place or more per example.",
                )
        bad = np.flatnonzero((self.query < 0) | (self.query >= length))
        if len(bad):
            raise HarnessError(
                f"batch {self.name}: query position {self.query[bad[0]]} of example {bad[0]} is past its sequence "
                f"of {length} tokens.",
                f"Query positions run from 0 to {length - 1}.",
            )
        if self.counterfactual is not None:
            counterfactuals["tokens of a counterfactual"] = self._seen(self.counterfactual.tokens)
        for part, values in {"tokens": self._visible, "target": self.target, **counterfactuals}.items():
            if values.min() < 0:
                raise HarnessError(f"batch {self.name}: {values.min()} in '{part}' is no token.", "Ids start at 0.")
        for part, places in self.anchors.items():
            if ((places < 0) | (places > self.query[:, None])).any():
                raise HarnessError(
                    f"batch {self.name}: an anchor of '{part}' lies outside 0 .. query.",
                    "An example can only be asked about positions up to its query.",
                )

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def digest(self) -> str:
        """What makes two batches the same: tokens up to the query, queries, targets, anchors."""
        anchors = [part for key in sorted(self.anchors) for part in (key, np.asarray(self.anchors[key]))]
        counterfactual = (
            [self._seen(self.counterfactual.tokens), self.counterfactual.target] if self.counterfactual else []
        )
        return digest(self._visible, self.query, self.target, *anchors, *counterfactual)

    @property
    def _visible(self) -> Int[np.ndarray, " tokens"]:
        return self._seen(self.tokens)

    def _seen(self, tokens: Int[np.ndarray, "examples positions"]) -> Int[np.ndarray, " tokens"]:
        """Every token up to its example's query, example after example."""
        return tokens[np.arange(tokens.shape[1]) <= self.query[:, None]]

    @property
    def counterfactual_batch(self) -> Batch:
        """The counterfactuals as examples of their own. Errors: the batch has none."""
        if self.counterfactual is None:
            raise HarnessError(
                f"batch {self.name} has no counterfactual of its examples.",
                "Use a batch that has one (synthetic_induction), or an intervention and metrics that need none.",
            )
        return replace(
            self,
            tokens=self.counterfactual.tokens,
            target=self.counterfactual.target,
            counterfactual=Counterfactual(self.tokens, self.target),
        )

    def others(self, length: int) -> Bool[np.ndarray, "examples positions"]:
        """Positions below ``length``, up to each example's query, that are no class's target in it."""
        free: Bool[np.ndarray, "examples positions"] = np.arange(length) <= self.query[:, None]
        for places in self.anchors.values():
            free[np.arange(len(self))[:, None], places] = False
        return free

    def take(self, examples: Int[np.ndarray, " chosen"]) -> Batch:
        """These examples, in this order."""
        return Batch(
            self.name,
            self.tokens[examples],
            self.query[examples],
            self.target[examples],
            {name: places[examples] for name, places in self.anchors.items()},
            self.target_kind,
            self.notes,
            Counterfactual(self.counterfactual.tokens[examples], self.counterfactual.target[examples])
            if self.counterfactual
            else None,
        )

    def halves(self, seed: int) -> tuple[Batch, Batch]:
        """Two disjoint halves, drawn by ``seed``: one to propose on, one to test on.

        Errors: fewer than two examples.
        """
        if len(self) < 2:
            raise HarnessError(
                f"batch {self.name}: one example cannot be split into a proposal and a test half.",
                "Ask for more examples (batch.n=...), or say split=none.",
            )
        order = rng_for(seed, "split").permutation(len(self))
        middle = len(self) // 2
        return self.take(np.sort(order[:middle])), self.take(np.sort(order[middle:]))

    def check(self, vocabulary: Vocabulary) -> None:
        """Refuse a batch that this subject cannot read.

        Errors: tokens or targets outside the vocabulary, sequences longer than the subject's context.
        """
        asked = {"token": self._visible, "target": self.target}
        if self.counterfactual:
            asked |= {
                "token of a counterfactual": self._seen(self.counterfactual.tokens),
                "target of a counterfactual": self.counterfactual.target,
            }
        for part, values in asked.items():
            if values.max() >= vocabulary.vocab_size:
                raise HarnessError(
                    f"batch {self.name}: {part} {values.max()} is outside the subject's vocabulary of "
                    f"{vocabulary.vocab_size} tokens.",
                    f"Use ids from 0 to {vocabulary.vocab_size - 1} (for synthetic_induction: batch.vocab=[lo,hi]).",
                )
        if self.query.max() >= vocabulary.context:
            raise HarnessError(
                f"batch {self.name}: query position {self.query.max()} is past the subject's context of "
                f"{vocabulary.context} positions.",
                f"Use shorter sequences: batch.length={vocabulary.context}",
            )


def default_id_range(vocab_size: int) -> tuple[int, int]:
    """Which token ids a batch uses when none are asked for: the paper's [100, 10000), shrunk to a small vocabulary.

    The lower bound keeps special and punctuation tokens out; on a vocabulary of ``V < 10000`` it is
    ``min(100, V // 32)``.
    """
    high = min(10_000, vocab_size)
    return min(100, high // 32), high


def repeat_anchors(
    first: Int[np.ndarray, " examples"], query: Int[np.ndarray, " examples"]
) -> dict[str, Int[np.ndarray, "examples _"]]:
    """Where a head of each class looks from the query, when the query's token stood at ``first`` before.

    Source: probe-circuit paper (Xu 2026), the target positions of its six classes.
    """
    return {
        "induction": first[:, None] + 1,
        "previous-token": query[:, None] - 1,
        "duplicate-token": first[:, None],
        "first-token": np.zeros((len(query), 1), dtype=np.int64),
        "self": query[:, None],
        "local": query[:, None] - LOCAL,
    }
