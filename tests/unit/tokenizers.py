"""Tokenizers of tests: pieces of text by a pattern, numbered as they occur."""

from __future__ import annotations

import re

from harness.data.batch import Vocabulary

WORDS_AND_DIGITS = r" ?[^\W\d_]+|\d|\s|[^\w\s]+|_"
"""Words with the space before them, single digits: as SmolLM2."""
WORDS_AND_PAIRS = r" ?[^\W\d_]+| ?\d\d|\d|\s|[^\w\s]+|_"
"""Digits in pairs, with the space before them: as GPT-2 writes most years."""
LETTERS = r" ?\w|\s|[^\w\s]"
"""Every letter is a token."""


def tokenizer(pattern: str = WORDS_AND_DIGITS, context: int = 512) -> Vocabulary:
    """A vocabulary of the pieces that match a pattern."""
    ids: dict[str, int] = {}

    def encode(text: str) -> list[int]:
        return [ids.setdefault(piece, len(ids)) for piece in re.findall(pattern, text)]

    def decode(tokens: list[int]) -> str:
        pieces = list(ids)
        return "".join(pieces[token] for token in tokens)

    return Vocabulary(10_000, context, encode, decode)
