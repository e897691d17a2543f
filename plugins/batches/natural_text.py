"""Text in which a token comes back: what followed it first, or what really comes next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from harness import Batch, Counterfactual, HarnessError, Vocabulary, hookimpl, rng_for
from harness.data.batch import LOCAL, default_id_range, repeat_anchors
from harness.data.corpus import PYTHON, documents, text_fingerprint

POOL = 50  # windows found per example wanted, before the rest of a text is left unread


@dataclass(frozen=True)
class NaturalText:
    """Windows of real text in which some token T occurs twice, at least ``gap`` tokens apart.

    A window is ``length`` tokens (none: 256, or the subject's context). In it, the first T = ids[i], followed by
    S = ids[i + 1], both with ids of at least ``min_id``, T different from S, that occurs again at some k >= i + gap;
    the latest such k is the query. One example per window; windows without one are passed over. ``windows=first`` takes
    only the beginning of each document, as the paper does; ``all`` cuts a document into consecutive windows.

    ``target``: ``repeat`` is the paper's: S, the successor of the *first* T, which usually is not what comes next, so
    that a better model can have a higher loss; ``next_token`` is the token that really follows the query.

    The counterfactual of an example (for patching and logit_difference) has the context of another one: that window up
    to our query, then our own token at the query, so that T is asked about where nothing speaks for the answer. Its
    answer (which no token of it decides) is the other example's target, what that context would lead to had it been
    asked; two examples may share it. Every example lends its context once, by a ring drawn by ``seed``. A single
    example has no counterfactual.

    ``text``: ``python-docs`` (the running Python's documentation), a text file, a folder of ``.txt`` / ``.md`` files (a
    file is a document; a form feed in it begins another), or a Hugging Face dataset with a column ``text``, by its name
    or as a folder of data files (streamed; needs the extra ``datasets``). Which windows are taken, where there are more
    than ``n``, is drawn by ``seed``.

    Errors: a text that gives fewer than ``n`` examples, a subject without a tokenizer, a text that is not there.
    Source: the closure paper's natural batch, as its script makes it (n=2000, length 256, ids >= 100, gap 21, first
    windows, target repeat).
    """

    name: ClassVar[str] = "natural_text"
    n: int = field(default=512, metadata={"help": "examples; the paper has 2000"})
    length: int | None = field(default=None, metadata={"help": "tokens per window"})
    target: Literal["repeat", "next_token"] = field(default="next_token", metadata={"help": "repeat is the paper's"})
    text: str = field(default=PYTHON, metadata={"help": "python-docs, a file, a folder, or a dataset's name"})
    split: str = field(default="train", metadata={"help": "of a dataset"})
    windows: Literal["first", "all"] = field(default="all", metadata={"help": "per document"})
    gap: int = field(default=21, metadata={"help": "least distance of the second T from the first"})
    min_id: int | None = field(default=None, metadata={"help": "ids below are no T or S; none: 100, less if few ids"})
    seed: int | None = field(default=0, metadata={"help": "draws the windows; none: the first n"})

    def __post_init__(self) -> None:
        if self.n < 1 or self.gap < LOCAL.max():
            raise HarnessError(
                f"batch.n={self.n}, batch.gap={self.gap}: at least one example, and a gap of {LOCAL.max()} or more "
                "(local heads look that far back)."
            )
        if self.length is not None and self.length <= self.gap:
            raise HarnessError(f"batch.length={self.length}: a window must be longer than the gap of {self.gap}.")

    def fingerprint(self) -> str:
        """Python's documentation by version, files by content, a dataset by its name (``name@revision`` pins it)."""
        return text_fingerprint(self.text)

    def __call__(self, vocabulary: Vocabulary) -> Batch:
        if vocabulary.encode is None:
            raise HarnessError("batch natural_text needs a tokenizer, and this subject has none.", "Use another batch.")
        length = self.length if self.length is not None else min(256, vocabulary.context)
        min_id = self.min_id if self.min_id is not None else default_id_range(vocabulary.vocab_size)[0]
        ahead = 1 if self.target == "next_token" else 0
        found = []
        for document in documents(self.text, self.split):
            ids = np.array(vocabulary.encode(document), dtype=np.int64)
            starts = range(0, len(ids) - length + 1, length)
            for start in starts if self.windows == "all" else starts[:1]:
                window = ids[start : start + length]
                place = self._find(window, min_id)
                if place is not None and start + place[1] + ahead < len(ids):
                    after = ids[start + place[1] + 1] if ahead else window[place[0] + 1]
                    found.append((window, *place, int(after)))
            if len(found) >= self.n * (1 if self.seed is None else POOL):  # do not read a whole dataset
                break
        if len(found) < self.n:
            raise HarnessError(
                f"batch natural_text: '{self.text}' gives {len(found)} examples of {length} tokens, "
                f"{self.n} were asked for.",
                f"An example needs a token that comes back at least {self.gap} tokens later. "
                "Give more text, or shorter windows (batch.length)" + (f", or batch.n={len(found)}." if found else "."),
            )
        some = np.arange(len(found)) if self.seed is None else rng_for(self.seed, "windows").permutation(len(found))
        order = some[: self.n]
        return self._batch([found[i] for i in np.sort(order)], length, min_id)

    def _find(self, window: np.ndarray, min_id: int) -> tuple[int, int] | None:
        """The first T that qualifies, and where it comes back last."""
        last = {int(token): place for place, token in enumerate(window)}
        for i in range(len(window) - 1):
            t, s = int(window[i]), int(window[i + 1])
            if min(t, s) >= min_id and t != s and last[t] >= i + self.gap:
                return i, last[t]
        return None

    def _batch(self, found: list[tuple[np.ndarray, int, int, int]], length: int, min_id: int) -> Batch:
        tokens = np.stack([window for window, *_ in found])
        first, query, target = (np.array([example[part] for example in found]) for part in (1, 2, 3))
        anchors = repeat_anchors(first, query)
        notes = {"length": length, "min_id": min_id, "text": self.text}
        counterfactual = self._counterfactual(tokens, query, target) if self.n > 1 else None
        return Batch(self.name, tokens, query, target, anchors, self.target, notes, counterfactual)

    def _counterfactual(self, tokens: np.ndarray, query: np.ndarray, target: np.ndarray) -> Counterfactual:
        """The examples in each other's context. Windows are full: what follows a query in them is text as well."""
        ring = rng_for(self.seed or 0, "twins").permutation(self.n)
        other = np.empty_like(ring)
        other[ring] = np.roll(ring, -1)
        before = np.arange(tokens.shape[1]) < query[:, None]
        return Counterfactual(np.where(before, tokens[other], tokens), target[other])


@hookimpl
def harness_batches() -> list[type[NaturalText]]:
    return [NaturalText]
