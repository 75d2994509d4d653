"""The report in a real browser (Debian's chromium): no error, nothing fetched, and what it does works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import Opened, needs_browser, opening
from tests.report.made import NASTY, made_run
from tuneoff.report.page import write_report

pytestmark = needs_browser


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = made_run(tmp_path_factory.mktemp("browser") / "run", dialogues=150, extra=NASTY)
    write_report(folder)
    with opening(Path(folder.report).resolve().as_uri()) as report:
        yield report


def shown(page: Page) -> int:
    return page.locator("article:visible").count()


def test_it_opens_without_a_complaint_and_fetches_nothing(opened: Opened) -> None:
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.endswith("/report.html")] == []
    assert opened.page.title().endswith("full fine-tuning or a few weights?")  # no text of a dialogue was executed
    assert opened.page.locator("svg").count() == 12
    assert all(box["height"] > 50 for svg in opened.page.locator("svg").all() if (box := svg.bounding_box()))


def test_the_filter_finds_words_and_worst_arms(opened: Opened) -> None:
    page = opened.page
    assert shown(page) == 100
    page.fill("#words", "test_1 ")
    assert 0 < shown(page) < 100
    page.fill("#words", "no dialogue says this")
    assert shown(page) == 0
    assert page.inner_text("#found") == "0 of 100 examples"
    page.fill("#words", "")
    page.select_option("#weak", "full")
    worst = page.locator("article:visible")
    assert 0 < worst.count() < 100
    assert {element.get_attribute("data-worst") for element in worst.all()} == {"full"}
    page.select_option("#weak", "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(opened: Opened, scheme: str) -> None:
    page = opened.page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = [sum(int(part) for part in colour[4:-1].split(",")) for colour in (ink, paper)]
    assert abs(light[0] - light[1]) > 500
    assert (light[0] > light[1]) == (scheme == "dark")


def test_print_shows_dialogues_without_controls(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("#words").is_visible()
    assert opened.page.locator("article").first.is_visible()
    opened.page.emulate_media(media="screen")


def test_every_control_is_reached_by_keyboard_and_has_a_name(opened: Opened) -> None:
    page = opened.page
    names = page.locator(".controls label").all_inner_texts()
    assert [name.split()[0] for name in names] == ["Search", "Worst"]
    page.locator("#words").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "weak"
    assert all(svg.get_attribute("aria-label") for svg in page.locator("svg").all())
