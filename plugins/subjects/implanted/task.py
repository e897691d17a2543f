"""The tasks of implanted circuits: key-value tokens, a query about a key, and what is known of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from harness import Counterfactual, Tokens

from .circuits import CIRCUITS, KEYS, TASKS, VALUES, Circuit, Model, Task

CONTENT, MOST, NOISE = 16, 3, 8
"""Tokens between BOS and query, how often a key occurs at most, and different tokens that mean nothing."""
LENGTH = CONTENT + 2
PAIRS = 1
QUERIES = PAIRS + KEYS * VALUES
NOISES = QUERIES + len(TASKS) * KEYS
ANSWERS = NOISES + NOISE
VOCABULARY = ANSWERS + VALUES + 64
"""Token ids: 0 is BOS; then pairs, queries, noise, answers of 4 bits and answers of 6 bits."""


class Sequences(NamedTuple):
    """``path``: the keys that are looked up, in order. ``answer``, and ``other`` of the counterfactual: from 0."""

    tokens: Int[np.ndarray, "n length"]
    path: Int[np.ndarray, "n lookups"]
    answer: Int[np.ndarray, " n"]
    counterfactual: Int[np.ndarray, "n length"]
    other: Int[np.ndarray, " n"]


def first_answer(circuit: Circuit) -> int:
    """The token id of the first answer of a task."""
    return ANSWERS if circuit.answers == VALUES else ANSWERS + VALUES


def sequences(model: Model, task: Task, n: int, rng: np.random.Generator) -> Sequences:
    """Random sequences. A counterfactual has other values at the same places, so that every bit of the answer differs.

    A sequence is BOS, 16 tokens in random order, and the query. Every key has a random value, and one to three tokens
    (their number is what attention to a key varies with); tokens without a meaning fill the rest.
    """
    circuit, rows = CIRCUITS[model][task], np.arange(n)
    counts = _counts(n, rng)
    value, key = rng.integers(VALUES, size=(n, KEYS)), rng.integers(KEYS, size=n)
    path, other = _followed(circuit, value, key)
    while (bad := np.flatnonzero(_repeats(path) | _repeats(other) if circuit.chained else np.zeros(n, bool))).size:
        value[bad] = rng.integers(VALUES, size=(len(bad), KEYS))
        path[bad], other[bad] = _followed(circuit, value[bad], key[bad])
    changed = VALUES - 1 - value
    for step in range(path.shape[1]):
        changed[rows, other[:, step]] = VALUES - 1 - value[rows, path[:, step]]
    order = rng.permuted(np.tile(np.arange(CONTENT), (n, 1)), axis=1)
    kinds = np.stack([np.repeat(np.arange(KEYS + 1), [*row, CONTENT - row.sum()]) for row in counts])
    kinds = np.take_along_axis(kinds, order, axis=1)
    noise = NOISES + rng.integers(NOISE, size=(n, CONTENT))
    query = QUERIES + TASKS.index(task) * KEYS + key

    def written(values: Int[np.ndarray, "n keys"]) -> Int[np.ndarray, "n length"]:
        of = np.take_along_axis(np.pad(values, ((0, 0), (0, 1))), kinds, axis=1)
        content = np.where(kinds < KEYS, PAIRS + kinds * VALUES + of, noise)
        return np.concatenate([np.zeros((n, 1), np.int64), content, query[:, None]], axis=1)

    return Sequences(written(value), path, _answer(circuit, value, path), written(changed),
                     _answer(circuit, changed, other))  # fmt: skip


def tokens_of_key(tokens: Int[np.ndarray, "n length"], key: Int[np.ndarray, " n"]) -> Bool[np.ndarray, "n length"]:
    """Where the tokens of a key are."""
    pair = (tokens >= PAIRS) & (tokens < QUERIES)
    found: Bool[np.ndarray, "n length"] = pair & ((tokens - PAIRS) // VALUES == key[:, None])
    return found


def known(circuit: Circuit, works: Bool[np.ndarray, "n readers"]) -> Int[np.ndarray, " n"]:
    """The bits of the answer that are still known, as a number, if only these readers work."""
    bits, place = np.zeros(len(works), np.int64), 0
    intact = np.ones(len(works), bool)
    for step, lookup in enumerate(circuit.lookups):
        read = np.zeros(len(works), np.int64)
        for reader in lookup:
            read |= works[:, place] * sum(1 << bit for bit in reader.bits)
            place += 1
        if circuit.chained and step < len(circuit.lookups) - 1:
            intact &= read & (KEYS - 1) == KEYS - 1
        else:
            bits |= read << (0 if circuit.chained else step * circuit.width)
    return np.where(intact, bits, 0)


def specified(
    circuit: Circuit, answer: Int[np.ndarray, " n"], bits: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n vocabulary"]:
    """What the model should answer: uniform over the answers that agree in the bits that are known."""
    agree = (answer[:, None] ^ np.arange(circuit.answers)) & bits[:, None] == 0
    spread = np.zeros((len(answer), VOCABULARY))
    first = first_answer(circuit)
    spread[:, first : first + circuit.answers] = agree / agree.sum(axis=1, keepdims=True)
    return spread


def examples(model: Model, task: Task, n: int, rng: np.random.Generator) -> Tokens:
    """Examples of a task as a batch, with counterfactuals."""
    circuit = CIRCUITS[model][task]
    made, query, first = sequences(model, task, n, rng), np.full(n, LENGTH - 1), first_answer(circuit)
    anchors = {"first-token": np.zeros((n, 1), np.int64), "self": query[:, None]}
    return Tokens(
        f"own_task of {model} {task}", made.tokens, query, first + made.answer, anchors, "answer",
        {"model": model, "task": task}, Counterfactual(made.counterfactual, first + made.other),
    )  # fmt: skip


def words(ids: Sequence[int]) -> str:
    """Tokens in words: ``k3=9`` is a pair, ``serial(k3)`` a query, ``~`` noise, ``9`` an answer."""
    return " ".join(_word(token) for token in ids)


def _word(token: int) -> str:
    if token < PAIRS:
        return "BOS"
    if token < QUERIES:
        return "k{}={}".format(*divmod(token - PAIRS, VALUES))
    if token < NOISES:
        task, key = divmod(token - QUERIES, KEYS)
        return f"{TASKS[task]}(k{key})"
    if token < ANSWERS:
        return "~"
    answer = token - ANSWERS
    return str(answer) if answer < VALUES else "{1}+{0}".format(*divmod(answer - VALUES, 8))


def _counts(n: int, rng: np.random.Generator) -> Int[np.ndarray, "n keys"]:
    """How often every key occurs: one to three times, and all together at most as often as there are places."""
    counts = rng.integers(1, MOST + 1, size=(n, KEYS))
    while (bad := np.flatnonzero(counts.sum(axis=1) > CONTENT)).size:
        counts[bad] = rng.integers(1, MOST + 1, size=(len(bad), KEYS))
    return counts


def _followed(
    circuit: Circuit, value: Int[np.ndarray, "n keys"], key: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, "n lookups"], Int[np.ndarray, "n lookups"]]:
    """The keys that are looked up, and those in the counterfactual, where values on the way have all bits flipped."""
    path, other = [key], [key]
    for step in range(1, len(circuit.lookups)):
        if circuit.chained:
            path.append(value[np.arange(len(key)), path[-1]] % KEYS)
            other.append(KEYS - 1 - path[-1])
        else:
            path.append((key + 4 * step) % KEYS)
            other.append(path[-1])
    return np.stack(path, axis=1), np.stack(other, axis=1)


def _repeats(path: Int[np.ndarray, "n lookups"]) -> Bool[np.ndarray, " n"]:
    """Whether a key is looked up twice."""
    repeats: Bool[np.ndarray, " n"] = (np.diff(np.sort(path, axis=1), axis=1) == 0).any(axis=1)
    return repeats


def _answer(
    circuit: Circuit, value: Int[np.ndarray, "n keys"], path: Int[np.ndarray, "n lookups"]
) -> Int[np.ndarray, " n"]:
    read = np.take_along_axis(value, path, axis=1)
    if circuit.chained:
        return read[:, -1]
    parts = read % 2**circuit.width << circuit.width * np.arange(path.shape[1])
    answer: Int[np.ndarray, " n"] = parts.sum(axis=1)
    return answer
