"""Any bytes in a text file, and any names in a folder: their text, or a sentence."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import strategies as st

from harness.data.corpus import check_text, documents, text_fingerprint
from tests.fuzz.generated import generated
from tests.fuzz.refusals import unless_refused

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "utf-16-le")
MARKS = (b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"PK\x03\x04", b"\x1f\x8b", b"{", b"[")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
SUFFIXES = st.sampled_from(["", ".txt", ".TXT", ".md", ".bin", ".gz", ".log"])  # data files load a library


def outcome(path: Path) -> list[str] | None:
    """The documents; None where the path is refused by the check and by reading alike."""

    def read() -> list[str]:
        check_text(str(path))
        return list(documents(str(path), "train"))

    assert isinstance(text_fingerprint(str(path)), str)
    return unless_refused(read, "batch.text=")


@generated(st.sampled_from(MARKS), st.binary(max_size=60), SUFFIXES)
def test_bytes(mark: bytes, content: bytes, suffix: str) -> None:
    """What is read has no byte-order mark, NUL or replaced character, and the bytes can be had back from it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"a{suffix}").write_bytes(mark + content)
        found = outcome(Path(folder) / f"a{suffix}")
    if found is None:
        return
    text = "\f".join(found)
    assert not text.startswith("\ufeff")
    assert "\0" not in text
    lines = text.encode("utf-8")
    readings = {content_of(mark + content, encoding) for encoding in ("utf-8-sig", "utf-16", "utf-32")}
    assert lines in readings


def content_of(raw: bytes, encoding: str) -> bytes | None:
    """The text of these bytes in UTF-8 with plain line ends, by Python's own codec; None: they are not in it."""
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").encode("utf-8")


@generated(TEXTS, st.sampled_from(ENCODINGS))
def test_text_in_any_encoding(text: str, encoding: str) -> None:
    """A text is read as itself, or refused; never as another one."""
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.txt").write_bytes(content)
        found = outcome(Path(folder) / "a.txt")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    marked = encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    if found is not None and (marked or text.isascii()):
        assert "\f".join(found) == lines


@generated(st.lists(st.tuples(NAMES, SUFFIXES, st.sampled_from(["file", "folder", "link", "loop"])), max_size=5))
def test_folders(entries: list[tuple[str, str, str]]) -> None:
    """The documents of a folder are those of its text files, each once, without hidden ones."""
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where) / "texts"
        folder.mkdir()
        expected, broken = {}, False
        for i, (name, suffix, kind) in enumerate(entries):
            path = folder / f"{name}{suffix}"
            if path.exists() or path.is_symlink() or path.name.casefold() in {p.casefold() for p in expected}:
                continue
            is_text = path.suffix.lower() in (".txt", ".md") and not path.name.startswith(".")
            if kind == "file":
                path.write_text(f"text {i}")
                expected |= {path.name: f"text {i}"} if is_text else {}
            elif kind == "folder":
                path.mkdir()
            else:
                path.symlink_to("nowhere" if kind == "link" else path.name)
                broken |= is_text
        found = outcome(folder)
    if broken or not expected:
        assert found is None
    else:
        assert found is not None
        assert sorted(found) == sorted(expected.values())
