"""A page in a real browser (Debian's chromium), with all that the browser complained of or asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; `make test` installs it where it can")


@dataclass
class Opened:
    """A page and what was noted of it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def opening(address: str, *more: str) -> Iterator[Opened]:
    """The page at `address`; `more` are options of the browser."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", *more]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        opened = Opened(browser.new_page())
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(address)
        yield opened
        browser.close()
