"""A real headless Chromium with a page of ours, which writes down what it says and asks for."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Page, ViewportSize, sync_playwright

LAPTOP, PHONE = {"width": 1366, "height": 850}, {"width": 390, "height": 844}
LIMIT = 120.0  # seconds for what a busy machine may take long for: it ends what hangs, and measures nothing
SHOTS = os.environ.get("CPP_SCREENSHOTS")  # folder for pictures that a person looks at


@dataclass
class Tab:
    """An open page. `said` are console messages and errors, `asked` addresses that it wanted but its own."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def until(self, holds: str, given: object = None) -> None:
        """Wait until JavaScript says so: the page's policy (no eval) refuses `wait_for_function` a second look."""
        end = time.monotonic() + LIMIT
        while not self.page.evaluate(holds, given):
            assert time.monotonic() < end, f"never came: {holds}"
            self.page.wait_for_timeout(20)

    def shot(self, name: str) -> None:
        """Keep a picture of what is in view, where somebody wants it."""
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png")


@contextmanager
def opened(file: Path, size: dict[str, int] | None = None, **how: Any) -> Iterator[Tab]:
    """The page of a file; skips the test where Chromium is not installed."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=1000 * LIMIT)
        tab = Tab(browser.new_page(viewport=cast("ViewportSize", size or LAPTOP), **how))
        tab.page.set_default_timeout(1000 * LIMIT)
        tab.page.on("console", lambda message: tab.said.append(message.text))
        tab.page.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.page.on("request", lambda request: tab.asked.append(request.url))
        tab.page.goto(file.as_uri())
        yield tab
        tab.asked = [url[:80] for url in tab.asked if url.split("#")[0] != file.as_uri() and url[:5] != "data:"]
        browser.close()


def look(folder: Path, name: str, most: int) -> None:
    """The page of a finished run, as a person would go through it, with pictures of what there is to see."""
    for scheme in ("light", "dark"):
        with opened(folder / "report.html", color_scheme=scheme) as tab:
            for part in ("run", "map", "clusters", "layers", "labels", "rejected", "training"):
                # a run without coarser layers has no such part
                optional = "?" if part == "layers" else ""
                tab.page.evaluate(f"document.getElementById('{part}'){optional}.scrollIntoView()")
                tab.page.wait_for_timeout(200)
                tab.shot(f"{name}-{scheme}-{part}")
            tab.page.fill("#search", tab.page.evaluate("document.querySelector('.card').dataset.words.split(' ')[0]"))
            assert 1 <= tab.page.locator(".card").count() < most
        assert tab.said == tab.asked == []
