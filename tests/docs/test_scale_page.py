"""The page on scale has the numbers that the code computes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from harness.closure.stopping import expected_controls
from harness.engine.budget import ON_CPU, ON_GPU
from harness.forecast import machine
from harness.forecast.conditions import SIZE
from harness.forecast.estimate import budget_of, shapes_of_cell, work_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
FIGURES = runpy.run_path(str(ROOT / "docs" / "figures" / "scale.py"))


def test_the_table_has_the_numbers_of_the_code() -> None:
    assert FIGURES["table"]() in PAGE


@pytest.mark.parametrize(
    "phrase",
    [
        f"a candidate of {SIZE} heads",
        f"The core does {machine.REFERENCE / 1e9:.0f} GFLOP/s",
        f"after the first {expected_controls(199, 10)} of their groups",
        f"in {machine.WATCHED} seconds",
        f"Attention runs at {machine.ATTENTION:.0%}".replace("%", " %"),
        f"takes {machine.BETWEEN * 1e9:.0f} nanoseconds per number",
        f"at {machine.EFFICIENCY:.0%} of its data sheet".replace("%", " %"),
        f"with {machine.LAUNCHING * 1e3} milliseconds to launch",
        f"at most {ON_CPU} rows x positions on a processor and {ON_GPU} on a GPU",
    ],
)
def test_the_page_states_the_constants_of_the_code(phrase: str) -> None:
    assert phrase in WORDS


def test_the_page_describes_the_default_cell() -> None:
    cell = FIGURES["cell"]("openai-community/gpt2")
    assert cell.stages["batch"].n == 512
    assert (cell.stages["batch"].length, cell.stages["controls"].n, cell.stages["selector"].count) == (48, None, 3)
    assert cell.settings.split == "half"


def test_half_precision_gives_the_stated_speedup() -> None:
    gains = [gpu.gpu.half / gpu.gpu.single for gpu in machine.GPUS[1:]]
    assert sorted(round(gain) for gain in gains) == [15, 16]
    assert round(machine.GPUS[0].gpu.half / machine.GPUS[0].gpu.single) == 2


def test_early_stopping_takes_a_sixth_of_the_work() -> None:
    for path in FIGURES["MODELS"].values():
        cell = FIGURES["cell"](path)
        shapes = shapes_of_cell(cell)
        (_, first), *_, (_, last) = work_of(cell, shapes, budget_of(cell, shapes, FIGURES["CORE"]))
        assert first.flops / last.flops == pytest.approx(1 / 6, abs=0.05)
