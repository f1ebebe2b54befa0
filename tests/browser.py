"""The system's Chromium, started once for all tests that look at a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


# One for the whole session: a process takes one Playwright driver, so that no second fixture may
# start another while this one lives. `tests/conftest.py` offers it to every folder.
@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium of the system."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no browser: install chromium")
    with sync_playwright() as playwright:
        # Without the sandbox, since containers and root cannot have one; only our own pages load.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
