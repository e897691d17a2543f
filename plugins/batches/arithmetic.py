"""Addition of two numbers, after solved examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Interval

from harness import HarnessError, hookimpl
from harness.data.prompts import Encode, Prompt

from ._prompt_task import Draw, PromptTask


@dataclass(frozen=True)
class Arithmetic(PromptTask):
    r"""A sum, after a few solved ones.

    .. math:: \text{2 + 5 = 7} \quad \text{3 + 4 =} \to 7

    The counterfactual has another second number, and so another sum, which is the wrong answer. Sums go up to
    ``largest``; every sum must be one token (the tokenizers of small models write single digits). The solved examples
    are the same in a prompt and its counterfactual. Small models guess: look at the accuracy on the card first.

    Property: ``document``, the first number.

    Errors: a subject without a tokenizer; a sum that is several tokens.
    Source: the arithmetic task of Mueller et al. 2025 (MIB), with solved examples.
    """

    name: ClassVar[str] = "arithmetic"
    largest: Annotated[int, Interval(ge=3, le=999)] = field(default=9, metadata={"help": "largest sum"})
    shots: Annotated[int, Ge(0)] = field(default=4, metadata={"help": "solved examples before the question"})

    def drawing(self, encode: Encode) -> Draw:
        between = self._between(encode)

        def draw(rng: np.random.Generator) -> Prompt:
            firsts = rng.integers(1, self.largest, self.shots)
            seconds = rng.integers(1, self.largest - firsts + 1)
            lines = "".join(f"{x} + {y} = {x + y}\n" for x, y in zip(firsts, seconds, strict=True))
            a = int(rng.integers(1, self.largest - 1))
            b, other = (int(number) for number in rng.choice(np.arange(1, self.largest - a + 1), 2, replace=False))

            def text(second: int) -> str:
                return f"{lines}{a} + {second} ={between}"

            answers = [" " * (1 - len(between)) + str(a + second) for second in (b, other)]
            where = f"batch {self.name}: '{a} + {b}'"
            return Prompt(text(b), (answers[0],), (answers[1],), text(other), document=str(a), where=where)

        return draw

    def _between(self, encode: Encode) -> str:
        """The space before an answer: in the prompt if the tokenizer separates it from numbers."""
        for between in ("", " "):
            start = encode(f"1 + 1 ={between}")
            texts = [f"1 + 1 ={between}{' ' * (1 - len(between))}{number}" for number in range(2, self.largest + 1)]
            if all(encode(text)[:-1] == start for text in texts):
                return between
        raise HarnessError(
            f"batch.largest={self.largest}: the subject's tokenizer writes some sum as several tokens.",
            "Use batch.largest=9, or your own prompts (batch=prompts).",
        )


@hookimpl
def harness_batches() -> list[type[Arithmetic]]:
    return [Arithmetic]
