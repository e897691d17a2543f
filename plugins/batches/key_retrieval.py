"""A codeword stands early in a text and is asked for later: retrieval over a distance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, MinLen
from jaxtyping import Int

from harness import BatchMethod, Counterfactual, HarnessError, Tokens, Vocabulary, hookimpl, rng_for
from harness.data.corpus import PYTHON, check_text, documents, text_fingerprint
from harness.data.python_source import is_held_out
from harness.data.stages import FOR_COUNTERFACTUALS
from harness.data.tokens import BOS_HELP, FIRST, LOCAL, require_positions, with_bos

TEMPLATES = (
    ("\nKey:", "\nGet key:"),
    ("\nSet code to", "\nThe code is"),
    ("\nPassword:", "\nEnter password:"),
    ("\nThe secret is", "\nWhat is the secret?"),
    ("\nRemember:", "\nRecall:"),
)
"""What stands before the codeword, and what asks for it."""
GAPS = {"in": (5, 30), "out": (40, 70)}
PREFIX = (2, 20)  # tokens of text before the line with the codeword
MOST, FEWEST = 64, 8  # codewords of the list in use

_NOUNS = """
apple river tiger dragon mountain butter forest castle garden honey island kitchen lemon lion mirror
monkey ocean orange palace pepper pirate planet potato rabbit rainbow rocket rose sailor salmon
silver soldier spider statue sugar sunset temple thunder tomato tunnel turkey turtle umbrella valley
velvet village violin wagon whale wheat willow winter wolf wool zebra eagle elephant diamond desert
dinner cotton copper chicken cherry cattle carpet camel candle bridge bottle blanket basket banana
autumn almond amber arrow bamboo beaver bishop canyon chimney chocolate coconut coral crystal daisy
dolphin donkey emerald falcon feather fountain garlic ginger goat guitar
"""
"""Most never occur in Python's documentation. Common ones first: they are one token in most tokenizers."""


@dataclass(frozen=True)
class KeyRetrieval(BatchMethod):
    r"""Text in which a line gives a codeword and a later line asks for it; the answer is the codeword.

    .. math:: \text{text}\ \ \text{KEY}\ w\ \ \underbrace{\text{text}}_{\text{gap}}\ \ \text{QUERY} \to w

    KEY and QUERY are one of five pairs, such as ``Password:`` and ``Enter password:``. Each stands on a line of its
    own, with the codeword. 2 to 20 tokens of text stand before. The text is documentation that comes with Python,
    without the codewords: ``held-out`` is the one document in sixteen that ``tiny_retrieval`` never saw, ``training``
    the others. ``text`` names another text, as for ``natural_text``.

    ``gap`` [lo, hi] is the number of tokens between the codeword and QUERY, uniform in this range: ``in`` is [5, 30],
    the range that ``tiny_retrieval`` was trained on, ``out`` is [40, 70]. The query is the last token of QUERY. The
    answer follows it, and then text up to ``length``.

    ``codewords`` are words that the tokenizer writes as one token after a space. Each is the answer equally often, so
    chance is one in as many (in the notes of the batch). null: the first 64 such words of a list of nouns.

    Anchors: ``key`` is the codeword and ``distractor`` the others if there are any, besides the first, the previous and
    the query's own position, and those 2 to 5 before. Properties of an example: ``gap``, and ``template``, the text
    before the codeword.

    With ``distractors``, as many tokens of the text before QUERY are replaced by other codewords. What tells the answer
    from them is the text KEY before it; a model that looks for any codeword is right once in ``distractors`` + 1.

    The counterfactual of an example (for patching and logit_difference) differs in one token: the codeword is another
    one, which is its answer.

    Errors: a subject without a tokenizer; a codeword that is not one token, equals another one, or occurs in a
    template; fewer than 8 nouns that are one token; gaps below 5, or that do not fit into the length or the context;
    more distractors than the shortest text has room for, or than there are other codewords.
    Source: the key-retrieval probe of the probe-circuit paper (Xu 2026). There the gap out of distribution is
    [80, 200], and codewords are 512 upper-case words.
    """

    name: ClassVar[str] = "key_retrieval"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_COUNTERFACTUALS
    nouns: ClassVar[tuple[str, ...]] = tuple(_NOUNS.split())
    n: Annotated[int, Ge(1)] = field(default=512, metadata={"help": "number of examples; the paper uses 2000"})
    gap: Literal["in", "out"] | tuple[int, int] = field(
        default="in", metadata={"help": "tokens between codeword and question: in, out, or [lo, hi]"}
    )
    codewords: Annotated[tuple[str, ...], MinLen(2)] | None = field(
        default=None, metadata={"help": "words of one token each; null: 64 nouns"}
    )
    length: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "tokens per example; null: as many as the largest gap needs"}
    )
    split: Literal["held-out", "training"] = field(
        default="held-out", metadata={"help": "which part of the documentation"}
    )
    seed: int = field(default=0, metadata={"help": "seed of every draw"})
    bos: bool | None = field(default=None, metadata={"help": BOS_HELP})
    distractors: Annotated[int, Ge(0)] = field(
        default=0, metadata={"help": "other codewords in the text before the question", "added": True}
    )
    text: str = field(
        default=PYTHON, metadata={"help": "python-docs, a file, a folder, or the name of a dataset", "added": True}
    )

    def __post_init__(self) -> None:
        low, high = self._gaps
        if not LOCAL.max() <= low <= high:
            raise HarnessError(
                f"batch.gap=[{low},{high}] is not a range of gaps of {LOCAL.max()} tokens or more.",
                f"Use 'batch.gap=[lo,hi]' with {LOCAL.max()} <= lo <= hi: local heads look back up to {LOCAL.max()}.",
            )
        room = PREFIX[0] + low - 1
        if self.distractors > room:
            raise HarnessError(
                f"batch.distractors={self.distractors}: the shortest text before a question has {room} tokens.",
                f"Use at most {room}, or longer gaps: 'batch.gap=[{self.distractors},{max(high, self.distractors)}]'",
            )

    def fingerprint(self) -> str:
        """Python's documentation by version, files by content, a dataset by its name."""
        return text_fingerprint(self.text)

    def check_files(self) -> None:
        """The text is there, and is text."""
        check_text(self.text)

    @property
    def _gaps(self) -> tuple[int, int]:
        return GAPS[self.gap] if isinstance(self.gap, str) else self.gap

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        if vocabulary.encode is None:
            raise HarnessError(
                "batch key_retrieval needs a tokenizer, and this subject has none.",
                "Use a batch without text: batch=random_repeat",
            )
        bos, said = vocabulary.bos(self.bos)
        encode = vocabulary.encode
        newline, templates = encode("\n"), [(encode(key), encode(query)) for key, query in TEMPLATES]
        longest = PREFIX[1] + 1 + self._gaps[1] + max(len(key) + len(query) for key, query in templates)
        whole = self._length(longest + (bos is not None), vocabulary)
        length = whole - (bos is not None)
        codewords = self._codewords(encode)
        if self.distractors > len(codewords) - 2:
            raise HarnessError(
                f"batch.distractors={self.distractors}: of {len(codewords)} codewords, two are the answers of an "
                "example and of its counterfactual.",
                f"Use at most {len(codewords) - 2}, or more codewords.",
            )
        text = self._text(encode, codewords, length)
        rng, row, many = rng_for(self.seed, "key retrieval"), np.arange(self.n), len(codewords)
        blocks = [rng.permutation(many) for _ in range(-(-self.n // many))]  # each codeword once in every block
        word = np.concatenate(blocks)[: self.n]
        target, other = codewords[word], codewords[(word + rng.integers(1, many, self.n)) % many]
        kind = rng.integers(len(TEMPLATES), size=self.n)
        prefix = rng.integers(PREFIX[0], PREFIX[1] + 1, self.n)
        gap = rng.integers(self._gaps[0], self._gaps[1] + 1, self.n)
        start = rng.integers(len(text) - length, size=self.n)
        tokens = np.empty((self.n, length), dtype=np.int64)
        place, query = np.empty(self.n, dtype=np.int64), np.empty(self.n, dtype=np.int64)
        for i in row:
            key, ask = templates[kind[i]]
            cuts = [prefix[i], prefix[i] + gap[i] - len(newline)]
            before, between, after = np.split(text[start[i] :][:length], cuts)
            line = [target[i], *newline]
            tokens[i] = np.concatenate([before, key, line, between, ask, line, after])[:length]
            place[i] = prefix[i] + len(key)
            query[i] = place[i] + gap[i] + len(ask)
        distractor = self._distract(tokens, codewords, place, prefix, gap, np.stack([target, other], axis=1))
        changed = tokens.copy()
        changed[row, place] = other
        anchors = {
            "key": place[:, None],
            **({"distractor": distractor} if self.distractors else {}),
            "previous-token": query[:, None] - 1,
            FIRST: np.zeros((self.n, 1), dtype=np.int64),
            "self": query[:, None],
            "local": query[:, None] - LOCAL,
        }
        notes = {
            "length": whole, "gap": list(self._gaps), "codewords": many, "chance": 1 / many, "text": self.text,
            "split": self.split,
            "bos": said,
        }  # fmt: skip
        groups = {"gap": gap, "template": np.array([key.strip() for key, _ in TEMPLATES])[kind]}
        counterfactual = Counterfactual(changed, other)
        return with_bos(
            Tokens(self.name, tokens, query, target, anchors, "codeword", notes, counterfactual, groups), bos
        )

    def _distract(
        self,
        tokens: Int[np.ndarray, "examples length"],
        codewords: Int[np.ndarray, " codewords"],
        place: Int[np.ndarray, " examples"],
        prefix: Int[np.ndarray, " examples"],
        gap: Int[np.ndarray, " examples"],
        answers: Int[np.ndarray, "examples 2"],
    ) -> Int[np.ndarray, "examples distractors"]:
        """Write other codewords into the text before the question, in place; where they stand."""
        rng = rng_for(self.seed, "key retrieval: distractors")
        where = np.empty((self.n, self.distractors), dtype=np.int64)
        for i in range(self.n if self.distractors else 0):
            text = np.concatenate([np.arange(prefix[i]), place[i] + np.arange(2, gap[i] + 1)])
            where[i] = np.sort(rng.choice(text, self.distractors, replace=False))
            tokens[i, where[i]] = rng.choice(np.setdiff1d(codewords, answers[i]), self.distractors, replace=False)
        return where

    def _length(self, fewest: int, vocabulary: Vocabulary) -> int:
        """Tokens per example. ``fewest``: what the largest gap needs up to the query."""
        low, high = self._gaps
        largest = high - fewest + vocabulary.context
        smaller = f", or 'batch.gap=[{min(low, largest)},{largest}]'" if largest >= LOCAL.max() else ""
        require_positions(f"{self.name} with gaps up to {high}", fewest, vocabulary, smaller)
        if self.length is None:
            return fewest
        if not fewest <= self.length <= vocabulary.context:
            raise HarnessError(
                f"batch.length={self.length}: gaps up to {high} need {fewest} tokens; the subject has "
                f"{vocabulary.context} positions.",
                f"Use {fewest} to {vocabulary.context} tokens, or leave it out.",
            )
        return self.length

    def _codewords(self, encode: Callable[[str], list[int]]) -> Int[np.ndarray, " codewords"]:
        """The token of each codeword."""
        templates = {text: encode(text) for pair in TEMPLATES for text in pair}
        taken = {token for ids in templates.values() for token in ids}
        found: list[int] = []
        for word in self.nouns if self.codewords is None else self.codewords:
            token = _token(word, templates, encode)
            if token is not None and token not in taken:
                taken.add(token)
                found.append(token)
            elif self.codewords is not None:
                raise HarnessError(
                    f"batch.codewords: after a space, the subject's tokenizer does not write '{word}' as one token "
                    "that no other codeword and no template has.",
                    "Use different words that are one token each, or leave it out.",
                )
        if self.codewords is None and len(found) < FEWEST:
            raise HarnessError(
                f"batch key_retrieval needs {FEWEST} codewords that are one token each; the subject's tokenizer has "
                f"{len(found)} of the {len(self.nouns)} nouns.",
                "Give words that are one token each: 'batch.codewords=[...]'. Or use a subject with a larger "
                "vocabulary, such as subject=tiny_retrieval.",
            )
        return np.array(found[:MOST] if self.codewords is None else found)

    def _text(
        self, encode: Callable[[str], list[int]], codewords: Int[np.ndarray, " codewords"], length: int
    ) -> Int[np.ndarray, " tokens"]:
        """The documents end to end, without codewords."""
        held_out = self.split == "held-out"
        part = (document for document in documents(self.text, "train") if is_held_out(document) == held_out)
        text = np.array([token for document in part for token in encode(document)], dtype=np.int64)
        text = text[~np.isin(text, codewords)]
        if len(text) <= length:
            raise HarnessError(
                f"batch.length={length}: the {self.split} part of {self.text} has {len(text)} tokens.",
                "Use shorter examples, or a text of more documents: one in sixteen is held out.",
            )
        return text


def _token(word: str, templates: Mapping[str, list[int]], encode: Callable[[str], list[int]]) -> int | None:
    """The token that a word is after every template. None: it is several tokens, or not always the same one."""
    written = [(encode(f"{text} {word}"), ids) for text, ids in templates.items()]
    last = {whole[-1] for whole, ids in written if whole[:-1] == ids}
    same = len(last) == 1 and all(whole[:-1] == ids for whole, ids in written)
    return last.pop() if same else None


@hookimpl
def harness_batches() -> list[type[KeyRetrieval]]:
    return [KeyRetrieval]
