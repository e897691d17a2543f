"""Output in encodings that lack some characters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout

from hypothesis import given
from hypothesis import strategies as st

from harness.cli.main import main
from harness.cli.terminal import write_what_is_possible


def written_in_ascii(write: Callable[[], object]) -> bytes:
    """What a terminal that has ASCII only receives."""
    received = io.BytesIO()
    stdout = io.TextIOWrapper(received, encoding="ascii", write_through=True)
    with redirect_stdout(stdout):
        write()
    return received.getvalue()


def test_arrows_become_ascii() -> None:
    def write() -> None:
        write_what_is_possible(json=False)
        print("loss ↑ logit ↓ é ᵢ 漢", end="")

    assert written_in_ascii(write) == b"loss ^ logit v e i ?"


def test_a_command_ends_well_on_an_ascii_terminal() -> None:
    shown = written_in_ascii(lambda: main(["show", "affinity", "ising"]))
    assert b"Couplings of a pairwise Ising model" in shown
    assert b"affinity.l2=0.001" in shown


@given(st.text(st.characters(exclude_categories=())))
def test_json_is_the_same_in_every_encoding(text: str) -> None:
    write_what_is_possible(json=True)
    encoded = json.dumps({"label": text}, ensure_ascii=False).encode("ascii", "harness.json")
    assert json.loads(encoded) == json.loads(json.dumps({"label": text}))
