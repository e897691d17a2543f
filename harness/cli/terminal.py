"""Output on terminals and in files whose encoding lacks some characters, such as the arrows of a card."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

ASCII = {"↓": "v", "↑": "^", "→": "->", "·": "|", "…": "...", "⏎": "\\n", "−": "-", "≥": ">=", "≤": "<="}


def write_what_is_possible(json: bool) -> None:
    """Characters that the encoding of stdout or stderr lacks are replaced, in JSON by their escapes."""
    codecs.register_error("harness.ascii", _ascii)
    codecs.register_error("harness.json", _escaped)
    for stream, errors in ((sys.stdout, "harness.json" if json else "harness.ascii"), (sys.stderr, "harness.ascii")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _ascii(error: UnicodeError) -> tuple[str, int]:
    """The closest ASCII: an arrow's sign, a letter without its accent; else a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    plain = [
        ASCII.get(c) or unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() for c in _lacking(error)
    ]
    return "".join(text or "?" for text in plain), error.end


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """The escapes of JSON: UTF-16 in hexadecimal."""
    assert isinstance(error, UnicodeEncodeError)
    units = _lacking(error).encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


def _lacking(error: UnicodeEncodeError) -> str:
    return error.object[error.start : error.end]
