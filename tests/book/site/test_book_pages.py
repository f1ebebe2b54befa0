"""The built pages, as a reader without a network meets them: on a desk, at night, on a phone."""

from __future__ import annotations

from importlib.resources import files
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
CHAPTERS = [name for name in PAGES if name.startswith("chapters/")]
HEAVIEST = 4_000_000  # bytes of a chapter with all that it loads: a second on 32 Mbit/s
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


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
        assert name not in CHAPTERS or 100_000 < opened.weight() < HEAVIEST


def thin_out_code(page) -> None:
    """Leave one token of a kind: they all look the same, and axe would look at thousands."""
    page.evaluate(
        """() => {
          const seen = new Set();
          for (const part of document.querySelectorAll(":is(.highlight, dt.sig) span[class]")) {
            if (seen.has(part.className)) part.replaceWith(part.textContent);
            seen.add(part.className);
          }
        }"""
    )


def accessibility_faults(page) -> list[str]:
    """What axe-core calls serious or critical: rule, element and reason."""
    violations = page.evaluate(
        "axe.run(document, {resultTypes: ['violations'], preload: false})"
        ".then((result) => result.violations)"
    )
    return [
        f"{found['id']}: {node['html'][:120]}: {node['failureSummary'][:300]}"
        for found in violations
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_serious_accessibility_fault(visit, name):
    with visit(name) as opened:
        opened.page.evaluate(AXE)
        # A colour on its way from light to dark is neither.
        opened.page.add_style_tag(content="* { transition: none !important; }")
        thin_out_code(opened.page)
        for mode in ("light", "dark"):
            opened.page.evaluate(
                "(mode) => Object.assign(document.documentElement.dataset, {mode, theme: mode})",
                mode,
            )
            assert accessibility_faults(opened.page) == [], mode


def test_the_accessibility_check_finds_faults(visit):
    with visit("book/intro.html") as opened:
        opened.page.evaluate(AXE)
        opened.page.evaluate(
            "document.querySelector('article').innerHTML += "
            '\'<p style="color: #aaa; background: #fff">pale</p><img src="">\''
        )
        rules = {fault.split(":")[0] for fault in accessibility_faults(opened.page)}
        assert {"color-contrast", "image-alt"} <= rules


def test_figures_lie_on_black_in_the_dark(visit):
    """The ink of figures has its contrast on white and on black, not on the theme's dark grey."""
    with visit("book/data-card.html", dark=True) as opened:
        grounds = opened.page.evaluate(
            "[...document.querySelectorAll('article figure img')]"
            ".map((image) => getComputedStyle(image).backgroundColor)"
        )
        assert set(grounds) == {"rgb(0, 0, 0)"}


@pytest.mark.parametrize("name", [name for name in PAGES if "/" in name])
def test_every_picture_is_a_captioned_numbered_figure(site, name):
    page = BeautifulSoup((site / name).read_text(), "html.parser").select_one("article")
    assert page is not None
    loose = [i.get("alt") for i in page.select("img") if not i.find_parent("figure")]
    assert loose == []
    for figure in page.select("figure"):
        assert figure.select_one("figcaption .caption-number"), str(figure)[:200]
        assert len(figure.select_one("figcaption .caption-text").get_text(strip=True)) > 20


@pytest.mark.parametrize("name", PAGES)
def test_page_says_that_nothing_here_is_a_medical_device(site, name):
    footer = BeautifulSoup((site / name).read_text(), "html.parser").select_one(
        "footer.bd-footer-content, .bd-footer-content__inner"
    )
    assert footer is not None and "Not a medical device" in footer.get_text(" ", strip=True)


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


def test_search_works_from_a_usb_stick(visit, site):
    with visit(f"{(site / 'search.html').resolve().as_uri()}?q=effective+rank") as opened:
        opened.page.wait_for_selector("#search-results li a")
        assert "glossary" in opened.page.locator("#search-results").inner_html()
        assert opened.problems == []


def test_a_glossary_term_shows_its_entry_when_hovered(visit):
    with visit("book/glossary.html") as opened:
        term = opened.page.locator("article a[href='#term-encoder']").first
        term.scroll_into_view_if_needed()
        term.hover()
        preview = opened.page.locator(".tippy-box")
        preview.wait_for(state="visible")
        assert "turns an image into a feature vector" in preview.inner_text()
        assert opened.problems == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_opens_on_colab_and_downloads_as_a_notebook(site, name):
    page = BeautifulSoup((site / name).read_text(), "html.parser")
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    path = repository["url"].removeprefix("https://github.com/")
    notebook = name.replace(".html", ".ipynb")
    colab = page.select_one('a[href^="https://colab.research.google.com/"]')
    assert colab["href"] == (
        f"https://colab.research.google.com/github/{path}/blob/{repository['branch']}/{notebook}"
    )
    downloads = [a["href"] for a in page.select("a.btn-download-notebook-button")]
    assert downloads == [f"../_sources/{notebook}"]
    assert (site / "_sources" / notebook).read_bytes() == (ROOT / notebook).read_bytes()


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
