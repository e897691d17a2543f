"""What tasks in text share: how many different prompts are drawn, of words that are one token."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from harness import BatchMethod, HarnessError, Tokens, Vocabulary, rng_for
from harness.data.prompts import Encode, Prompt, Writer
from harness.data.stages import FOR_ANSWERS
from harness.data.tokens import BOS_HELP

TRIES = 100
"""Draws per requested prompt: equal prompts are drawn again."""
Draw = Callable[[np.random.Generator], Prompt]


@dataclass(frozen=True)
class PromptTask(BatchMethod):
    """A task whose prompts are drawn. Each prompt occurs once."""

    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_ANSWERS
    length = 32  # about as many tokens, for forecasts
    n: Annotated[int, Ge(1)] = field(default=128, metadata={"help": "number of examples, all different"})
    seed: int = field(default=0, metadata={"help": "seed of every draw"})
    bos: bool | None = field(default=None, metadata={"help": BOS_HELP})

    @abstractmethod
    def drawing(self, encode: Encode) -> Draw:
        """How a prompt is drawn, in words that are one token each. Errors: the tokenizer has too few of them."""

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        if vocabulary.encode is None:
            raise HarnessError(
                f"batch {self.name} needs a tokenizer, and this subject has none.",
                "Use a batch without text: batch=random_repeat",
            )
        draw, rng = self.drawing(vocabulary.encode), rng_for(self.seed, self.name)
        found: dict[object, Prompt] = {}
        for _ in range(TRIES * self.n):
            prompt = draw(rng)
            found.setdefault(prompt.clean, prompt)
            if len(found) == self.n:
                return Writer(vocabulary).batch(self.name, list(found.values()), self.bos)
        raise HarnessError(
            f"batch.n={self.n}: {len(found)} different prompts of batch {self.name} were found in the words that are "
            "one token of this tokenizer.",
            f"Use batch.n={len(found)} or less.",
        )

    def one_token(self, what: str, words: Iterable[str], encode: Encode, fewest: int) -> list[str]:
        """The words that are one token after a space, each another one. Errors: fewer than ``fewest``."""
        words, start, found = list(words), encode("The"), dict[int, str]()
        for word in words:
            tokens = encode(f"The {word}")
            if tokens[:-1] == start and len(tokens) > 1:
                found.setdefault(tokens[-1], word)
        if len(found) < fewest:
            raise HarnessError(
                f"batch {self.name} needs {fewest} {what} that are one token each; the subject's tokenizer has "
                f"{len(found)} of {len(words)} ({words[0]} is {len(encode(f'The {words[0]}')) - len(start)}).",
                "Use a subject with a larger vocabulary, a task without words (batch=random_repeat), or your own "
                "prompts (batch=prompts).",
            )
        return list(found.values())


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


def token_of(word: str, text: str, encode: Encode, last: bool = False) -> int:
    """The position of the token that ends the first (or last) occurrence of a whole word in a text."""
    places = [match.end() for match in re.finditer(rf"\b{re.escape(word)}\b", text)]
    return len(encode(text[: places[-1 if last else 0]])) - 1
