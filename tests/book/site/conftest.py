"""The built book on a local server, and a Chromium that is cut off from everything else."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[3]
# SCXR_SITE: another folder with a built book, for instance one that was downloaded.
SITE = Path(os.environ.get("SCXR_SITE", ROOT / "_build" / "html"))
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and keeps silent."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: a failed request shows in the test that caused it."""


@pytest.fixture(scope="session")
def site() -> Path:
    """Folder of the built book."""
    if not (SITE / "index.html").is_file():
        pytest.skip("the book is not built; run: make book")
    return SITE


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Address of a server of the built book on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Visit:
    """A page that has been opened and has settled, with everything that went wrong on the way."""

    def __init__(self, page: Page, allowed: tuple[str, ...]) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        page.on("console", self._on_console)
        page.on("requestfailed", lambda r: self.problems.append(f"request failed: {r.url}"))
        page.on("response", self._on_response)
        page.route("**/*", lambda route: self._on_request(route, allowed))

    def _on_console(self, message) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _on_response(self, response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def _on_request(self, route, allowed: tuple[str, ...]) -> None:
        if route.request.url.startswith(allowed):
            route.continue_()
            return
        self.problems.append(f"left the book: {route.request.url}")
        route.abort()

    def weight(self) -> int:
        """Bytes of the page and of all that it loaded, as they are sent without compression."""
        return self.page.evaluate(
            "performance.getEntries().reduce((sum, e) => sum + (e.encodedBodySize ?? 0), 0)"
        )

    def open(self, url: str) -> None:
        """Go there and wait until mathematics, fonts and widgets are in place."""
        self.page.goto(url, wait_until="load")
        self.page.evaluate("window.MathJax?.startup?.promise")
        self.page.evaluate("document.fonts.ready.then(() => true)")
        self.page.wait_for_function(
            "[...document.querySelectorAll('.widget-host')]"
            ".every((host) => host.dataset.ready || host.textContent)"
        )


@pytest.fixture
def visit(chromium: Browser, address: str):
    """Open a page of the book: `with visit("book/intro.html", dark=True) as visit: ...`."""

    @contextmanager
    def open_page(name: str, *, dark: bool = False, phone: bool = False) -> Iterator[Visit]:
        mode = "dark" if dark else "light"
        context = chromium.new_context(
            viewport=PHONE if phone else DESKTOP, color_scheme=mode, is_mobile=phone
        )
        context.add_init_script(
            f"try {{ localStorage.mode = localStorage.theme = '{mode}'; }} catch {{}}"
        )
        visited = Visit(context.new_page(), (address + "/", "file://"))
        visited.open(name if "://" in name else f"{address}/{name}")
        yield visited
        context.close()

    return open_page
