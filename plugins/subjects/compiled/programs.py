"""The programs that were compiled: what each answers about a sequence of brackets. The compiler is not used here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int

BRACKETS = ("(", ")", "[", "]")
LONGEST = 8
"""Brackets in a sequence at most. The models were compiled for this length, after one BOS."""

Name = Literal[
    "reverse",
    "hist",
    "count",
    "previous",
    "induction",
    "double_hist",
    "same_ends",
    "maximum",
    "pair_balance",
    "shuffle_dyck",
]
NAMES: tuple[Name, ...] = get_args(Name)

Prefix = Int[np.ndarray, "rows length"]
"""Sequences of one length, up to the bracket that is asked about. A number is the place of a bracket in BRACKETS."""
Answers = Int[np.ndarray, " rows"]
"""The place of each answer among the program's answers (:data:`ANSWERS`). -1: the program has none."""

_COUNTS = tuple(str(number) for number in range(LONGEST + 1))
ANSWERS: Mapping[Name, tuple[str, ...]] = {
    "reverse": BRACKETS,
    "hist": _COUNTS,
    "count": _COUNTS,
    "previous": BRACKETS,
    "induction": BRACKETS,
    "double_hist": _COUNTS,
    "same_ends": ("no", "yes"),
    "maximum": BRACKETS,
    "pair_balance": ("(", ")", "="),
    "shuffle_dyck": ("no", "yes"),
}
SYMBOLS = ("BOS", *BRACKETS, *_COUNTS, "no", "yes", "=")
"""The vocabulary: a token id is a place in this list."""


def reverse(prefix: Prefix) -> Answers:
    """The last token of the reversed sequence, which is the first one."""
    return prefix[:, 0]


def hist(prefix: Prefix) -> Answers:
    """How often the last token occurs."""
    return _occurrences(prefix)[:, -1]


def count(prefix: Prefix) -> Answers:
    """How often ``(`` occurs."""
    counts: Answers = np.count_nonzero(prefix == 0, axis=1)
    return counts


def previous(prefix: Prefix) -> Answers:
    """The token before the last one."""
    return prefix[:, -2]


def induction(prefix: Prefix) -> Answers:
    """The token that most often followed the last token before. None: there is no such token, or two as often."""
    follows = prefix[:, :-1] == prefix[:, -1:]
    votes = np.stack([(follows & (prefix[:, 1:] == token)).sum(axis=1) for token in range(len(BRACKETS))], axis=1)
    ranked = np.sort(votes, axis=1)
    return np.where(ranked[:, -1] > ranked[:, -2], votes.argmax(axis=1), -1)


def double_hist(prefix: Prefix) -> Answers:
    """How many tokens have, up to their own place, occurred as often as the last token up to its place.

    None: a token occurs seven times. The compiled heads compare counts up to six.
    """
    occurrences = _occurrences(prefix)
    return np.where(occurrences.max(axis=1) < 7, (occurrences == occurrences[:, -1:]).sum(axis=1), -1)


def same_ends(prefix: Prefix) -> Answers:
    """Whether the first token is the last one."""
    same: Bool[np.ndarray, " rows"] = prefix[:, 0] == prefix[:, -1]
    return same.astype(np.int64)


def maximum(prefix: Prefix) -> Answers:
    """The last token of the sorted sequence."""
    greatest: Answers = prefix.max(axis=1)
    return greatest


def pair_balance(prefix: Prefix) -> Answers:
    """Which of ``(`` and ``)`` occurs more often, or ``=``."""
    balance = _balance(prefix, 0)[:, -1]
    return np.where(balance > 0, 0, np.where(balance < 0, 1, 2))


def shuffle_dyck(prefix: Prefix) -> Answers:
    """Whether both kinds of brackets are balanced; the kinds may cross."""
    balances = [_balance(prefix, opening) for opening in (0, 2)]
    balanced: Bool[np.ndarray, " rows"] = np.logical_and.reduce(
        [(balance >= 0).all(axis=1) & (balance[:, -1] == 0) for balance in balances]
    )
    return balanced.astype(np.int64)


PROGRAMS: Mapping[Name, Callable[[Prefix], Answers]] = {
    "reverse": reverse,
    "hist": hist,
    "count": count,
    "previous": previous,
    "induction": induction,
    "double_hist": double_hist,
    "same_ends": same_ends,
    "maximum": maximum,
    "pair_balance": pair_balance,
    "shuffle_dyck": shuffle_dyck,
}


def _occurrences(prefix: Prefix) -> Int[np.ndarray, "rows length"]:
    """How often each token occurs up to its own place."""
    earlier = np.tril(np.ones((prefix.shape[1],) * 2, dtype=bool))
    occurrences: Int[np.ndarray, "rows length"] = np.count_nonzero(
        (prefix[:, :, None] == prefix[:, None, :]) & earlier, axis=2
    )
    return occurrences


def _balance(prefix: Prefix, opening: int) -> Int[np.ndarray, "rows length"]:
    """Opening minus closing brackets of a kind, up to each place."""
    return np.cumsum((prefix == opening).astype(np.int64) - (prefix == opening + 1), axis=1)
