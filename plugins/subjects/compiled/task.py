"""The task of a compiled program: sequences of brackets, and its answer about each."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from harness import Counterfactual, HarnessError, Tokens

from .programs import ANSWERS, BRACKETS, LONGEST, PROGRAMS, SYMBOLS, Name

SHORTEST = 4
"""Brackets in a sequence at least."""


class Sequences(NamedTuple):
    """All sequences about which a program has an answer. ``tokens``: right-padded, a bracket is its place."""

    tokens: Int[np.ndarray, "sequences longest"]
    length: Int[np.ndarray, " sequences"]
    answer: Int[np.ndarray, " sequences"]


@cache
def sequences(program: Name) -> Sequences:
    """The 87,296 sequences of 4 to 8 brackets, less those without an answer, and lengths at which all have the same."""
    parts: list[Sequences] = []
    for length in range(SHORTEST, LONGEST + 1):
        tokens = np.stack(np.unravel_index(np.arange(len(BRACKETS) ** length), [len(BRACKETS)] * length), axis=1)
        answer = PROGRAMS[program](tokens)
        if np.ptp(answer[answer >= 0]) == 0:  # no brackets are balanced if their number is odd
            continue
        tokens = np.pad(tokens, ((0, 0), (0, LONGEST - length)))
        parts.append(Sequences(tokens[answer >= 0], np.full((answer >= 0).sum(), length), answer[answer >= 0]))
    return Sequences(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def examples(program: Name, n: int, rng: np.random.Generator) -> Tokens:
    """``n`` different sequences after a BOS, asked at the last bracket.

    Lengths are equally frequent, and so are answers, as far as there are enough sequences with an answer. The
    counterfactual is a sequence of the same length with another answer that differs in as few places as possible.

    Errors: more examples than sequences.
    """
    every = sequences(program)
    if n > len(every.answer):
        raise HarnessError(
            f"batch.n={n}: {program} has {len(every.answer)} different examples.", f"Use batch.n={len(every.answer)}"
        )
    chosen = rng.permutation(np.concatenate(_shares(every, n, rng)))
    other = np.array([_counterfactual(every, row, rng) for row in chosen])
    words = np.array([SYMBOLS.index(word) for word in ANSWERS[program]])
    query = every.length[chosen]

    def text(rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, "n places"]:
        return np.pad(1 + every.tokens[rows], ((0, 0), (1, 0)))  # the BOS is token 0, and brackets follow it

    anchors = {"previous-token": query[:, None] - 1, "first-token": np.zeros((n, 1), dtype=np.int64),
               "self": query[:, None]}  # fmt: skip
    return Tokens(
        f"own_task of {program}", text(chosen), query, words[every.answer[chosen]], anchors, "answer",
        {"program": program, "answers": [*ANSWERS[program]]},
        Counterfactual(text(other), words[every.answer[other]]), {"length": query},
    )  # fmt: skip


def _shares(every: Sequences, n: int, rng: np.random.Generator) -> list[Int[np.ndarray, " share"]]:
    """Sequences of each answer: rare answers first, so that what they lack is shared by the others."""
    answers, sizes = np.unique(every.answer, return_counts=True)
    weight = 1 / np.bincount(every.length)[every.length]
    shares, left = [], n
    for place, answer in enumerate(answers[np.argsort(sizes, kind="stable")]):
        rows = np.flatnonzero(every.answer == answer)
        share = min(len(rows), left // (len(answers) - place))
        shares.append(rng.choice(rows, share, replace=False, p=weight[rows] / weight[rows].sum()))
        left -= share
    return shares


def _counterfactual(every: Sequences, row: np.intp, rng: np.random.Generator) -> np.intp:
    """The nearest sequence of the same length with another answer; of several, a random one."""
    others = np.flatnonzero((every.length == every.length[row]) & (every.answer != every.answer[row]))
    distance = (every.tokens[others] != every.tokens[row]).sum(axis=1)
    found: np.intp = rng.choice(others[distance == distance.min()])
    return found
