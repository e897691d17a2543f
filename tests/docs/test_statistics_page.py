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
QUICK = 300


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


@pytest.mark.slow  # a simulation of a minute
def test_the_numbers_are_what_the_code_computes(computed: dict[str, Any]) -> None:
    assert list(computed) == list(STORED)
    for name, number in computed.items():
        value, worlds = STORED[name]["value"], STORED[name]["worlds"]
        if not worlds:
            assert number.page == STORED[name]["page"], name
            assert number.value == pytest.approx(value, abs=1e-9), name
        else:
            likely = min(max(value, 1 / number.worlds), 1 - 1 / number.worlds)  # a share of 0 or 1 has no spread
            error = math.sqrt(likely * (1 - likely) * (1 / worlds + 1 / number.worlds))
            assert abs(number.value - value) <= 4 * error, name


def test_the_table_of_passes() -> None:
    page = {name: number["page"] for name, number in STORED.items()}
    alone = page["p <= .05, 199 groups"]
    assert rows("passes when") == [
        *(
            [
                f"z > 2, 5 groups, ddof {ddof}",
                *(page[f"z > 2, 5 groups, ddof {ddof}{suffix}"] for suffix in ("", ", best of 8")),
            ]
            for ddof in (0, 1)
        ),
        ["p ≤ .05, 199 groups, not corrected", alone, page["p <= .05, 199 groups, best of 8"]],
        ["p ≤ .05, 199 groups, Benjamini-Hochberg", alone, page["normal: 8 random groups, any passes"]],
    ]


def test_the_tables_of_levels_are_of_the_test_that_they_name() -> None:
    tables = re.findall(r"\| heads per layer, profile \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT)
    for test, table in zip(("exact", "disjoint"), tables, strict=True):
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for first, *shares in cells:
            heads, profile = first.split(", ")
            stored = [
                number["page"]
                for name, number in STORED.items()
                if name.startswith(f"level, {heads} heads, {profile}, ") and name.endswith(f", {test}")
            ]
            assert shares == stored


def test_the_table_of_power() -> None:
    page = {name: number["page"] for name, number in STORED.items()}
    for case, *shares in rows("circuit"):
        assert shares == [page[f"power, {n} heads, {case}, {test}"] for n in (8, 32) for test in ("exact", "disjoint")]


def test_the_stored_numbers_show_what_the_page_says() -> None:
    """The exact test keeps its level in every world; the former one does not; chains pass at 8 heads."""
    value = {name: number["value"] for name, number in STORED.items()}
    exact = {name: share for name, share in value.items() if name.startswith("level") and name.endswith("exact")}
    assert len(exact) == 30
    assert all(0.03 <= share <= 0.07 for share in exact.values()), exact
    assert max(share for name, share in value.items() if name.startswith("level") and "disjoint" in name) > 0.2
    assert value["power, 8 heads, chain of 3, normal, exact"] >= 0.9
    assert value["power, 8 heads, chain of 3, normal, disjoint"] < 0.6


def test_the_verdicts_are_listed_in_the_order_of_the_rules() -> None:
    from harness.closure.verdict import RULES

    listed = [verdict.strip("`") for verdict, _ in rows("verdict")]
    assert listed == list(dict.fromkeys(rule.verdict.value for rule in RULES))


def test_a_random_group_takes_as_many_controls_as_simulation_gives(computed: dict[str, Any]) -> None:
    """Independent of the formula: counts over random draws."""
    import numpy as np

    for n in (199, 1999):
        draws = np.random.default_rng(n).standard_normal((20_000, 1 + n))
        as_bad = (draws[:, 1:] >= draws[:, :1]).cumsum(axis=1)
        stops = (as_bad >= 10) | (np.arange(1, 1 + n) == n)
        expected = 1 + stops.argmax(axis=1)
        error = 4 * expected.std() / math.sqrt(len(draws))
        assert computed[f"groups for a random candidate, of {n}"].value == pytest.approx(expected.mean(), abs=error)


def test_the_table_of_planted_groups() -> None:
    """R and interaction by hand: a chain, parts that add up, backups, one strong unit with passengers."""
    values = {planted: (share, index) for planted, share, index in rows("planted")}
    by_hand = [("1", "-1"), (".33", "0"), ("1", "1"), ("1", ".5"), ("0", "0")]
    assert list(values.values()) == by_hand
    for planted, (share, index) in values.items():
        assert (share, index) == (STORED[f"R, {planted}"]["page"], STORED[f"interaction, {planted}"]["page"])


def test_z_of_five_controls_is_what_simulation_gives(computed: dict[str, Any]) -> None:
    """Independent of the t distribution and of the quadrature: random draws."""
    import numpy as np

    draws = np.random.default_rng(0).standard_normal((200_000, 13))
    groups, candidates = draws[:, :5], draws[:, 5:]
    for ddof in (0, 1):
        z = (candidates - groups.mean(axis=1, keepdims=True)) / groups.std(axis=1, ddof=ddof, keepdims=True)
        name = f"z > 2, 5 groups, ddof {ddof}"
        assert computed[name].value == pytest.approx((z[:, 0] > 2).mean(), abs=3e-3)
        assert computed[f"{name}, best of 8"].value == pytest.approx((z.max(axis=1) > 2).mean(), abs=5e-3)


def test_p_of_the_best_of_eight_is_what_simulation_gives(computed: dict[str, Any]) -> None:
    import numpy as np

    draws = np.random.default_rng(1).standard_normal((20_000, 207))
    as_bad = (draws[:, 8:] >= draws[:, :8].max(axis=1, keepdims=True)).sum(axis=1)
    expected = ((1 + as_bad) / 200 <= 0.05).mean()
    assert computed["p <= .05, 199 groups, best of 8"].value == pytest.approx(expected, abs=0.014)


def test_names_on_the_page_exist() -> None:
    from harness.closure.necessity import ALL_UP_TO, DISPENSABLE, DRAWN, PAIRS_UP_TO
    from harness.closure.statistics import RESAMPLES
    from harness.closure.verdict import Verdict

    for name in re.findall(r"`(harness\.[\w.]+)`", TEXT):
        assert pydoc.locate(name) is not None, name
    for path in re.findall(r"`(docs/[\w./]+)`|\]\((?!http)([^)#]+)\)", TEXT):
        assert any((base / (path[0] or path[1])).exists() for base in (ROOT, ROOT / "docs")), path
    assert {Verdict.UNDERPOWERED, Verdict.WRONG_DIRECTION} <= set(re.findall(r"`(\w+)`", TEXT))
    assert f"{RESAMPLES} resamples" in TEXT
    assert f"more than {PAIRS_UP_TO} units have no pair term" in TEXT
    assert f"more than {ALL_UP_TO} units, {DRAWN} units are examined" in TEXT
    assert f"at most {DISPENSABLE:.0%}".replace("%", " %") in TEXT
    assert re.search(r"^figures: .*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
