"""Batches: examples with a query position, a target and anchors each, checked when they are created."""

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

HeadClass = Literal["induction", "previous-token", "duplicate-token", "first-token", "self", "local"]
"""The survey's classes, in the order in which ties are broken (probe-circuit paper, Xu 2026)."""
CLASSES: tuple[str, ...] = get_args(HeadClass)
LOCAL = np.array([2, 3, 4, 5])
"""How many steps before the query count as local."""


@runtime_checkable
class Vocabulary(Protocol):
    """The properties of a subject that its batches depend on."""

    @property
    def vocab_size(self) -> int:
        """The number of token ids."""

    @property
    def context(self) -> int:
        """The number of positions that the subject can attend over."""

    @property
    def encode(self) -> Callable[[str], list[int]] | None:
        """Text to token ids, without special tokens. None: the subject has no tokenizer."""


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A counterfactual of every example: it has the same length, the same query position and another target.

    ``tokens`` [examples, positions], ``target`` [examples].
    """

    tokens: Int[np.ndarray, "examples positions"]
    target: Int[np.ndarray, " examples"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples: token sequences, each with a query position, a target token and anchors.

    ``tokens`` [examples, positions] are right-padded. Nothing after the query position has an effect; subjects cut it
    off. ``anchors[c]`` [examples, places] are the positions to which a head of class ``c`` attends from the query.
    ``target_kind`` says what the target is (``successor``, ``repeat``, ``next_token``); every result shows it.
    ``counterfactual``: a counterfactual of every example, where the batch has them.
    Compare batches by ``digest``, not by ``==``.

    Errors: a query position outside the sequence, a negative token id, a part of the wrong shape, no examples.
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
        self._check_lengths()
        self._check_queries()
        self._check_anchors()
        for part, ids in self._token_ids.items():
            if ids.min() < 0:
                raise HarnessError(
                    f"batch {self.name}: {part} {ids.min()} is negative.",
                    "Token ids are 0 or more; pad after the query.",
                )

    def _check_lengths(self) -> None:
        if not len(self):
            raise HarnessError(f"batch {self.name}: no examples.", "Use batch.n=1 or more.")
        parts = {"query": self.query, "target": self.target, **self.anchors}
        if self.counterfactual:
            if self.counterfactual.tokens.shape != self.tokens.shape:
                raise HarnessError(
                    f"batch {self.name}: its counterfactual has shape {self.counterfactual.tokens.shape}, "
                    f"its tokens have shape {self.tokens.shape}.",
                    "Give a counterfactual of the same length to every example.",
                )
            parts["target of a counterfactual"] = self.counterfactual.target
        for part, values in parts.items():
            if len(values) != len(self):
                raise HarnessError(
                    f"batch {self.name}: {len(self)} sequences but {len(values)} entries in '{part}'.",
                    "Give one entry to every example.",
                )

    def _check_queries(self) -> None:
        length = self.tokens.shape[1]
        outside = np.flatnonzero((self.query < 0) | (self.query >= length))
        if len(outside):
            raise HarnessError(
                f"batch {self.name}: query position {self.query[outside[0]]} of example {outside[0]} is past its "
                f"sequence of {length} tokens.",
                f"Query positions run from 0 to {length - 1}.",
            )

    def _check_anchors(self) -> None:
        for part, places in self.anchors.items():
            if places.ndim != 2 or not places.shape[1]:
                raise HarnessError(
                    f"batch {self.name}: anchors of '{part}' have shape {places.shape}.",
                    "Give positions [examples, places], with at least one place per example.",
                )
            if ((places < 0) | (places > self.query[:, None])).any():
                raise HarnessError(
                    f"batch {self.name}: an anchor of '{part}' lies outside 0 .. query.",
                    "Anchors are positions from 0 to the query of their example.",
                )

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def digest(self) -> str:
        """Digest of the content: tokens up to the query, queries, targets, anchors, counterfactuals."""
        anchors = [part for key in sorted(self.anchors) for part in (key, np.asarray(self.anchors[key]))]
        counterfactual = (
            [self._up_to_query(self.counterfactual.tokens), self.counterfactual.target] if self.counterfactual else []
        )
        return digest(self._up_to_query(self.tokens), self.query, self.target, *anchors, *counterfactual)

    @property
    def _token_ids(self) -> dict[str, Int[np.ndarray, " tokens"]]:
        """All token ids that have an effect, by their role."""
        ids = {"token": self._up_to_query(self.tokens), "target": self.target}
        if self.counterfactual:
            ids["token of a counterfactual"] = self._up_to_query(self.counterfactual.tokens)
            ids["target of a counterfactual"] = self.counterfactual.target
        return ids

    def _up_to_query(self, tokens: Int[np.ndarray, "examples positions"]) -> Int[np.ndarray, " tokens"]:
        """Every token up to its example's query, example after example."""
        return tokens[np.arange(tokens.shape[1]) <= self.query[:, None]]

    @property
    def counterfactual_batch(self) -> Batch:
        """The counterfactuals as a batch, whose counterfactuals are these examples. Errors: there are none."""
        if self.counterfactual is None:
            raise HarnessError(
                f"batch {self.name} has no counterfactuals.",
                "Use a batch that has them (batch=synthetic_induction), or an intervention and metrics that need none.",
            )
        return replace(
            self,
            tokens=self.counterfactual.tokens,
            target=self.counterfactual.target,
            counterfactual=Counterfactual(self.tokens, self.target),
        )

    def others(self, length: int) -> Bool[np.ndarray, "examples positions"]:
        """Which positions below ``length`` are at or before the query, and are not an anchor of any class."""
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
        """Two disjoint random halves: one to propose on, one to test on.

        Errors: fewer than two examples.
        """
        if len(self) < 2:
            raise HarnessError(
                f"batch {self.name}: one example cannot be split into a proposal and a test half.",
                "Use more examples (batch.n=...), or split=none.",
            )
        order = rng_for(seed, "split").permutation(len(self))
        middle = len(self) // 2
        return self.take(np.sort(order[:middle])), self.take(np.sort(order[middle:]))

    def check(self, vocabulary: Vocabulary) -> None:
        """Refuse a batch that a subject cannot read.

        Errors: token ids outside the vocabulary, sequences longer than the subject's context.
        """
        for part, ids in self._token_ids.items():
            if ids.max() >= vocabulary.vocab_size:
                raise HarnessError(
                    f"batch {self.name}: {part} {ids.max()} is outside the subject's vocabulary of "
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
    """The default range of token ids: the paper's [100, 10000), reduced for small vocabularies.

    The lower bound excludes special and punctuation tokens. For a vocabulary of ``V < 10000`` it is
    ``min(100, V // 32)``.
    """
    high = min(10_000, vocab_size)
    return min(100, high // 32), high


def repeat_anchors(
    first: Int[np.ndarray, " examples"], query: Int[np.ndarray, " examples"]
) -> dict[str, Int[np.ndarray, "examples _"]]:
    """The anchors of every class, where ``first`` is the earlier position of the query's token.

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
