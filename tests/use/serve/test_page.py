"""The page in a real browser (Debian's chromium): paste, pick, compare, and what is too long."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser import Opened, needs_browser, opening
from tests.use.conftest import ARMS
from tuneoff.records import Prediction

pytestmark = needs_browser
NASTY = "#Person1#: <img src=x onerror=alert(1)></textarea><script>document.title='bad'</script>"


@pytest.fixture(scope="module")
def opened(client: httpx.Client) -> Iterator[Opened]:
    led_here = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    with opening(str(client.base_url), led_here) as opened:
        expect(opened.page.locator("#examples button")).to_have_count(5)
        yield opened


def card(page: Page, arm: str) -> str:
    return page.locator(f"#results article[aria-label='{arm}']").inner_text()


def write(page: Page) -> None:
    page.get_by_label("dialogue", exact=True).press("Control+Enter")
    expect(page.locator("#status")).to_have_text("done")


def test_it_begins_empty(opened: Opened) -> None:
    expect(opened.page.get_by_role("button", name="Write")).to_be_disabled()
    expect(opened.page.get_by_text("Nothing yet: paste an input")).to_be_visible()
    assert opened.page.title() == "run: side by side"


def test_a_pasted_input_is_compared(opened: Opened, predictions: dict[str, list[Prediction]]) -> None:
    page, pasted = opened.page, predictions["full"][1].input
    page.get_by_label("dialogue", exact=True).fill(pasted)
    write(page)
    assert [article.get_attribute("aria-label") for article in page.locator("#results article").all()] == ARMS
    for arm in ARMS:
        shown = card(page, arm)
        assert (predictions[arm][1].prediction or "(empty)") in shown
        assert " s" in shown and " read, " in shown and " written" in shown


def test_a_picked_one_stands_beside_its_references(opened: Opened, predictions: dict[str, list[Prediction]]) -> None:
    page, picked = opened.page, predictions["full"][2]
    page.get_by_role("button", name=picked.input.splitlines()[0]).nth(0).click()
    shown = page.get_by_label("dialogue", exact=True).input_value()
    example = next(p for p in predictions["full"] if p.input == shown)
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#status")).to_have_text("done")
    references = page.locator("#results article[aria-label='reference'] .text").all_inner_texts()
    assert references == example.references
    page.get_by_label("dialogue", exact=True).fill(shown + " And more.")
    assert page.locator("#examples button[aria-pressed='true']").count() == 0


def test_what_is_too_long_is_told(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("dialogue", exact=True).fill("#Person1#: And then I said, no more.\n" * 80)
    write(page)
    for arm in ARMS:
        assert "Too long: the model read 512 of " in card(page, arm)
    page.get_by_label("dialogue", exact=True).fill("x" * 60_000)
    expect(page.get_by_role("alert")).to_have_text("dialogue has 60,000 characters; at most 50,000 are taken.")
    expect(page.get_by_role("button", name="Write")).to_be_disabled()


def test_text_is_never_run_and_nothing_else_is_fetched(opened: Opened, client: httpx.Client) -> None:
    page = opened.page
    page.get_by_label("dialogue", exact=True).fill(NASTY)
    write(page)
    assert page.title() == "run: side by side"
    assert opened.complaints == []
    assert all(url.startswith(str(client.base_url)) for url in opened.requests)


def test_a_phone_needs_no_sideways_scrolling(opened: Opened) -> None:
    page = opened.page
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_another_host_shows_no_page(opened: Opened, client: httpx.Client) -> None:
    """A browser that was led here by a foreign name (DNS rebinding)."""
    page = opened.page.context.browser.new_page()  # type: ignore[union-attr]
    answer = page.goto(f"http://evil.example:{client.base_url.port}/")
    assert answer is not None and answer.status == 421
    assert "no host 'evil.example:" in page.inner_text("body")


def test_a_server_that_has_gone_is_told(opened: Opened) -> None:
    page = opened.page
    page.route("**/api/generate", lambda route: route.abort())
    page.get_by_label("dialogue", exact=True).fill("#Person1#: Hello.")
    write(page)
    assert "The server does not answer. Is tuneoff serve still running?" in card(page, "lora")
