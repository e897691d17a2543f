"""Subject-verb agreement across a noun of the other number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import HarnessError, hookimpl
from harness.data.prompts import Encode, Prompt

from ._prompt_task import Draw, PromptTask, token_of, words

NOUNS = words(
    """
    key cabinet author book doctor car teacher house student tree picture wall friend window report table road bridge
    river town letter desk lawyer judge farmer field door garden lamp chair player driver truck
    """
)
BETWEEN = ("of", "near", "behind", "beside", "from")
VERBS = (("is", "are"), ("was", "were"), ("has", "have"))
FEWEST = 4


@dataclass(frozen=True)
class Agreement(PromptTask):
    r"""A verb that agrees with its subject, and not with the noun of the other number between them.

    .. math:: \text{The keys near the cabinet} \to \{\text{are}, \text{were}, \text{have}\}

    Right are the verbs of the subject's number, wrong those of the other one: is, was, has, and are, were, have, as far
    as both of a pair are one token. The counterfactual has the subject in the other number, and the same noun between.
    Nouns are words of which both numbers are one token after a space.

    Anchors: ``subject``, ``attractor`` (the noun between). Property: ``document``, the two nouns.

    Errors: a subject without a tokenizer; a tokenizer without a pair of verbs, or fewer than 4 of the nouns.
    Source: Linzen et al. 2016; minimal pairs of Marvin & Linzen 2018. Words are the harness's own.
    """

    name: ClassVar[str] = "agreement"

    def drawing(self, encode: Encode) -> Draw:
        plural = set(self.one_token("nouns", (f"{noun}s" for noun in NOUNS), encode, FEWEST))
        nouns = [noun for noun in self.one_token("nouns", NOUNS, encode, FEWEST) if f"{noun}s" in plural]
        known = set(self.one_token("verbs", (verb for pair in VERBS for verb in pair), encode, 2))
        verbs = [pair for pair in VERBS if known.issuperset(pair)]
        if not verbs or len(nouns) < FEWEST:
            raise HarnessError(
                f"batch {self.name} needs {FEWEST} nouns and a pair of verbs of which both numbers are one token; the "
                f"subject's tokenizer has {len(nouns)} nouns and {len(verbs)} pairs.",
                "Use a subject with a larger vocabulary, or your own prompts (batch=prompts).",
            )

        def draw(rng: np.random.Generator) -> Prompt:
            subject, attractor = (nouns[i] for i in rng.choice(len(nouns), 2, replace=False))
            number, between = int(rng.integers(2)), BETWEEN[rng.integers(len(BETWEEN))]

            def text(of: int) -> str:
                return f"The {subject}{'s' * of} {between} the {attractor}{'s' * (1 - number)}"

            right, wrong = (tuple(f" {pair[of]}" for pair in verbs) for of in (number, 1 - number))
            clean = text(number)
            places = {
                "subject": token_of(f"{subject}{'s' * number}", clean, encode),
                "attractor": token_of(f"{attractor}{'s' * (1 - number)}", clean, encode, last=True),
            }
            where = f"batch {self.name}: '{clean}'"
            return Prompt(clean, right, wrong, text(1 - number), places, f"{subject} {attractor}", where)

        return draw


@hookimpl
def harness_batches() -> list[type[Agreement]]:
    return [Agreement]
