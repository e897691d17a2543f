"""The page on statistics has the numbers that the code computes."""

from __future__ import annotations

import json
import math
import pydoc
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
STORED: dict[str, dict[str, Any]] = json.loads((ROOT / "docs" / "statistics.json").read_text(encoding="utf-8"))
NOMINAL = {"5 %", "95 %"}  # levels, not results
QUICK = 200


@pytest.fixture(scope="module")
def computed() -> dict[str, Any]:
    """The numbers of the page, from few worlds."""
    found: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "figures" / "statistics.py"))["numbers"](QUICK)
    return found


def rows(first: str) -> list[list[str]]:
    """Cells of the table whose first column has this title."""
    (table,) = re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_page_has_every_number_and_no_other() -> None:
    results = {number["page"] for number in STORED.values()}
    shares = set(re.findall(r"\d+(?:\.\d+)? %", TEXT))
    decimals = set(re.findall(r"(?<![\w.])\d*\.\d+(?! %)\b", TEXT))
    assert shares - NOMINAL <= results
    assert decimals <= results
    assert {page for page in results if "." in page or "%" in page} <= shares | decimals


def test_the_numbers_are_what_the_code_computes(computed: dict[str, Any]) -> None:
    assert list(computed) == list(STORED)
    for name, number in computed.items():
        value, worlds = STORED[name]["value"], STORED[name]["worlds"]
        if not worlds:
            assert number.page == STORED[name]["page"], name
            assert number.value == pytest.approx(value, abs=1e-9), name
        else:
            error = math.sqrt(value * (1 - value) * (1 / worlds + 1 / number.worlds))
            assert abs(number.value - value) <= 4 * error, name


def test_the_table_of_passes(computed: dict[str, Any]) -> None:
    page = {name: number["page"] for name, number in STORED.items()}
    alone = page["p <= .05, 99 controls"]
    assert rows("passes when") == [
        *(
            [
                f"z > 2, 5 controls, ddof {ddof}",
                *(page[f"z > 2, 5 controls, ddof {ddof}{suffix}"] for suffix in ("", ", best of 8")),
            ]
            for ddof in (0, 1)
        ),
        ["p ≤ .05, 99 controls", alone, page["p <= .05, 99 controls, best of 8"]],
        *(
            [f"p ≤ .05, 99 controls {whose}, max-T", alone, page[f"max-T p <= .05, 99 controls {whose}, best of 8"]]
            for whose in ("for all", "each")
        ),
    ]


def test_the_table_of_shared_controls() -> None:
    shares = {name: number["page"] for name, number in STORED.items() if name.startswith("shared controls")}
    assert rows("units") == [
        [str(size), *(shares[f"shared controls, {size} of {model} heads"] for model in ("4 x 8", "30 x 9"))]
        for size in range(4, 9)
    ]


def test_a_random_group_takes_as_many_controls_as_simulation_gives(computed: dict[str, Any]) -> None:
    """Independent of the formula: counts over random draws."""
    import numpy as np

    for n in (99, 999):
        draws = np.random.default_rng(n).standard_normal((20_000, 1 + n))
        as_bad = (draws[:, 1:] >= draws[:, :1]).cumsum(axis=1)
        stops = (as_bad >= 10) | (np.arange(1, 1 + n) == n)
        expected = 1 + stops.argmax(axis=1)
        error = 4 * expected.std() / math.sqrt(len(draws))
        assert computed[f"controls of a random group, of {n}"].value == pytest.approx(expected.mean(), abs=error)


def test_the_table_of_interactions() -> None:
    expected = [number["page"] for name, number in STORED.items() if name.startswith("interaction")]
    assert [value for _, value in rows("planted")] == expected == ["-1", "0", "1", ".5"]


def test_z_of_five_controls_is_what_simulation_gives(computed: dict[str, Any]) -> None:
    """Independent of the t distribution and of the quadrature: random draws."""
    import numpy as np

    draws = np.random.default_rng(0).standard_normal((200_000, 13))
    controls, candidates = draws[:, :5], draws[:, 5:]
    for ddof in (0, 1):
        z = (candidates - controls.mean(axis=1, keepdims=True)) / controls.std(axis=1, ddof=ddof, keepdims=True)
        name = f"z > 2, 5 controls, ddof {ddof}"
        assert computed[name].value == pytest.approx((z[:, 0] > 2).mean(), abs=3e-3)
        assert computed[f"{name}, best of 8"].value == pytest.approx((z.max(axis=1) > 2).mean(), abs=5e-3)


def test_p_of_the_best_of_eight_is_what_simulation_gives(computed: dict[str, Any]) -> None:
    import numpy as np

    draws = np.random.default_rng(1).standard_normal((20_000, 107))
    as_bad = (draws[:, 8:] >= draws[:, :8].max(axis=1, keepdims=True)).sum(axis=1)
    expected = ((1 + as_bad) / 100 <= 0.05).mean()
    assert computed["p <= .05, 99 controls, best of 8"].value == pytest.approx(expected, abs=0.014)


def test_names_on_the_page_exist() -> None:
    from harness.closure.anatomy import DISPENSABLE
    from harness.closure.statistics import RESAMPLES
    from harness.closure.verdict import Verdict

    for name in re.findall(r"`(harness\.[\w.]+)`", TEXT):
        assert pydoc.locate(name) is not None, name
    for path in re.findall(r"`(docs/[\w./]+)`|\]\((?!http)([^)#]+)\)", TEXT):
        assert any((base / (path[0] or path[1])).exists() for base in (ROOT, ROOT / "docs")), path
    assert {Verdict.UNDERPOWERED, Verdict.WRONG_DIRECTION} <= set(re.findall(r"`(\w+)`", TEXT))
    assert f"{RESAMPLES} resamples" in TEXT
    assert f"at most {DISPENSABLE:.0%}".replace("%", " %") in TEXT
    assert re.search(r"^figures: .*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
