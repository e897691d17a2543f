"""Text of strangers on its way to a terminal or a page."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """The text with spaces for characters that move a cursor, turn the direction of writing or break a line.

    ``keep``: characters that stay, such as a line break between the lines of an answer.
    """
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text)
