"""The boards in this repository agree with the records beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BOARDS = sorted(path.parent for path in (Path(__file__).parents[2] / "leaderboards").glob("*/board.json"))


@pytest.mark.parametrize("folder", BOARDS, ids=lambda folder: folder.name)
def test_a_committed_board_agrees_with_its_records(harness: Callable[..., Any], folder: Path) -> None:
    answer = harness("leaderboard", "--check", f"out={folder}")
    assert answer.code == 0, answer.out
    assert (folder / "board.html").stat().st_size < 2_000_000
