"""Indirect object identification: the name that occurs once is the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import hookimpl
from harness.data.prompts import Encode, Prompt

from ._prompt_task import Draw, PromptTask, token_of, words

NAMES = words(
    """
    Mary John James David Michael Robert William Sarah Anna Laura Emma Alice Kate Jane Paul Mark Peter George Tom Jack
    Daniel Thomas Henry Charles Simon Adam Kevin Brian Steven Andrew Edward Richard Lisa Karen Susan Linda Helen Rachel
    Julia Maria Martin Frank Jason Ryan Eric Scott Alex Sam Max Ben
    """
)
PLACES = words("store park school office station hospital garden market library restaurant")
THINGS = words("book drink letter ring ball key gift map bag phone")
FRAMES = (
    "When {0} and {1} went to the {place}, {2} gave a {thing} to",
    "After {0} and {1} had met at the {place}, {2} handed a {thing} to",
    "While {0} and {1} were waiting at the {place}, {2} showed a {thing} to",
    "Then, {0} and {1} had a long argument at the {place}. Afterwards {2} offered a {thing} to",
    "Yesterday, {0} and {1} were working at the {place}. In the evening {2} passed a {thing} to",
)
FEWEST = 6


@dataclass(frozen=True)
class IOI(PromptTask):
    r"""Two names, then the subject again: the answer is the other name.

    .. math:: \text{When Mary and John went to the store, John gave a drink to} \to \text{Mary}

    In half of the prompts the subject comes second (ABBA: IO, S, S), in the other half first (BABA: S, IO, S). Names
    are words that the tokenizer writes as one token after a space. The counterfactual repeats the other name instead:
    the same prompt with another S2, whose answer is the subject.

    Anchors: ``IO``, ``S1``, ``S2`` (the subject's second occurrence). Property: ``document``, the sentence without its
    names.

    Errors: a subject without a tokenizer; fewer than 6 of the names are one token.
    Source: Wang et al. 2023. Templates and names are the harness's own; the counterfactual is MIB's ``s2_io_flip``.
    """

    name: ClassVar[str] = "ioi"

    def drawing(self, encode: Encode) -> Draw:
        names = self.one_token("names", NAMES, encode, FEWEST)

        def draw(rng: np.random.Generator) -> Prompt:
            answer, subject = (names[i] for i in rng.choice(len(names), 2, replace=False))
            frame, place, thing = (choices[rng.integers(len(choices))] for choices in (FRAMES, PLACES, THINGS))
            pair = (answer, subject) if rng.integers(2) else (subject, answer)

            def text(third: str) -> str:
                return frame.format(*pair, third, place=place, thing=thing)

            clean = text(subject)
            return Prompt(
                clean,
                (f" {answer}",),
                (f" {subject}",),
                text(answer),
                {
                    "IO": token_of(answer, clean, encode),
                    "S1": token_of(subject, clean, encode),
                    "S2": token_of(subject, clean, encode, last=True),
                },
                f"{FRAMES.index(frame)} {place} {thing}",
                f"batch {self.name}: '{clean}'",
            )

        return draw


@hookimpl
def harness_batches() -> list[type[IOI]]:
    return [IOI]
