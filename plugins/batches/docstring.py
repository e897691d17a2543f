"""Docstring completion: the next argument of a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import hookimpl
from harness.data.prompts import Encode, Prompt

from ._prompt_task import Draw, PromptTask, token_of, words

ARGUMENTS = words(
    """
    size name file path value index count length width height color text data key user line start end date time label
    state node page table order price mode level group
    """
)
FUNCTIONS = words("load update process create check build parse apply")
NOUNS = words(
    """
    result number kind list source target total limit answer message report window image center market river
    """
)
FEWEST = 8


@dataclass(frozen=True)
class Docstring(PromptTask):
    r"""A Python function and the beginning of its docstring: the answer is the next argument.

    .. math:: \text{def load(self, x, y, a, b, c, z): ... :param a: ... :param b: ... :param} \to c

    The counterfactual exchanges c and z in the definition, so that its answer is z; nothing else differs, and both
    prompts contain the same words. A model that repeats any argument is right in half of the prompts. Arguments are
    words that the tokenizer writes as one token after a space.

    Anchors: ``argument`` (c in the definition), ``previous-argument`` (b in the definition) and ``documented`` (b in
    the docstring). Property: ``document``, the function and the described nouns.

    Errors: a subject without a tokenizer; fewer than 8 of the arguments are one token.
    Source: Heimersheim & Janiak 2023. Words and the counterfactual are the harness's own.
    """

    name: ClassVar[str] = "docstring"

    def drawing(self, encode: Encode) -> Draw:
        arguments = self.one_token("arguments", ARGUMENTS, encode, FEWEST)

        def draw(rng: np.random.Generator) -> Prompt:
            x, y, a, b, c, z = (arguments[i] for i in rng.choice(len(arguments), 6, replace=False))
            function = FUNCTIONS[rng.integers(len(FUNCTIONS))]
            first, second, third = (NOUNS[i] for i in rng.choice(len(NOUNS), 3, replace=False))

            def text(fifth: str, sixth: str) -> str:
                return (
                    f"def {function}(self, {x}, {y}, {a}, {b}, {fifth}, {sixth}):\n"
                    f'    """{function} the {first}\n\n    :param {a}: the {second}\n    :param {b}: the {third}\n'
                    "    :param"
                )

            clean = text(c, z)
            return Prompt(
                clean,
                (f" {c}",),
                (f" {z}",),
                text(z, c),
                {
                    "argument": token_of(c, clean, encode),
                    "previous-argument": token_of(b, clean, encode),
                    "documented": token_of(b, clean, encode, last=True),
                },
                f"{function} {first} {second} {third}",
                f"batch {self.name}: '{clean.splitlines()[0]}'",
            )

        return draw


@hookimpl
def harness_batches() -> list[type[Docstring]]:
    return [Docstring]
