"""The page as a colleague sees it: on a phone, in the dark, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_reads_on_a_phone_and_asks_for_nothing(
    chromium: Browser, page: str, tmp_path: Path, scheme: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    problems: list[str] = []
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    opened = context.new_page()
    opened.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
    opened.on(
        "request",
        lambda r: None if r.url.startswith(("file:", "data:")) else problems.append(r.url),
    )
    opened.goto(file.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    paper = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    clicked = opened.locator("a[download='results.csv']")
    with opened.expect_download() as download:
        clicked.click()
    assert Path(download.value.path()).read_text(encoding="utf-8").startswith("init,finding,shots")
    context.close()
    assert problems == []


def test_paper_cuts_nothing_off(chromium: Browser, page: str, tmp_path: Path) -> None:
    """A4 without its margins is 718 pixels wide; paper does not scroll."""
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    context = chromium.new_context(viewport={"width": 718, "height": 1000}, color_scheme="dark")
    opened = context.new_page()
    opened.emulate_media(media="print")
    opened.goto(file.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= 718
    ink = opened.evaluate("getComputedStyle(document.body).color")
    context.close()
    assert ink == "rgb(0, 0, 0)"


def test_nothing_keeps_a_reader_out(chromium: Browser, page: str, tmp_path: Path) -> None:
    """axe-core's rules; it needs to run a script, which the page itself forbids."""
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    context = chromium.new_context(bypass_csp=True)
    opened = context.new_page()
    opened.goto(file.as_uri())
    found = Axe().run(opened)
    context.close()
    assert found.violations_count == 0, found.generate_report()
