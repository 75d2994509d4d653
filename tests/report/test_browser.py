"""The report in a real browser (Debian's chromium): no error, nothing fetched, and what it does works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
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
    assert opened.page.title().endswith("full fine-tuning vs PEFT")  # no text of a dialogue was executed
    drawn = opened.page.locator("svg:visible")
    assert drawn.count() == 5 + 3 + 1 + 1 + 1 + 3  # costs, learning, memory, time, scores, pairs
    assert all(box["height"] > 50 for svg in drawn.all() if (box := svg.bounding_box()))


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


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_it_keeps_to_wcag(opened: Opened, tmp_path: Path, width: int, scheme: str) -> None:
    folder = made_run(tmp_path, dialogues=20, extra=NASTY)  # the examiner takes its time over every element
    write_report(folder)
    context = opened.page.context.browser.new_context(
        bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    page = context.new_page()
    page.goto(folder.report.as_uri())
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = Axe().run(page, options={"runOnly": rules}).response
    context.close()
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []
    assert len(found["passes"]) > 20


@pytest.mark.parametrize("width", [1280, 390])
def test_the_text_of_charts_can_be_read(opened: Opened, width: int) -> None:
    page = opened.page
    page.set_viewport_size({"width": width, "height": 800})
    sizes = page.evaluate(
        """[...document.querySelectorAll("svg text")].filter((text) => text.checkVisibility()).map((text) =>
        parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
    )
    assert len(sizes) > 100
    assert min(sizes) >= 11


def test_every_entry_of_the_contents_leads_to_a_heading(opened: Opened) -> None:
    page = opened.page
    entries = page.locator("nav a")
    places = [entry.get_attribute("href") for entry in entries.all()]
    assert entries.all_inner_texts() == page.locator("h2").all_inner_texts()
    assert places == [f"#{heading.get_attribute('id')}" for heading in page.locator("h2").all()]
    assert len(set(places)) == len(places) > 8


def test_the_axes_of_quality_against_cost_are_chosen(opened: Opened) -> None:
    page = opened.page
    block = page.locator(".choice")
    block.get_by_label("Score").select_option("ROUGE-L")
    block.get_by_label("Cost").select_option("training time")
    titles = [svg.get_attribute("aria-label") for svg in block.locator("svg:visible").all()]
    assert len(titles) == 1
    assert re.match(r"ROUGE-L against training time\. full: training time 1m 40s, ROUGE-L \d\d\.\d\d, 95 %", titles[0])
    block.get_by_label("Score").select_option("ROUGE-1")
    block.get_by_label("Cost").select_option("every cost")
    assert block.locator("svg:visible").count() == 5


def test_the_table_of_arms_is_sorted_by_the_head_that_is_pressed(opened: Opened) -> None:
    table = opened.page.locator("table.sorted")

    def order() -> list[str]:
        return table.locator("tbody th").all_inner_texts()

    assert order() == ["original", "full", "lora"]
    head = table.get_by_role("button", name="peak memory of training")
    head.click()
    assert order() == ["full", "lora", "original"]  # 900 and 300 MiB; the original trains nothing
    head.click()
    assert order() == ["lora", "full", "original"]
    assert table.locator("th[aria-sort]").all_inner_texts() == ["peak memory of training"]
    table.get_by_role("button", name="ROUGE-1").click()
    assert order() == ["full", "lora", "original"]


def test_only_what_can_be_used_is_a_tab_stop(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 1280, "height": 800})
    stops = opened.page.evaluate(
        """[...document.querySelectorAll("[tabindex]")].filter((part) =>
        part.scrollWidth <= part.clientWidth && part.scrollHeight <= part.clientHeight).length"""
    )
    assert stops == 0


def test_an_example_and_the_answers_of_all_arms_fit_on_one_screen(opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 1280, "height": 800})
    heights = [box["height"] for article in opened.page.locator("article").all() if (box := article.bounding_box())]
    assert len(heights) == 100
    assert sorted(heights)[90] < 800


def test_print_is_short_and_has_the_recipe(opened: Opened) -> None:
    pages = opened.page.pdf(format="A4").count(b"/Type /Page\n")
    assert 4 <= pages <= 12
    opened.page.emulate_media(media="print")
    assert opened.page.locator("pre", has_text="examples_per_step").is_visible()
    opened.page.emulate_media(media="screen")


def test_print_shows_dialogues_without_controls(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    assert not opened.page.locator("#words").is_visible()
    assert opened.page.locator("article").first.is_visible()
    opened.page.emulate_media(media="screen")


def test_every_control_is_reached_by_keyboard_and_has_a_name(opened: Opened) -> None:
    page = opened.page
    names = page.locator("[role=search] label").all_inner_texts()
    assert [name.split()[0] for name in names] == ["Search", "Worst"]
    page.locator("#words").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "weak"
    assert all(svg.get_attribute("aria-label") for svg in page.locator("svg").all())
