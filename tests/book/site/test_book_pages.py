"""The built pages, as a reader without a network meets them: on a desk, at night, on a phone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
import yaml
from bs4 import BeautifulSoup

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[3]
SHOTS = ROOT / "_build" / "screenshots"


def page_names() -> list[str]:
    """Every page of the table of contents, and those that Sphinx adds."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    entries = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    return [f"{name}.html" for name in [contents["root"], *entries, "genindex", "search"]]


PAGES = page_names()


def photograph(visit, name: str, kind: str) -> None:
    """Keep a picture of the whole page for people to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    stem = name.removesuffix(".html").replace("/", "-")
    visit.page.screenshot(path=SHOTS / f"{stem}-{kind}.png", full_page=True)


def mute_pictures(page) -> list[str]:
    """Pictures without alternative text, or with a file name for one."""
    return page.evaluate(
        "[...document.images].filter((i) => i.getAttribute('role') !== 'presentation')"
        ".filter((i) => !i.alt.trim() || /\\.(png|svg|jpe?g|webp)$/.test(i.alt))"
        ".map((i) => `${i.alt} ${i.src.slice(0, 120)}`)"
    )


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("kind", ["light", "dark"])
def test_page_loads_cleanly_from_the_book_alone(visit, name, kind):
    with visit(name, dark=kind == "dark") as opened:
        photograph(opened, name, kind)
        assert opened.page.locator("html").get_attribute("data-theme") == kind
        assert opened.page.locator("mjx-merror, .math .problematic").count() == 0
        assert mute_pictures(opened.page) == []
        assert opened.problems == []


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(visit, name):
    with visit(name, phone=True) as opened:
        photograph(opened, name, "phone")
        width = opened.page.evaluate("document.documentElement.scrollWidth")
        wide = opened.page.evaluate(
            "[...document.querySelectorAll('.bd-article *')]"
            ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
            ".map((e) => e.tagName + '.' + e.className).slice(0, 5)"
        )
        assert width <= 390, f"{name} is {width} px wide; look at {wide}"
        assert opened.problems == []


def test_mathematics_is_set(visit):
    with visit("chapters/03_contrast_and_collapse.html") as opened:
        assert opened.page.locator("mjx-container").count() > 0


def test_search_finds_a_term(visit):
    with visit("search.html?q=effective+rank") as opened:
        opened.page.wait_for_selector("#search-results li a")
        assert "glossary" in opened.page.locator("#search-results").inner_html()
        assert opened.problems == []


def test_colab_button_opens_the_notebook(visit):
    with visit("chapters/01_scarcity.html") as opened:
        link = opened.page.locator('a[href^="https://colab.research.google.com/"]').first
        repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
        path = repository.removeprefix("https://github.com/")
        assert link.get_attribute("href") == (
            f"https://colab.research.google.com/github/{path}/blob/main/chapters/01_scarcity.ipynb"
        )


def local_target(site: Path, page: Path, link: str) -> tuple[Path, str] | None:
    """File and anchor that `link` on `page` leads to; None where it leaves the book."""
    parts = urlparse(link)
    if parts.scheme or parts.netloc:
        return None
    path, anchor = urldefrag(unquote(link))
    path = path.split("?")[0]
    return ((page.parent / path).resolve() if path else page), anchor


def test_no_link_is_dead(site):
    files = [p for p in site.resolve().rglob("*.html") if "_static" not in p.parts]
    pages = {path: BeautifulSoup(path.read_text(), "html.parser") for path in files}
    anchors = {
        path: {tag.get("id") or tag.get("name") for tag in soup.find_all(attrs={"id": True})}
        | {tag["name"] for tag in soup.find_all("a", attrs={"name": True})}
        for path, soup in pages.items()
    }
    dead = []
    for path, soup in pages.items():
        for tag in soup.find_all(["a", "img", "script", "link"]):
            link = tag.get("href") or tag.get("src")
            found = local_target(site, path, link) if link else None
            if found is None:
                continue
            target, anchor = found
            missing_anchor = anchor and target in anchors and anchor not in anchors[target]
            if not target.exists() or missing_anchor:
                dead.append(f"{path.relative_to(site.resolve())} -> {link}")
    assert sorted(set(dead)) == []
