"""A sealed number: its hash is on the board before it is, and no other number opens it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from harness.board.seal import Seal
from harness.board.write import write_files
from harness.util.errors import HarnessError


def test_the_hash_is_that_of_salt_and_seed_and_two_seals_differ() -> None:
    seal, secret = Seal.drawn()
    assert seal.hash == hashlib.sha256(f"{seal.salt}:{secret}".encode()).hexdigest()
    assert seal.seed is None
    assert secret != Seal.drawn()[1]
    assert str(secret) not in seal.sentence


def test_only_the_sealed_seed_opens_it() -> None:
    seal, secret = Seal.drawn()
    with pytest.raises(HarnessError, match="is not the sealed number"):
        seal.opened(secret + 1)
    opened = seal.opened(secret)
    assert (opened.salt, opened.hash, opened.secret) == (seal.salt, seal.hash, secret)
    assert f"the number is {secret}" in opened.sentence


def test_a_seal_is_read_as_it_was_written_and_an_edited_one_is_refused(tmp_path: Path) -> None:
    assert Seal.of(tmp_path) is None
    seal, secret = Seal.drawn()
    for each in (seal, seal.opened(secret)):
        each.write(tmp_path)
        assert Seal.of(tmp_path) == each
    replace(seal, secret=secret + 1).write(tmp_path)
    with pytest.raises(HarnessError, match="does not have its hash"):
        Seal.of(tmp_path)
    for damaged in ("", "[]", '{"salt": "a"}'):
        (tmp_path / "seal.json").write_text(damaged)
        with pytest.raises(HarnessError, match="is damaged"):
            Seal.of(tmp_path)


def test_a_board_shows_its_seal(tmp_path: Path) -> None:
    seal, _ = Seal.drawn()
    seal.write(tmp_path)
    write_files(tmp_path, [], "harness leaderboard")
    assert seal.sentence in (tmp_path / "board.md").read_text()
    assert seal.sentence in (tmp_path / "board.html").read_text()


def test_the_seed_of_an_opened_number_is_one_that_every_library_takes() -> None:
    seal, secret = Seal.drawn()
    assert seal.seed is None
    assert seal.opened(secret).seed == int.from_bytes(
        hashlib.sha256(f"{secret}/sealed split".encode()).digest()[:4], "big"
    )
