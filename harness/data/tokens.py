"""Token sequences with a query position, a target token and anchors each, checked when they are created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from harness.data.answers import NONE, Answers
from harness.data.batch import Batch, Counterfactual, Reads, Vocabulary, described
from harness.util.digest import digest
from harness.util.errors import HarnessError

LOCAL = np.array([2, 3, 4, 5])
"""How many steps before the query count as local."""
SHOWN = 24
"""How many tokens of an example are shown."""


@dataclass(frozen=True, eq=False)
class Tokens(Batch):
    """Token sequences, each with a query position, a target token and anchors.

    ``tokens`` [examples, positions] are right-padded. Nothing after the query position has an effect; subjects cut it
    off. ``anchors[c]`` [examples, places] are the positions to which a head of class ``c`` attends from the query; the
    classes have the names that the batch gives them. ``target``: of an example with ``answers``, the first right one.

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
    groups: Mapping[str, Shaped[np.ndarray, " examples"]] = field(default_factory=dict)
    answers: Answers | None = None

    def __post_init__(self) -> None:
        self._check_counterfactual()
        answers = {} if self.answers is None else {"answers": self.answers}
        self._check_lengths({"query": self.query, "target": self.target, **self.anchors, **answers})
        self._check_queries()
        self._check_anchors()
        for part, ids in self._token_ids.items():
            if ids.min() < 0:
                raise HarnessError(
                    f"batch {self.name}: {part} {ids.min()} is negative.",
                    "Token ids are 0 or more; pad after the query.",
                )

    def _check_counterfactual(self) -> None:
        other = self.counterfactual
        if other is None:
            return
        if other.content.shape != self.tokens.shape:
            raise HarnessError(
                f"batch {self.name}: its counterfactual has shape {other.content.shape}, "
                f"its tokens have shape {self.tokens.shape}.",
                "Give a counterfactual of the same length to every example.",
            )
        self._check_lengths({"target of a counterfactual": other.target})

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
        """Digest of the content: tokens up to the query, queries, targets, anchors, counterfactuals, answers."""
        anchors = [part for key in sorted(self.anchors) for part in (key, np.asarray(self.anchors[key]))]
        other = self.counterfactual
        counterfactual = [self._up_to_query(other.content), other.target] if other else []
        answers = [self.answers.right, self.answers.wrong] if self.answers else []
        return digest(self._up_to_query(self.tokens), self.query, self.target, *anchors, *counterfactual, *answers)

    @property
    def _token_ids(self) -> dict[str, Int[np.ndarray, " tokens"]]:
        """All token ids that have an effect, by their role."""
        ids = {"token": self._up_to_query(self.tokens), "target": self.target}
        if self.counterfactual:
            ids["token of a counterfactual"] = self._up_to_query(self.counterfactual.content)
            ids["target of a counterfactual"] = self.counterfactual.target
        if self.answers:
            ids["answer"] = np.concatenate([each[each != NONE] for each in (self.answers.right, self.answers.wrong)])
        return ids

    def _up_to_query(self, tokens: Int[np.ndarray, "examples positions"]) -> Int[np.ndarray, " tokens"]:
        """Every token up to its example's query, example after example."""
        return tokens[np.arange(tokens.shape[1]) <= self.query[:, None]]

    @property
    def counterfactual_batch(self) -> Tokens:
        """The counterfactuals as a batch, whose counterfactuals are these examples. Errors: there are none."""
        if self.counterfactual is None:
            raise self.without_counterfactual()
        return replace(
            self,
            tokens=self.counterfactual.content,
            target=self.counterfactual.target,
            counterfactual=Counterfactual(self.tokens, self.target),
            answers=self.answers.swapped if self.answers else None,
        )

    def others(self, length: int) -> Bool[np.ndarray, "examples positions"]:
        """Which positions below ``length`` are at or before the query, and are not an anchor of any class."""
        free: Bool[np.ndarray, "examples positions"] = np.arange(length) <= self.query[:, None]
        for places in self.anchors.values():
            free[np.arange(len(self))[:, None], places] = False
        return free

    def take(self, examples: Int[np.ndarray, " chosen"]) -> Tokens:
        """These examples, in this order."""
        other = self.counterfactual
        return replace(
            self,
            tokens=self.tokens[examples],
            query=self.query[examples],
            target=self.target[examples],
            anchors={name: places[examples] for name, places in self.anchors.items()},
            counterfactual=Counterfactual(other.content[examples], other.target[examples]) if other else None,
            groups=self._groups_of(examples),
            answers=self.answers.take(examples) if self.answers else None,
        )

    def exchanged(self, cycle: Int[np.ndarray, " examples"]) -> Tokens:
        """For each example, as many tokens of other examples, with its own query position.

        Its tokens are those of the next example on the cycle, up to that example's query. If they are fewer, the tokens
        of the example after it follow, without the example itself.
        """
        n = len(self)
        tokens = np.zeros_like(self.tokens)  # tokens after the query are never read
        for place, example in enumerate(cycle):
            length, filled, step = self.query[example] + 1, 0, 1
            while filled < length:
                donor = cycle[(place + step) % n]
                if donor != example:
                    text = self.tokens[donor, : min(self.query[donor] + 1, length - filled)]
                    tokens[example, filled : filled + len(text)] = text
                    filled += len(text)
                step += 1
        return replace(self, tokens=tokens, counterfactual=None)

    def with_targets(self, target: Int[np.ndarray, " examples"]) -> Tokens:
        """The same examples with other targets. The targets of their counterfactuals become the former targets."""
        other = self.counterfactual
        former = Counterfactual(other.content, self.target) if other else None
        return replace(self, target=target, counterfactual=former)

    def with_other_answers(self, seed: int) -> Batch:
        """As for every batch; where there are sets of answers, the right ones are wrong and the wrong ones right."""
        other = super().with_other_answers(seed)
        return replace(other, answers=self.answers.swapped) if self.answers and isinstance(other, Tokens) else other

    def shown(self, example: int, reads: Reads) -> str:
        """The last tokens up to the query, as text if the subject has a tokenizer, and the target."""
        query = int(self.query[example])
        ids = self.tokens[example, max(0, query + 1 - SHOWN) : query + 1].tolist()
        decode = reads.decode if isinstance(reads, Vocabulary) and reads.decode else _spaced
        start = "… " if query >= SHOWN else ""
        return f"{start}{decode(ids)} → {decode([int(self.target[example])])}".replace("\n", "⏎")

    def check(self, reads: Reads) -> None:
        """Refuse a batch that a subject cannot read.

        Errors: a subject of vectors; token ids outside the vocabulary, sequences longer than the subject's context.
        """
        if not isinstance(reads, Vocabulary):
            raise HarnessError(
                f"batch {self.name} has token sequences; the subject reads {described(reads)}.",
                "Choose a batch of vectors (batch=vectors), or a language model as the subject.",
            )
        for part, ids in self._token_ids.items():
            if ids.max() >= reads.vocab_size:
                raise HarnessError(
                    f"batch {self.name}: {part} {ids.max()} is outside the subject's vocabulary of "
                    f"{reads.vocab_size} tokens.",
                    f"Use ids from 0 to {reads.vocab_size - 1} (batch.vocab=[lo,hi], where the batch has it).",
                )
        if self.query.max() >= reads.context:
            raise HarnessError(
                f"batch {self.name}: query position {self.query.max()} is past the subject's context of "
                f"{reads.context} positions.",
                f"Use shorter sequences: batch.length={reads.context}",
            )


def _spaced(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def tokens_of(batch: Batch, who: str) -> Tokens:
    """The batch, if it has token sequences. Errors: it has vectors, which ``who`` cannot use."""
    if not isinstance(batch, Tokens):
        raise HarnessError(
            f"{who} needs token sequences; batch {batch.name} has vectors.",
            f"Choose another method instead of {who}, or a batch of token sequences.",
        )
    return batch


def require_positions(name: str, fewest: int, reads: Vocabulary, otherwise: str = "") -> None:
    """Errors: a subject whose context is too short for a batch, whatever its length. ``otherwise``: what else helps."""
    if reads.context < fewest:
        raise HarnessError(
            f"batch {name} needs {fewest} positions; the subject has {reads.context}.",
            f"Use a subject with a longer context{otherwise}.",
        )


def default_id_range(vocab_size: int) -> tuple[int, int]:
    """The default range of token ids: the paper's [100, 10000), reduced for small vocabularies.

    The lower bound excludes special and punctuation tokens. For a vocabulary of ``V < 10000`` it is
    ``min(100, V // 32)``.
    """
    high = min(10_000, vocab_size)
    return min(100, high // 32), high


def id_range(chosen: tuple[int, int] | None, vocab_size: int, fewest: int) -> tuple[int, int]:
    """The token ids [lo, hi) that examples are drawn from: those of ``batch.vocab``, or the default range.

    Errors: a range outside the vocabulary, or with fewer than ``fewest`` tokens.
    """
    low, high = chosen or default_id_range(vocab_size)
    if not 0 <= low <= high - fewest or high > vocab_size:
        raise HarnessError(
            f"batch.vocab=[{low},{high}]: it is outside the subject's vocabulary of {vocab_size} tokens, or has fewer "
            f"than {fewest} tokens.",
            f"Use 'batch.vocab=[lo,hi]' with 0 <= lo, lo + {fewest} <= hi and hi <= {vocab_size}, or leave it out.",
        )
    return low, high


BOS_HELP = "begin with the tokenizer's BOS token; null: as the tokenizer does by default"
FIRST = "first-token"
"""The class of heads that attend to the first position, whatever stands there."""


def with_bos(batch: Tokens, token: int | None) -> Tokens:
    """The same examples after a BOS token: queries and anchors move with their tokens. None: the batch itself.

    The anchor of ``first-token`` stays at position 0, which is now the BOS.
    """
    if token is None:
        return batch

    def after(tokens: Int[np.ndarray, "examples positions"]) -> Int[np.ndarray, "examples positions+1"]:
        return np.insert(tokens, 0, token, axis=1)

    other = batch.counterfactual
    return replace(
        batch,
        tokens=after(batch.tokens),
        query=batch.query + 1,
        anchors={name: places + (name != FIRST) for name, places in batch.anchors.items()},
        counterfactual=Counterfactual(after(other.content), other.target) if other else None,
    )


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
        FIRST: np.zeros((len(query), 1), dtype=np.int64),
        "self": query[:, None],
        "local": query[:, None] - LOCAL,
    }
