"""Batches: examples with a target each. What every kind of batch has, and what a subject reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Num, Shaped

from harness.data.answers import Answers
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for


@dataclass(frozen=True)
class Beginning:
    """The beginning-of-sequence token of a tokenizer (BOS), and whether the tokenizer begins every text with it."""

    token: int
    by_default: bool


@dataclass(frozen=True)
class Vocabulary:
    """What a subject of token sequences reads.

    ``vocab_size``: the number of token ids. ``context``: the number of positions that it can attend over. ``encode``:
    text to token ids, without special tokens; ``decode``: the reverse; ``beginning``: the tokenizer's BOS, if it has
    one (None: the subject has no tokenizer). A tokenizer may be loaded when one of them is first called. ``task``:
    examples of the task that the subject was made for, where it was made for one: ``n`` of them, with a generator of
    random numbers.
    """

    vocab_size: int
    context: int
    encode: Callable[[str], list[int]] | None = None
    decode: Callable[[list[int]], str] | None = None
    beginning: Callable[[], Beginning | None] | None = None
    task: Callable[[int, np.random.Generator], Batch] | None = None

    def bos(self, wanted: bool | None) -> tuple[int | None, str]:
        """The BOS that examples begin with, and why. ``wanted``: ``batch.bos``; None: as the tokenizer does by default.

        Errors: a BOS is wanted, and there is none; the tokenizer that would have it cannot be loaded.
        """
        if wanted is False:
            return None, "none (batch.bos=false)"
        try:
            found = self.beginning() if self.beginning else None
        except HarnessError:
            if wanted:
                raise
            return None, "none (the tokenizer cannot be loaded)"
        if found is None:
            why = f"the subject has {'a tokenizer without BOS' if self.beginning else 'no tokenizer'}"
            if wanted:
                raise HarnessError(f"batch.bos=true: {why}.", "Leave it out: batch.bos=null")
            return None, f"none ({why})"
        if wanted or found.by_default:
            return found.token, f"{found.token} ({'batch.bos=true' if wanted else 'default of the tokenizer'})"
        return None, "none (default of the tokenizer)"


@dataclass(frozen=True)
class Width:
    """What a subject of vectors reads: ``inputs`` numbers per example. It predicts ``outputs`` numbers."""

    inputs: int
    outputs: int


Reads = Vocabulary | Width | None
"""How a subject's examples are written. None: it has no model, so it reads none."""


class Batch(ABC):
    """Examples with a target each. There are two kinds: :class:`Tokens` and :class:`Vectors`.

    ``query``: the position that is read, 0 for vectors. ``target_kind`` says what the target is (``successor``,
    ``next_token``, ``class``); every result shows it. ``counterfactual``: a counterfactual of every example, where the
    batch has them. ``groups``: properties of the examples, by name (``domain``, ``document``): one value per example.
    ``answers``: sets of right and wrong answers, where an example has more than one of either kind, or a wrong answer
    without a counterfactual. ``notes``: for records. Compare batches by ``digest``, not by ``==``.
    """

    name: str
    query: Int[np.ndarray, " examples"]
    target: Num[np.ndarray, examples * outputs]
    target_kind: str
    notes: Mapping[str, Any]
    counterfactual: Counterfactual | None
    groups: Mapping[str, Shaped[np.ndarray, " examples"]]
    answers: Answers | None = None

    @property
    @abstractmethod
    def digest(self) -> str:
        """Digest of the content. ``groups`` are not part of it: dividing the examples gives other batches."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, examples: Int[np.ndarray, " chosen"]) -> Batch:
        """These examples, in this order."""

    @abstractmethod
    def exchanged(self, cycle: Int[np.ndarray, " examples"]) -> Batch:
        """Each example with the content of the next one on a cycle through all examples, for resampling."""

    @abstractmethod
    def with_targets(self, target: Num[np.ndarray, examples * outputs]) -> Batch:
        """The same examples with other targets. The targets of their counterfactuals become the former targets."""

    @abstractmethod
    def check(self, reads: Reads) -> None:
        """Refuse a batch that a subject cannot read. Errors: another kind; content outside what the subject reads."""

    @abstractmethod
    def shown(self, example: int, reads: Reads) -> str:
        """One example in a line, with its target."""

    @property
    @abstractmethod
    def counterfactual_batch(self) -> Batch:
        """The counterfactuals as a batch, whose counterfactuals are these examples. Errors: there are none."""

    def with_other_answers(self, seed: int) -> Batch:
        """The same examples, each with the answer of its counterfactual or, without those, of another example.

        Other examples follow a random cycle through all examples, so that every answer is given once.
        """
        if self.counterfactual is not None:
            return self.with_targets(self.counterfactual.target)
        cycle = rng_for(seed, "other answers").permutation(len(self))
        target = np.empty_like(self.target)
        target[cycle] = self.target[np.roll(cycle, -1)]
        return self.with_targets(target)

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

    def without_counterfactual(self) -> HarnessError:
        """The error of a batch that has no counterfactuals."""
        return HarnessError(
            f"batch {self.name} has no counterfactuals.",
            "Use a batch that has them (batch=random_repeat), or an intervention and metrics that need none.",
        )

    def _check_lengths(self, parts: Mapping[str, Sized]) -> None:
        if not len(self):
            raise HarnessError(f"batch {self.name}: no examples.", "Use batch.n=1 or more.")
        for part, values in {**parts, **self.groups}.items():
            if len(values) != len(self):
                raise HarnessError(
                    f"batch {self.name}: {len(self)} examples but {len(values)} entries in '{part}'.",
                    "Give one entry to every example.",
                )

    def _groups_of(self, examples: Int[np.ndarray, " chosen"]) -> dict[str, Shaped[np.ndarray, " chosen"]]:
        return {name: values[examples] for name, values in self.groups.items()}


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """A counterfactual of every example: it has the same shape, the same query position and another target.

    ``content``: its tokens [examples, positions] or its vectors [examples, inputs]. ``target`` [examples, ...].
    """

    content: Num[np.ndarray, "examples _"]
    target: Num[np.ndarray, examples * outputs]


def described(reads: Reads) -> str:
    if reads is None:
        return "nothing, because it has no model"
    return "token sequences" if isinstance(reads, Vocabulary) else f"vectors of {reads.inputs} numbers"
