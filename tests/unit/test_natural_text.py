"""Natural text with repeated tokens: windows, queries and targets against a brute-force search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.batch import Batch, Vocabulary
from harness.registry.config import registry
from harness.util.errors import HarnessError

GAP = 7
LENGTH = 20


NUMBERS = Vocabulary(1000, 128, lambda text: [int(word) for word in text.split()])
"""For texts that are their own token ids."""


def write(text: Path | str, vocabulary: Vocabulary = NUMBERS, **parameters: Any) -> Batch:
    settings = {"length": LENGTH, "gap": GAP, "min_id": 3, **parameters}
    batch: Batch = registry().get("batch", "natural_text").build({"text": str(text), **settings})(vocabulary)
    return batch


def search(documents: list[list[int]], target: str, windows: str, min_id: int = 3) -> list[dict[str, Any]]:
    """Every example, by trying all pairs of positions of every window."""
    found = []
    for ids in documents:
        starts = [s for s in range(0, len(ids), LENGTH) if s + LENGTH <= len(ids)]
        for start in starts if windows == "all" else [s for s in starts if s == 0]:
            window = ids[start : start + LENGTH]
            pairs = [
                (i, k)
                for i in range(LENGTH - 1)
                for k in range(LENGTH)
                if window[k] == window[i] and k >= i + GAP
                if min(window[i], window[i + 1]) >= min_id and window[i] != window[i + 1]
            ]
            if not pairs:
                continue
            first = min(i for i, _ in pairs)
            query = max(k for i, k in pairs if i == first)
            following = ids[start + query + 1 : start + query + 2]
            wanted = [window[first + 1]] if target == "repeat" else following
            if wanted:
                found.append({"tokens": window, "first": first, "query": query, "target": wanted[0]})
    return found


@pytest.fixture
def documents() -> list[list[int]]:
    """Few ids, so that tokens repeat; lengths around multiples of the window."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 12, length).tolist() for length in (19, 20, 21, 40, 41, 59, 100, 173)]


@pytest.fixture
def file(documents: list[list[int]], tmp_path: Path) -> Path:
    path = tmp_path / "numbers.txt"
    path.write_text("\f".join(" ".join(map(str, ids)) for ids in documents))
    return path


@pytest.mark.parametrize("target", ["repeat", "next_token"])
@pytest.mark.parametrize("windows", ["first", "all"])
def test_examples_are_those_of_a_brute_force_search(
    documents: list[list[int]], file: Path, target: str, windows: str
) -> None:
    expected = search(documents, target, windows)
    batch = write(file, n=len(expected), target=target, windows=windows)
    assert batch.tokens.tolist() == [example["tokens"] for example in expected]
    assert batch.query.tolist() == [example["query"] for example in expected]
    assert batch.target.tolist() == [example["target"] for example in expected]
    assert batch.anchors["duplicate-token"][:, 0].tolist() == [example["first"] for example in expected]
    assert batch.target_kind == target
    with pytest.raises(HarnessError, match=f"gives {len(expected)} examples"):
        write(file, n=len(expected) + 1, target=target, windows=windows)


def test_ids_below_the_minimum_are_never_t_or_s(documents: list[list[int]], file: Path) -> None:
    expected = search(documents, "repeat", "all", min_id=8)
    assert 0 < len(expected) < len(search(documents, "repeat", "all"))
    batch = write(file, n=len(expected), target="repeat", min_id=8)
    assert batch.target.tolist() == [example["target"] for example in expected]
    assert batch.tokens[np.arange(len(batch)), batch.query].min() >= 8


def test_anchors_are_the_positions_each_class_attends_to(file: Path) -> None:
    batch = write(file, n=5)
    first = batch.anchors["duplicate-token"]
    row = np.arange(5)[:, None]
    assert (batch.tokens[row, first] == batch.tokens[row, batch.query[:, None]]).all()
    assert (batch.anchors["induction"] == first + 1).all()
    assert (batch.anchors["previous-token"] == batch.query[:, None] - 1).all()
    assert (batch.anchors["self"] == batch.query[:, None]).all()
    assert (batch.anchors["first-token"] == 0).all()
    assert (np.sort(batch.anchors["local"]) == batch.query[:, None] - [5, 4, 3, 2]).all()
    assert (batch.query - first[:, 0] >= GAP).all()


def test_a_query_at_the_end_of_the_text_has_no_next_token(tmp_path: Path) -> None:
    ids = [*range(10, 29), 10]  # T comes back as the very last token
    text = tmp_path / "end.txt"
    text.write_text(" ".join(map(str, ids)))
    assert write(text, n=1, target="repeat").query.tolist() == [19]
    with pytest.raises(HarnessError, match="gives 0 examples"):
        write(text, n=1, target="next_token")
    text.write_text(" ".join(map(str, [*ids, 99])))
    assert write(text, n=1, target="next_token").target.tolist() == [99]


def test_the_seed_determines_the_windows(file: Path) -> None:
    one, again, other = (write(file, n=3, seed=seed) for seed in (0, 0, 1))
    assert one.digest == again.digest != other.digest


def test_a_folder_is_read_in_the_order_of_its_files(documents: list[list[int]], file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "deeper").mkdir(parents=True)
    for number, ids in enumerate(documents):
        name = f"{number}.txt" if number < 5 else f"deeper/{number}.md"
        (folder / name).write_text(" ".join(map(str, ids)))
    (folder / "ignored.py").write_text("not text")
    n = len(search(documents, "next_token", "all"))
    assert write(folder, n=n).digest == write(file, n=n).digest


def test_window_and_minimum_id_default_to_those_of_the_subject(file: Path) -> None:
    batch = write(file, replace(NUMBERS, vocab_size=96, context=40), n=1, length=None, min_id=None)
    assert batch.notes["length"] == 40
    assert batch.notes["min_id"] == 3  # 96 // 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("./missing.txt", "does not exist"),
        ("missing.md", "does not exist"),
        ("~/no/such/folder", "does not exist"),
        ("empty", "has no file of"),
    ],
)
def test_a_missing_text_is_named(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarnessError, match=message) as caught:
        write(text, n=1)
    assert text in caught.value.what


def test_a_text_that_is_too_short_is_refused_with_its_number_of_examples(file: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        write(file, n=2000, windows="first")
    assert "2000 were requested" in caught.value.what
    assert f"at least {GAP} tokens later" in caught.value.fix
    assert "batch.n=" in caught.value.fix


def test_a_subject_without_a_tokenizer_is_refused(file: Path) -> None:
    with pytest.raises(HarnessError, match="needs a tokenizer"):
        write(file, replace(NUMBERS, encode=None), n=1)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"gap": 4}, {"length": GAP}, {"target": "next"}, {"windows": "last"}])
def test_invalid_parameters_are_refused(file: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"batch.{next(iter(wrong))}="):
        write(file, **{"n": 1, **wrong})


def test_the_fingerprint_follows_the_content_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    build = registry().get("batch", "natural_text").build
    text = tmp_path / "folder" / "a.txt"
    text.parent.mkdir()
    prints = []
    for content in ("one", "two", "one"):
        text.write_text(content)
        prints.append([build({"text": str(place)}).fingerprint() for place in (text, text.parent)])
    assert prints[0] == prints[2]
    assert prints[0][0] != prints[1][0]
    assert prints[0][1] != prints[1][1]
    (text.parent / "b.md").write_text("more")
    assert build({"text": str(text.parent)}).fingerprint() != prints[2][1]


def test_a_dataset_can_be_a_folder_of_data_files(documents: list[list[int]], file: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = [json.dumps({"text": " ".join(map(str, ids))}) for ids in documents]
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "README.md").write_text("what a downloaded dataset brings along")
    n = len(search(documents, "next_token", "all"))
    assert write(folder, n=n).digest == write(file, n=n).digest
    with pytest.raises(HarnessError, match="cannot be read"):
        write(folder, n=1, split="no_such_split")


def test_a_dataset_without_a_column_text_is_named(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"words": "1 2"}) + "\n")
    with pytest.raises(HarnessError, match="column `text`"):
        write(folder, n=1)
