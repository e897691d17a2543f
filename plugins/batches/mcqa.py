"""Multiple-choice questions whose answer stands in the prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from harness import hookimpl
from harness.data.prompts import Encode, Prompt

from ._prompt_task import Draw, PromptTask, words

LETTERS = "ABCDEFGH"
COLOURS = words("red blue green black white yellow orange purple brown pink grey gold")
THINGS = words("ball box car book bag cup hat house door table chair shirt lamp phone key ring")


@dataclass(frozen=True)
class MCQA(PromptTask):
    r"""A sentence that gives the colour of a thing, and lettered colours: the answer is the letter of that colour.

    .. math:: \text{The box is blue. What colour is the box? A. red B. blue Answer:} \to \text{B}

    The counterfactual exchanges two lines of the choices, so that another letter is right; that is the wrong answer.
    Small models guess: look at the accuracy on the card first.

    Property: ``document``, the thing and its colour.

    Errors: a subject without a tokenizer; fewer colours that are one token than choices.
    Source: the copy-colours task of Mueller et al. 2025 (MIB). Words are the harness's own.
    """

    name: ClassVar[str] = "mcqa"
    choices: Annotated[int, Interval(ge=2, le=len(LETTERS))] = field(default=4, metadata={"help": "lettered answers"})

    def drawing(self, encode: Encode) -> Draw:
        colours = self.one_token("colours", COLOURS, encode, self.choices)

        def draw(rng: np.random.Generator) -> Prompt:
            lines = [colours[i] for i in rng.choice(len(colours), self.choices, replace=False)]
            right, other = (int(place) for place in rng.choice(self.choices, 2, replace=False))
            thing, colour = THINGS[rng.integers(len(THINGS))], lines[right]

            def text(order: list[str]) -> str:
                listed = "\n".join(f"{LETTERS[i]}. {choice}" for i, choice in enumerate(order))
                return f"The {thing} is {colour}. What colour is the {thing}?\n{listed}\nAnswer:"

            exchanged = list(lines)
            exchanged[right], exchanged[other] = lines[other], lines[right]
            return Prompt(
                text(lines),
                (f" {LETTERS[right]}",),
                (f" {LETTERS[other]}",),
                text(exchanged),
                document=f"{thing} {colour}",
                where=f"batch {self.name}: '{thing} {colour}'",
            )

        return draw


@hookimpl
def harness_batches() -> list[type[MCQA]]:
    return [MCQA]
