"""Greater-than: a year after another year."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import HarnessError, hookimpl
from harness.data.prompts import Encode, Prompt

from ._prompt_task import Draw, PromptTask, words

EVENTS = words(
    """
    war siege strike journey project trial drought famine voyage campaign dispute treaty crisis festival study conflict
    reign expedition alliance revolt
    """
)
CENTURIES = ("16", "17", "18")
DIGITS = ((2, 1), (2, 2), (3, 1), (0, 4))
"""Digits of the second year before the answer, and those of the answer: what tokenizers write as one token."""


@dataclass(frozen=True)
class GreaterThan(PromptTask):
    r"""The second year is later than the first one: every larger number is right, every smaller one is wrong.

    .. math:: \text{The war lasted from the year 1732 to the year 17} \to \{d: d > 3\}

    The answer is the part of the year that the tokenizer writes as one token: the tens digit (it writes single digits),
    the last two digits, the last digit, or the whole year. Right are all larger values in the same place and wrong all
    smaller ones; the value itself is neither. The counterfactual has a smaller value, at least two below: the lowest
    one that is right there is wrong here.

    Property: ``document``, the event and the century.

    Errors: a subject without a tokenizer; a tokenizer that splits years in none of these ways.
    Source: Hanna et al. 2023; sets of answers by log-sum-exp instead of summed probabilities. Events are the harness's
    own.
    """

    name: ClassVar[str] = "greater_than"

    def drawing(self, encode: Encode) -> Draw:
        before, width = self._digits(encode)
        low = 2 if width < 4 else 0
        high = 10**width - 2 if width < 4 else 98

        def draw(rng: np.random.Generator) -> Prompt:
            event, century = EVENTS[rng.integers(len(EVENTS))], CENTURIES[rng.integers(len(CENTURIES))]
            value = int(rng.integers(max(2, low), high + 1))
            other = int(rng.integers(value - 1))
            rest = "".join(str(digit) for digit in rng.integers(10, size=4))

            def year(number: int) -> str:
                if width == 4:
                    return f"{century}{number:02d}"
                return f"{century}{rest[: before - 2]}{number:0{width}d}{rest}"[:4]

            def answers(numbers: range) -> dict[int, str]:
                texts = [f" {year(number)}" if width == 4 else f"{number:0{width}d}" for number in numbers]
                return {tuple(encode(f"{start}{text}"))[-1]: text for text in texts}

            start = f"The {event} lasted from the year {year(value)} to the year"
            start = start if width == 4 else f"{start} {year(value)[:before]}"
            right, wrong = answers(range(value + 1, high + 2)), answers(range(value))
            unclear = right.keys() & wrong.keys()
            first = next(iter(answers(range(other + 1, other + 2)).values()))
            falls = dict.fromkeys([first, *(text for token, text in wrong.items() if token not in unclear)])
            return Prompt(
                start,
                tuple(text for token, text in right.items() if token not in unclear),
                tuple(falls),
                start.replace(year(value), year(other), 1),
                document=f"{event} {century}",
                where=f"batch {self.name}: '{start}'",
            )

        return draw

    def _digits(self, encode: Encode) -> tuple[int, int]:
        """Which digits of a year are one token each, for every value."""
        for before, width in DIGITS:
            start = f"The war lasted from the year 1752 to the year{' 175'[: before + 1] if before else ''}"
            known, answers = encode(start), set()
            for number in range(100 if width == 4 else 10**width):
                text = f" 17{number:02d}" if width == 4 else f"{number:0{width}d}"
                whole, year = encode(start + text), encode(start + (text if width == 4 else f"{text}00"[: 4 - before]))
                if whole[:-1] != known or year[: len(whole)] != whole:  # a digit alone, and pairs in years
                    break
                answers.add(whole[-1])
            else:
                if len(answers) > 2:
                    return before, width
        raise HarnessError(
            f"batch {self.name}: the subject's tokenizer writes neither one digit, nor two, nor a whole year as one "
            "token after the year's first digits.",
            "Use another task (batch=ioi, batch=agreement), or your own prompts (batch=prompts).",
        )


@hookimpl
def harness_batches() -> list[type[GreaterThan]]:
    return [GreaterThan]
