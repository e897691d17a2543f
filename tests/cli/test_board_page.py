"""The page of a board in a real browser: it sorts, filters, opens rows, and makes no request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.board.write import write_files
from harness.closure.verdict import Verdict
from harness.records.record import Record

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (it is in the test extra)")
from selenium.common.exceptions import TimeoutException  # noqa: E402  # after it is known to be there
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

Make = Callable[..., Any]
HOSTILE = "<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium from the packages of the system."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(make_record: Make, make_effect: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods and a hostile one on two tasks; their effects are -1, -2, -3, -4."""
    verdicts = {"first": Verdict.PASS, "second": Verdict.NULL, "third": Verdict.WEAK_PASS, HOSTILE: Verdict.NULL}
    records: list[Record] = []
    for i, (method, verdict) in enumerate(verdicts.items(), 1):
        for subject in ("s0", "s1"):
            effect = make_effect(delta=-float(i))
            cell, affinity = f"{i}{subject}", {"name": f"a{i}"}
            records.append(make_record(method, subject, cell, verdict=verdict, effect=effect, affinity=affinity))
    folder = tmp_path_factory.mktemp("board")
    write_files(folder, records, f"harness leaderboard {HOSTILE}")
    return folder / "board.html"


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    """The reloaded page, 1280 pixels wide; it must log no error and request nothing but itself."""
    _shape(browser, 1280, "light")
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(page.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in requested if not url.startswith(("file://", "data:"))] == []
    assert browser.execute_script("return window.hacked") is None


def _shape(browser: Any, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme_feature]})


def _methods(opened: Any) -> list[str]:
    cells = opened.find_elements(By.CSS_SELECTOR, "section.board tbody tr:not(.incomplete) td:nth-child(2)")
    return [cell.text for cell in cells]


def _shows(opened: Any, methods: list[str]) -> bool:
    """Whether the page shows these rows once it has drawn them."""
    try:
        return bool(WebDriverWait(opened, 5).until(lambda driver: _methods(driver) == methods))
    except TimeoutException as error:
        raise AssertionError(f"{_methods(opened)} are shown, not {methods}") from error


def _header(opened: Any, name: str) -> Any:
    heads = opened.find_elements(By.CSS_SELECTOR, "section.board thead th")
    return next(head for head in heads if head.text.strip() == name)


def test_the_page_sorts_by_click_and_by_keyboard(opened: Any) -> None:
    assert _methods(opened)[0] == "first"
    _header(opened, "effect").click()
    assert _shows(opened, [HOSTILE, "third", "second", "first"])
    focusable = _header(opened, "effect").find_elements(By.CSS_SELECTOR, "[tabindex='0'], [role='button']")
    (focusable or [_header(opened, "effect")])[0].send_keys(Keys.ENTER)
    assert _shows(opened, ["first", "second", "third", HOSTILE])


def test_the_page_filters_by_words_and_by_verdicts(opened: Any) -> None:
    search = opened.find_element(By.CSS_SELECTOR, "input[type='search']")
    search.send_keys("second")
    assert _shows(opened, ["second"])
    search.send_keys(Keys.BACKSPACE * len("second"))
    assert _shows(opened, ["first", "third", HOSTILE, "second"])
    chip = opened.find_element(By.CSS_SELECTOR, "button[data-verdict='weak_pass']")
    chip.send_keys(Keys.SPACE)
    assert _shows(opened, ["third"])
    assert chip.get_attribute("aria-pressed") == "true"
    opened.find_element(By.CSS_SELECTOR, "button[data-verdict='pass']").click()
    assert _shows(opened, ["first", "third"])
    chip.click()
    assert _shows(opened, ["first"])


def test_an_opened_row_shows_its_tasks_and_their_commands(opened: Any) -> None:
    opened.find_element(By.CSS_SELECTOR, "section.board tbody td.dtr-control").click()
    details = opened.find_element(By.CSS_SELECTOR, "tr.child").text
    assert "s0 · synthetic_induction (successor) · zero: pass. because; target logit -1.00" in details
    assert "harness run subject=s1 affinity=a1" in details


def test_a_hostile_name_is_shown_as_text_in_opened_rows(opened: Any) -> None:
    for control in opened.find_elements(By.CSS_SELECTOR, "section.board tbody td.dtr-control"):
        control.click()
    assert HOSTILE in _methods(opened)
    assert opened.find_elements(By.CSS_SELECTOR, "img") == []


@pytest.mark.parametrize("width", [1280, 390])
def test_verdicts_are_visible_at_every_width(opened: Any, width: int) -> None:
    """Each verdict that a row got is a chip in sight, whatever else does not fit."""
    _shape(opened, width, "light")
    opened.refresh()
    cells = opened.find_elements(By.CSS_SELECTOR, "section.board tbody tr:not(.incomplete) td .chip")
    shown = [cell.text for cell in cells if cell.is_displayed()]
    assert shown == ["2 pass", "2 weak pass", "2 null", "2 null"]
    assert all(cell.rect["x"] + cell.rect["width"] <= width for cell in cells)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_page_fits_its_window_and_follows_the_system_theme_until_the_reader_chooses_one(
    opened: Any, width: int, scheme: str, dark: bool
) -> None:
    _shape(opened, width, scheme)
    opened.refresh()
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width

    def brightness() -> int:
        ground = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, ground[4:-1].split(",")))

    assert (brightness() < 200) == dark
    opened.find_element(By.ID, "theme").click()
    assert (brightness() < 200) != dark


def test_the_page_is_one_small_file(page: Path) -> None:
    assert page.stat().st_size < 1_500_000
