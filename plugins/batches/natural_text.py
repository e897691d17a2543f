"""Real text in which a token is repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from harness import BatchMethod, Counterfactual, HarnessError, Tokens, Vocabulary, hookimpl, rng_for
from harness.data.corpus import PYTHON, check_text, documents, text_fingerprint
from harness.data.stages import FOR_COUNTERFACTUALS
from harness.data.tokens import BOS_HELP, LOCAL, default_id_range, repeat_anchors, require_positions, with_bos

POOL = 50  # windows found per requested example before reading stops


@dataclass(frozen=True)
class NaturalText(BatchMethod):
    """Windows of real text in which some token T occurs twice, at least ``gap`` tokens apart.

    A window has ``length`` tokens (default: 256, or the subject's context if shorter). With ``bos``, the first of them
    is the tokenizer's BOS token, and the rest is text; the notes of the batch say so. The first token T = ids[i] is
    used that has an id of at least ``min_id``, is followed by a different token S = ids[i + 1] with such an id, and
    occurs again at some k >= i + gap. The latest such k is the query. Each window gives at most one example.
    ``windows=first`` uses only the beginning of each document, as the paper does; ``windows=all`` cuts a document into
    consecutive windows.

    ``target=next_token`` is the token that follows the query. ``target=repeat`` is the paper's target: S, the successor
    of the *first* T. The trap: S is usually not the next token, so a better model can have a higher loss.

    The counterfactual of an example (for patching and logit_difference) takes its context from another example: the
    other window up to the query position, then the example's own token at the query. So nothing in the context supports
    the answer. Its target is the other example's target; two examples may share it. Every example lends its context
    once, along a random ring. A batch of one example has no counterfactual.

    ``text`` is ``python-docs`` (the documentation of the running Python), a text file, a folder of ``.txt`` and ``.md``
    files, or a Hugging Face dataset with a column ``text``: its name, a file (.jsonl, .json, .csv, .tsv, .parquet,
    .arrow) or a folder of such files (streamed; needs the extra ``datasets``). Text is UTF-8, or UTF-16 or UTF-32 with
    a byte-order mark. Every file is a document; a form feed starts another one. If there are more than ``n`` windows,
    ``seed`` draws which are used. The property ``document`` of an example is the number of its document.

    Errors: a text with fewer than ``n`` examples; a subject without a tokenizer; a text that does not exist, or is not
    text (:func:`harness.data.corpus.check_text`); a length that is not above ``gap``.
    Source: the natural batch of the closure paper, as its script makes it (n=2000, length 256, ids >= 100, gap 21,
    first windows, target repeat).
    """

    name: ClassVar[str] = "natural_text"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_COUNTERFACTUALS
    n: Annotated[int, Ge(1)] = field(default=512, metadata={"help": "number of examples; the paper uses 2000"})
    length: int | None = field(default=None, metadata={"help": "tokens per window; null: 256, or the context"})
    target: Literal["repeat", "next_token"] = field(
        default="next_token", metadata={"help": "the token that should come; the paper uses repeat"}
    )
    text: str = field(default=PYTHON, metadata={"help": "python-docs, a file, a folder, or the name of a dataset"})
    split: str = field(default="train", metadata={"help": "split of a dataset"})
    windows: Literal["first", "all"] = field(default="all", metadata={"help": "windows used per document"})
    gap: Annotated[int, Ge(int(LOCAL.max()))] = field(
        default=21, metadata={"help": "smallest distance of the second T from the first; local heads look back up to 5"}
    )
    min_id: int | None = field(
        default=None, metadata={"help": "smallest id of T and S; null: 100, or less in a small vocabulary"}
    )
    seed: int | None = field(  # type: ignore[assignment]  # the contract's seed cannot be null
        default=0, metadata={"help": "seed of the draw of windows; null: the first n windows"}
    )
    bos: bool | None = field(default=None, metadata={"help": BOS_HELP, "added": True})

    def __post_init__(self) -> None:
        if self.length is not None and self.length <= self.gap:
            raise HarnessError(
                f"batch.length={self.length}: a window must be longer than the gap of {self.gap} tokens.",
                f"Use batch.length={self.gap + 1} or more, or a smaller batch.gap.",
            )

    def fingerprint(self) -> str:
        """Python's documentation by version, files by content, a dataset by its name (``name@revision`` fixes it)."""
        return text_fingerprint(self.text)

    def check_files(self) -> None:
        """The text is there, and is text."""
        check_text(self.text)

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        if vocabulary.encode is None:
            raise HarnessError(
                "batch natural_text needs a tokenizer, and this subject has none.",
                "Use a batch without text: batch=random_repeat",
            )
        smaller_gap = f", or batch.gap={vocabulary.context - 1}" if vocabulary.context > LOCAL.max() else ""
        require_positions(self.name, self.gap + 1, vocabulary, smaller_gap)
        length = self.length if self.length is not None else min(256, vocabulary.context)
        min_id = self.min_id if self.min_id is not None else default_id_range(vocabulary.vocab_size)[0]
        bos, said = vocabulary.bos(self.bos)
        text = length - (bos is not None)
        ahead = 1 if self.target == "next_token" else 0
        examples = []
        for place, document in enumerate(documents(self.text, self.split)):
            ids = np.array(vocabulary.encode(document), dtype=np.int64)
            starts = range(0, len(ids) - text + 1, text)
            for start in starts if self.windows == "all" else starts[:1]:
                window = ids[start : start + text]
                places = self._find(window, min_id)
                if places is not None and start + places[1] + ahead < len(ids):
                    target = ids[start + places[1] + 1] if ahead else window[places[0] + 1]
                    examples.append((window, *places, int(target), place))
            if len(examples) >= self.n * (1 if self.seed is None else POOL):  # do not read a whole dataset
                break
        total = len(examples)
        if total < self.n:
            raise HarnessError(
                f"batch natural_text: '{self.text}' gives {total} examples of {length} tokens; "
                f"{self.n} were requested.",
                f"An example needs a token that occurs again at least {self.gap} tokens later. "
                "Give more text, or shorter windows (batch.length)"
                + (f", or use batch.n={total}." if total > 1 else "."),
            )
        order = np.arange(total) if self.seed is None else rng_for(self.seed, "windows").permutation(total)
        notes = {"length": length, "min_id": min_id, "text": self.text, "bos": said}
        return with_bos(self._batch([examples[i] for i in np.sort(order[: self.n])], notes), bos)

    def _find(self, window: np.ndarray, min_id: int) -> tuple[int, int] | None:
        """The position of the first T that qualifies, and its last occurrence."""
        last = {int(token): place for place, token in enumerate(window)}
        for i in range(len(window) - 1):
            t, s = int(window[i]), int(window[i + 1])
            if min(t, s) >= min_id and t != s and last[t] >= i + self.gap:
                return i, last[t]
        return None

    def _batch(self, examples: list[tuple[np.ndarray, int, int, int, int]], notes: Mapping[str, Any]) -> Tokens:
        tokens = np.stack([window for window, *_ in examples])
        first, query, target, document = (np.array([example[part] for example in examples]) for part in (1, 2, 3, 4))
        anchors = repeat_anchors(first, query)
        counterfactual = self._counterfactual(tokens, query, target) if self.n > 1 else None
        groups = {"document": document}
        return Tokens(self.name, tokens, query, target, anchors, self.target, notes, counterfactual, groups)

    def _counterfactual(self, tokens: np.ndarray, query: np.ndarray, target: np.ndarray) -> Counterfactual:
        """Each example in the context of another. Windows are full, so positions after a query contain text as well."""
        ring = rng_for(self.seed or 0, "twins").permutation(self.n)
        other = np.empty_like(ring)
        other[ring] = np.roll(ring, -1)
        before = np.arange(tokens.shape[1]) < query[:, None]
        return Counterfactual(np.where(before, tokens[other], tokens), target[other])


@hookimpl
def harness_batches() -> list[type[NaturalText]]:
    return [NaturalText]
