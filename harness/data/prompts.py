"""Prompts with right and wrong answers, and how they become a batch in a subject's tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.data.answers import Answers
from harness.data.batch import Counterfactual, Vocabulary
from harness.data.tokens import FIRST, Tokens, with_bos
from harness.util.errors import HarnessError

Encode = Callable[[str], list[int]]
Words = str | tuple[int, ...]
"""Text, or token ids."""
Answer = str | int
"""The text that follows a prompt, or its token id."""
CONTINUATION = "continuation"
"""The kind of target."""


@dataclass(frozen=True)
class Prompt:
    """An example: ``clean`` is continued by an answer, ``counterfactual`` by a wrong one.

    ``answers`` and ``wrong``: one or more each; of a counterfactual, the first wrong answer is its own. ``places``:
    named positions of tokens in ``clean``. ``document``: prompts of one document are alike, and are resampled together.
    ``where``: for errors.
    """

    clean: Words
    answers: tuple[Answer, ...]
    wrong: tuple[Answer, ...] = ()
    counterfactual: Words | None = None
    places: Mapping[str, int] = field(default_factory=dict)
    document: str | None = None
    where: str = ""

    def refused(self, why: str, fix: str) -> HarnessError:
        """The error of this prompt."""
        return HarnessError(f"{self.where}: {why}", fix)


@dataclass(frozen=True)
class Writer:
    """Writes prompts in a subject's tokens.

    ``pad``: the token that is put before the shorter one of a prompt and its counterfactual; None: a refusal.
    ``first_token``: of an answer of several tokens, the first one counts; otherwise it is refused.
    """

    vocabulary: Vocabulary
    pad: int | None = None
    first_token: bool = False

    def batch(
        self, name: str, prompts: Sequence[Prompt], bos: bool | None = None, notes: Mapping[str, Any] | None = None
    ) -> Tokens:
        """The batch of these prompts. The query is the last token of each.

        There are sets of answers where a prompt has several right or wrong ones, or wrong ones and no counterfactual.
        Token ids get no BOS token unless it is asked for.

        Errors: some prompts have a counterfactual or wrong answers and others have none; a counterfactual without a
        wrong answer, equal to its prompt, or of another length; an answer of several tokens, or one that is right and
        wrong; text, where the subject has no tokenizer.
        """
        _all_or_none(prompts)
        written = [self._written(prompt) for prompt in prompts]
        padded = sum(each.padded for each in written)
        right, wrong = [each.right for each in written], [each.wrong for each in written]
        query = np.array([len(each.clean) - 1 for each in written])
        target = np.array([answers[0] for answers in right])
        counterfactual, answers = None, None
        if prompts[0].counterfactual is not None:
            counterfactual = Counterfactual(
                _rows([each.counterfactual for each in written]), np.array([answers[0] for answers in wrong])
            )
        if prompts[0].wrong and (counterfactual is None or max(map(len, (*right, *wrong))) > 1):
            answers = Answers.of(right, wrong)
        named = [name for name in prompts[0].places if all(name in prompt.places for prompt in prompts)]
        anchors = {
            **{name: np.array([[each.places[name]] for each in written]) for name in named},
            "previous-token": np.maximum(query - 1, 0)[:, None],
            FIRST: np.zeros((len(query), 1), dtype=np.int64),
            "self": query[:, None],
        }
        groups = {}
        if all(prompt.document is not None for prompt in prompts):
            groups["document"] = np.array([str(prompt.document) for prompt in prompts])
        ids = isinstance(prompts[0].clean, tuple)
        token, said = self.vocabulary.bos(bos if bos is not None or not ids else False)
        about = {
            **(notes or {}),
            "length": int(query.max()) + 1 + (token is not None),
            "bos": said,
            "first_tokens": sum(each.cut for each in written),
            **({"padded": padded, "pad": self.pad} if self.pad is not None else {}),
        }
        tokens = _rows([each.clean for each in written])
        batch = Tokens(name, tokens, query, target, anchors, CONTINUATION, about, counterfactual, groups, answers)
        return with_bos(batch, token)

    def _written(self, prompt: Prompt) -> _Written:
        clean = self._ids(prompt, prompt.clean)
        if not clean:
            raise prompt.refused("the prompt is empty.", "Give a text of one token or more.")
        if outside := [name for name, place in prompt.places.items() if not 0 <= place < len(clean)]:
            raise prompt.refused(
                f"the position of '{outside[0]}' is {prompt.places[outside[0]]}; the prompt has {len(clean)} tokens.",
                f"Positions run from 0 to {len(clean) - 1}: tokens of the prompt, without BOS.",
            )
        right, cut_right = self._answers(prompt, clean, prompt.answers)
        wrong, cut_wrong = self._answers(prompt, clean, prompt.wrong)
        if both := set(right) & set(wrong):
            raise prompt.refused(
                f"{self._shown([min(both)])} is a right answer and a wrong one"
                + (", because both begin with this token." if cut_right + cut_wrong else "."),
                "Give answers that differ in their first token.",
            )
        written = _Written(tuple(clean), right, wrong, dict(prompt.places), cut=cut_right + cut_wrong)
        if prompt.counterfactual is None:
            return written
        if not wrong:
            raise prompt.refused(
                "it has a counterfactual and no wrong answer.", "Give the counterfactual's answer as a wrong answer."
            )
        other = self._ids(prompt, prompt.counterfactual)
        if other == clean:
            raise prompt.refused(
                "the counterfactual has the same tokens as the prompt.", "Change what the answer depends on."
            )
        return self._aligned(prompt, written, tuple(other))

    def _aligned(self, prompt: Prompt, written: _Written, other: tuple[int, ...]) -> _Written:
        """A prompt and its counterfactual of the same length."""
        clean, missing = written.clean, len(other) - len(written.clean)
        if missing and self.pad is None:
            start = _alike(clean, other)
            end = _alike(clean[start:][::-1], other[start:][::-1])
            parts = [self._shown(ids[start : len(ids) - end]) for ids in (clean, other)]
            raise prompt.refused(
                f"the prompt has {len(clean)} tokens and its counterfactual {len(other)}; they differ in "
                f"{parts[0]} and {parts[1]}.",
                "Choose words of as many tokens, or state a token to put before the shorter one: batch.pad=0",
            )
        front = (self.pad or 0,) * abs(missing)
        clean, other = (front + clean, other) if missing > 0 else (clean, front + other)
        places = {name: place + max(missing, 0) for name, place in written.places.items()}
        return replace(written, clean=clean, counterfactual=other, places=places, padded=bool(missing))

    def _ids(self, prompt: Prompt, words: Words) -> list[int]:
        if not isinstance(words, str):
            return list(words)
        if self.vocabulary.encode is None:
            raise prompt.refused(
                "it is text, and this subject has no tokenizer.",
                "Give token ids, or choose a subject with a tokenizer.",
            )
        return self.vocabulary.encode(words)

    def _answers(self, prompt: Prompt, clean: Sequence[int], answers: Sequence[Answer]) -> tuple[tuple[int, ...], int]:
        """The token of every answer, each once, and how many answers have more than one token."""
        found: dict[int, None] = {}
        cut = 0
        for answer in answers:
            tokens = [answer] if isinstance(answer, int) else self._continuation(prompt, clean, answer)
            if len(tokens) > 1 and not self.first_token:
                raise prompt.refused(
                    f"the answer {answer!r} is {len(tokens)} tokens, {self._shown(tokens)}; one position is read.",
                    "Use answers of one token, or let the first token of each answer count: batch.first_token=true",
                )
            cut += len(tokens) > 1
            found[tokens[0]] = None
        return tuple(found), cut

    def _continuation(self, prompt: Prompt, clean: Sequence[int], answer: str) -> list[int]:
        """The tokens of an answer after its prompt. Errors: it is not a continuation."""
        if isinstance(prompt.clean, tuple):
            tokens = self._ids(prompt, answer)
        else:
            if prompt.clean[-1:].isalpha() and answer[:1].isalpha():
                raise prompt.refused(
                    f"the answer {answer!r} would continue the last word of the prompt, '{prompt.clean.split()[-1]}'.",
                    f"Begin it with a space: {' ' + answer!r}",
                )
            whole = self._ids(prompt, prompt.clean + answer)
            if whole[: len(clean)] != list(clean):
                raise prompt.refused(
                    f"the tokenizer joins the answer {answer!r} with the end of the prompt.",
                    "End the prompt without a space and begin the answer with one, or give token ids.",
                )
            tokens = whole[len(clean) :]
        if not tokens:
            raise prompt.refused(f"the answer {answer!r} has no tokens.", "Give a word of one token.")
        return tokens

    def _shown(self, ids: Sequence[int]) -> str:
        decode = self.vocabulary.decode
        return " ".join(repr(decode([token])) if decode else str(token) for token in ids) or "nothing"


@dataclass(frozen=True)
class _Written:
    clean: tuple[int, ...]
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    places: Mapping[str, int]
    cut: int
    counterfactual: tuple[int, ...] = ()
    padded: bool = False


def _alike(first: Sequence[int], second: Sequence[int]) -> int:
    """With how many equal tokens both begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))


def _rows(prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """Right-padded: what follows the query is never read."""
    tokens = np.zeros((len(prompts), max(map(len, prompts))), dtype=np.int64)
    for row, ids in enumerate(prompts):
        tokens[row, : len(ids)] = ids
    return tokens


def _all_or_none(prompts: Sequence[Prompt]) -> None:
    """Errors: no prompts; a prompt without a right answer; a part that some have and others have not."""
    if not prompts:
        raise HarnessError("there are no prompts.", "Give at least one.")
    parts: Mapping[str, Callable[[Prompt], bool]] = {
        "counterfactual": lambda prompt: prompt.counterfactual is not None,
        "wrong answer": lambda prompt: bool(prompt.wrong),
        "text": lambda prompt: isinstance(prompt.clean, str),
    }
    for prompt in prompts:
        if not prompt.answers:
            raise prompt.refused("it has no right answer.", "Give one or more: answers")
        for part, has in parts.items():
            if has(prompt) != has(prompts[0]):
                without, other = (prompt, prompts[0]) if has(prompts[0]) else (prompts[0], prompt)
                raise without.refused(
                    f"it has no {part}, and {other.where} has one.", f"Give a {part} to all prompts, or to none."
                )
