"""Prompts from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from harness import BatchMethod, HarnessError, Tokens, Vocabulary, hookimpl, rng_for
from harness.data.prompt_files import FORMS, fingerprint, read_prompts
from harness.data.prompts import Prompt, Writer
from harness.data.stages import FOR_ANSWERS
from harness.data.tokens import BOS_HELP


@dataclass(frozen=True)
class Prompts(BatchMethod):
    r"""Prompts with right and wrong answers from a file: JSONL, JSON or CSV.

    .. math:: \text{clean} \to a \in \text{answers}, \qquad \text{counterfactual} \to w \in \text{wrong answers}

    A row has ``clean`` and ``answers``, and if there are: ``counterfactual``, ``wrong_answers``, ``positions`` (name ->
    token of the prompt, without BOS, which become anchors) and ``document`` (rows of one document are resampled
    together). Prompts are text or lists of token ids, answers are texts or token ids; one or several of each.

    Columns of other projects are recognised, and the notes of the batch name the form. EAP-IG: ``clean, corrupted``
    and ``label`` ([right, wrong]) or ``correct_idx, incorrect_idx`` (token ids, so they belong to one tokenizer).
    auto-circuit: ``{"prompts": [{clean, corrupt, answers, wrong_answers}], "word_idxs"}``. MIB: ``prompt, choices,
    answerKey`` and ``NAME_counterfactual``; its answers get the space that separates them from the prompt; wrong are
    the other choices or, of lettered choices, the counterfactual's letter. ``counterfactual`` names the column, where
    there are several.

    The query is the last token of the prompt, and one token is read there. An answer of several tokens is refused, or
    with ``first_token`` its first token counts; the notes of the batch say for how many. A counterfactual has as many
    tokens as its prompt; with ``pad``, this token is put before the shorter one.

    Without counterfactuals and wrong answers, use ``metric=[log_odds,accuracy]``.

    Errors, by row: lengths that differ, with the tokens that differ; a counterfactual equal to its prompt, or without a
    wrong answer; an answer of several tokens, of none, that continues the prompt's last word, or is right and wrong;
    columns of no known form. Text, for a subject without a tokenizer.
    Source: Hanna et al. 2024 (EAP-IG); Miller et al. 2024 (auto-circuit); Mueller et al. 2025 (MIB).
    """

    name: ClassVar[str] = "prompts"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_ANSWERS
    length = 32  # about as many tokens, for forecasts
    path: str = field(default="", metadata={"help": "file of prompts: .jsonl, .json, .csv, .tsv", "by_content": True})
    n: Annotated[int, Ge(1)] | None = field(default=None, metadata={"help": "number of prompts; null: all"})
    counterfactual: str = field(default="", metadata={"help": "column of the counterfactual, where there are several"})
    pad: Annotated[int, Ge(0)] | None = field(
        default=None, metadata={"help": "token put before the shorter of prompt and counterfactual; null: refuse"}
    )
    first_token: bool = field(default=False, metadata={"help": "of longer answers, the first token counts"})
    seed: int = field(default=0, metadata={"help": "seed of the draw of n prompts"})
    bos: bool | None = field(default=None, metadata={"help": BOS_HELP})

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        form, prompts = self._read()
        if self.n is not None and self.n > len(prompts):
            raise HarnessError(
                f"batch.n={self.n}: {self.path} has {len(prompts)} prompts.", f"Use batch.n={len(prompts)} or less."
            )
        if self.n is not None:
            drawn = rng_for(self.seed, "prompts").permutation(len(prompts))[: self.n]
            prompts = [prompts[row] for row in np.sort(drawn)]
        writer = Writer(vocabulary, self.pad, self.first_token)
        return writer.batch(self.name, prompts, self.bos, {"form": form})

    def fingerprint(self) -> str:
        """Digest of the file's content. Empty: there is no file."""
        return fingerprint(self.path)

    def check_files(self) -> None:
        """The file has prompts."""
        self._read()

    def _read(self) -> tuple[str, list[Prompt]]:
        if not self.path:
            raise HarnessError("batch prompts: no file is given. Example: batch.path=ioi.jsonl", FORMS)
        return read_prompts(self.path, self.counterfactual)


@hookimpl
def harness_batches() -> list[type[Prompts]]:
    return [Prompts]
