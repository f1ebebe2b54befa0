"""The widgets of the built pages play without a kernel and answer a hand."""

from __future__ import annotations

from pathlib import Path

import anywidget
import pytest

import scxr.widgets

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[3]
CHAPTERS = [f"chapters/{p.stem}.html" for p in sorted((ROOT / "chapters").glob("[0-9]*.py"))]
PICTURE = ".scxr-widget canvas, .scxr-widget svg, .scxr-widget img"


def widget_names() -> set[str]:
    """The names that saved state carries for the widgets of the package."""
    members = [getattr(scxr.widgets, name) for name in getattr(scxr.widgets, "__all__", [])]
    classes = [m for m in members if isinstance(m, type) and issubclass(m, anywidget.AnyWidget)]
    return {f"{cls.__module__}.{cls.__name__}" for cls in classes}


def try_controls(page, host) -> list[str]:
    """Use each control of a widget once; names of those that changed its picture."""
    picture = host.locator(".scxr-widget").first
    effective = []
    controls = host.locator("input, select, button")
    for index in range(controls.count()):
        control = controls.nth(index)
        if not control.is_visible() or not control.is_enabled():
            continue
        before = picture.screenshot(animations="disabled")
        name = use(control)
        page.wait_for_timeout(150)
        if picture.screenshot(animations="disabled") != before:
            effective.append(name)
    return effective


def use(control) -> str:
    """Move, choose or press, as the kind of control asks for; returns what was done."""
    tag = control.evaluate("(e) => e.tagName.toLowerCase() + ' ' + (e.type ?? '')")
    if "range" in tag:
        control.focus()
        at_end = control.evaluate("(e) => Number(e.value) >= Number(e.max)")
        control.press("ArrowLeft" if at_end else "ArrowRight")
    elif tag.startswith("select"):
        count = control.locator("option").count()
        chosen = control.evaluate("(e) => e.selectedIndex")
        control.select_option(index=(chosen + 1) % count)
    else:
        control.click()
    return f"{tag} {control.get_attribute('aria-label') or ''}".strip()


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_widget_of_a_chapter_shows_and_answers(visit, name):
    with visit(name) as opened:
        views = opened.page.locator('script[type="application/vnd.jupyter.widget-view+json"]')
        hosts = opened.page.locator('.widget-host[data-ready="true"]')
        assert hosts.count() == views.count()
        for index in range(hosts.count()):
            host = hosts.nth(index)
            host.scroll_into_view_if_needed()
            pictures = host.locator(PICTURE)
            assert pictures.count() and pictures.first.is_visible(), f"widget {index} shows nothing"
            assert try_controls(opened.page, host), f"no control of widget {index} does anything"
        assert opened.problems == []


def test_every_widget_of_the_package_is_in_the_book(visit):
    shown = set()
    for name in CHAPTERS:
        with visit(name) as opened:
            shown |= set(
                opened.page.evaluate(
                    "Object.values(JSON.parse(document.querySelector("
                    "'script[type=\"application/vnd.jupyter.widget-state+json\"]')"
                    "?.textContent ?? '{\"state\": {}}').state)"
                    ".map((model) => model.state._anywidget_id).filter(Boolean)"
                )
            )
    assert widget_names() <= shown


def test_chapter_opens_by_double_click(visit, site):
    """From a file, without any server: mathematics, style and widgets are there."""
    with visit(f"file://{site}/chapters/03_contrast_and_collapse.html") as opened:
        hosts = opened.page.locator(".widget-host")
        assert hosts.count() > 0
        assert hosts.count() == opened.page.locator('.widget-host[data-ready="true"]').count()
        assert opened.page.locator("mjx-container").count() > 0
        assert opened.problems == []
