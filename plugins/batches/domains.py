"""Examples of several domains whose answer stands earlier in the same text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Int

from harness import (
    BatchMethod,
    Counterfactual,
    HarnessError,
    Tokens,
    Vocabulary,
    hookimpl,
    repeat_anchors,
    rng_for,
)
from harness.data.corpus import PYTHON, python_documentation, text_fingerprint
from harness.data.python_source import is_held_out, python_source
from harness.data.stages import FOR_COUNTERFACTUALS
from harness.data.tokens import BOS_HELP, default_id_range, require_positions, with_bos

Example = tuple[Int[np.ndarray, " positions"], int, int, int]
"""A window, the first T, the query, and the number of the document within its domain."""
DOMAINS = ("english", "code", "repeats")
GAP = 6  # smallest distance of the two occurrences: local heads look back up to 5
SHORTEST = 24  # tokens: fewer have hardly a pair that occurs twice
USUAL = 64


@dataclass(frozen=True)
class Domains(BatchMethod):
    r"""Held-out text of several domains, cut where the next token already followed the same two tokens.

    .. math:: \dots\ R\,T\,S\ \dots\ R\,T \to S

    In a window of ``length`` tokens, the query is a T whose pair R T occurs exactly once before, at least 6 tokens
    earlier, followed by the same S, which is not T. The last such T of the window is used, and each window gives one
    example at most. The target is the next token of the text, so it is both what an induction head predicts and what
    is there.

    The property ``domain`` of an example is ``english``, ``code`` or ``repeats``; each has a third of the examples. The
    property ``document`` is its document; every repeat is one of its own.

    - english: documentation that comes with Python (:func:`harness.data.corpus.python_documentation`);
    - code: modules of the standard library without docstrings and comments;
    - repeats: different random tokens from the vocabulary, written again and again; a copy has a quarter to a half of
      the window, and the query is in the later half of the second copy.

    English and code are the one document in sixteen that ``tiny_moe`` never saw in training
    (:func:`harness.data.python_source.is_held_out`). Other models may have seen it.

    The counterfactual of an example (for patching and logit_difference) differs in one token: the first S becomes
    another token of the window, drawn at random, which is its answer.

    Errors: a subject without a tokenizer; fewer examples in the text than were asked for; a context below 24 tokens; a
    vocabulary with fewer than 6 usable tokens.
    Source: the natural and the synthetic batch of the closure paper, side by side in one batch.
    """

    name: ClassVar[str] = "domains"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_COUNTERFACTUALS
    n: Annotated[int, Ge(6)] = field(default=480, metadata={"help": "number of examples, over all domains"})
    length: Annotated[int, Ge(SHORTEST)] | None = field(
        default=None, metadata={"help": "tokens per window; null: 64, or the context"}
    )
    seed: int = field(default=0, metadata={"help": "seed of every draw"})
    bos: bool | None = field(default=None, metadata={"help": BOS_HELP})

    def fingerprint(self) -> str:
        """The version of Python, whose text it is."""
        return text_fingerprint(PYTHON)

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        if vocabulary.encode is None:
            raise HarnessError(
                "batch domains needs a tokenizer, and this subject has none.",
                "Use a batch without text: batch=random_repeat",
            )
        bos, said = vocabulary.bos(self.bos)
        require_positions(self.name, SHORTEST + (bos is not None), vocabulary)
        length = self.length or min(USUAL, vocabulary.context)
        text = length - (bos is not None)
        rng = rng_for(self.seed, "domains")
        windows = {
            "english": self._cut((d for d in python_documentation() if is_held_out(d)), text, vocabulary.encode),
            "code": self._cut(python_source(held_out=True), text, vocabulary.encode),
            "repeats": self._repeats(text, vocabulary),
        }
        counts = [len(part) for part in np.array_split(np.arange(self.n), len(DOMAINS))]
        examples = []
        for (name, found), count in zip(windows.items(), counts, strict=True):
            if len(found) < count:
                raise HarnessError(
                    f"batch domains: held-out {name} gives {len(found)} examples of {length} tokens; {count} were "
                    "requested.",
                    "Use shorter windows (batch.length)"
                    + (f", or batch.n={len(DOMAINS) * len(found)}." if len(found) > 1 else "."),
                )
            examples += [found[i] for i in np.sort(rng.permutation(len(found))[:count])]
        domain = np.repeat(DOMAINS, counts)
        tokens = np.stack([window for window, *_ in examples])
        first, query = (np.array([example[part] for example in examples]) for part in (1, 2))
        document = np.array([f"{of} {example[3]}" for of, example in zip(domain, examples, strict=True)])
        target = tokens[np.arange(self.n), query + 1]
        pairs = zip(tokens, target, strict=True)
        other = np.array([rng.choice(window[window != answer]) for window, answer in pairs])
        changed = tokens.copy()
        changed[np.arange(self.n), first + 1] = other
        anchors, counterfactual = repeat_anchors(first, query), Counterfactual(changed, other)
        notes, groups = {"length": length, "bos": said}, {"domain": domain, "document": document}
        batch = Tokens(self.name, tokens, query, target, anchors, "next_token", notes, counterfactual, groups)
        return with_bos(batch, bos)

    def _cut(self, documents: Iterable[str], length: int, encode: Callable[[str], list[int]]) -> list[Example]:
        """The windows of the documents, end to end, that have a query."""
        examples = []
        for place, document in enumerate(documents):
            ids = np.array(encode(document), dtype=np.int64)
            for start in range(0, len(ids) - length + 1, length):
                window = ids[start : start + length]
                places = _repeated_pair(window)
                if places is not None:
                    examples.append((window, *places, place))
        return examples

    def _repeats(self, length: int, vocabulary: Vocabulary) -> list[Example]:
        """Random sequences, each written until the window is full; the query is in the second half of the second."""
        low, high = default_id_range(vocabulary.vocab_size)
        longest = min(length // 2, high - low)
        if longest < GAP:
            raise HarnessError(
                f"batch domains needs {GAP} different tokens for its repeats; the subject has {high - low}.",
                "Use a subject with a larger vocabulary.",
            )
        rng = rng_for(self.seed, "domains: repeats")
        examples = []
        for place in range(self.n):
            copy = int(rng.integers(max(GAP, longest // 2), longest + 1))
            once = rng.choice(np.arange(low, high), copy, replace=False)
            first = int(rng.integers(copy // 2, copy - 1))
            examples.append((np.resize(once, length), first, copy + first, place))
        return examples


def _repeated_pair(window: Int[np.ndarray, " positions"]) -> tuple[int, int] | None:
    """The last T whose pair R T occurs exactly once before, followed by the same token S != T: first T, second T."""
    for query in range(len(window) - 2, GAP, -1):
        again = (window[: query - 1] == window[query - 1]) & (window[1:query] == window[query])
        earlier = 1 + np.flatnonzero(again)
        if len(earlier) == 1 and query - earlier[0] >= GAP:
            first = int(earlier[0])
            if window[first + 1] == window[query + 1] != window[query]:
                return first, query
    return None


@hookimpl
def harness_batches() -> list[type[Domains]]:
    return [Domains]
