"""Text that others wrote: which names can be shown everywhere, and how the bytes of a text file are read."""

from __future__ import annotations

import codecs
import re

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # all but white space and escape, which logs have
_DIGITS = re.compile(r"(\d+)")
_MARKS = (  # the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
MOST_CONTROL = 0.01
"""Largest share of control characters in a text."""


def is_one_line(text: str) -> bool:
    """Whether a name can be shown and written everywhere: no line breaks, control characters or half characters."""
    return _UNSEEN.search(text) is None


def decoded(content: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark, which is dropped. Lines end in \\n.

    Errors: :class:`ValueError` with the reason: bytes that are not text in this encoding, NUL bytes, many control
    characters.
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not {encoding.upper()} text (byte {error.start} cannot be read)") from error
    if "\0" in text:
        raise ValueError("it is not text (it has NUL bytes)")
    if len(_CONTROL.findall(text)) > MOST_CONTROL * len(text):
        raise ValueError("it is not text (it has many control characters)")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def in_order(name: str) -> list[tuple[int, str]]:
    """A sorting key by which numbers in a name are compared as numbers: L2 comes before L10."""
    parts = _DIGITS.split(name)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def printable(text: str, keep: str = "") -> str:
    """The text with spaces for characters that move a cursor, turn the direction of writing or break a line.

    ``keep``: characters that stay, such as a line break between the lines of an answer.
    """
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text)
