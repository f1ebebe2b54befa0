"""Every widget can be read and used: contrast, phone, labels, keyboard, announcements."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

pytestmark = pytest.mark.browser


def status(page):
    return page.locator(".scxr-status")


WIDGETS = ("augmentation", "spectra", "reconstruction", "gradcam", "memory")


@pytest.fixture(params=WIDGETS)
def widget(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_its_paper(widget, show, theme):
    """Contrast of WCAG 2.1 level AA, 4.5 to 1, for every piece of text of the widget."""
    page = show(widget, theme=theme)
    worst = page.evaluate(
        """() => {
          const channel = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
          const light = (rgb) => rgb.map((v) => channel(v / 255))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const colour = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
          const paper = (node) => {
            for (; node; node = node.parentElement) {
              const [r, g, b, a = 1] = colour(getComputedStyle(node).backgroundColor);
              if (a === 1 && r !== undefined) return [r, g, b];
            }
            return [255, 255, 255];
          };
          let worst = 99;
          for (const node of document.querySelectorAll(".scxr-widget *")) {
            const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
            if (!own || !node.getClientRects().length || node.matches("option")) continue;
            const style = getComputedStyle(node);
            const ink = colour(node instanceof SVGElement ? style.fill : style.color).slice(0, 3);
            const [a, b] = [light(ink), light(paper(node))];
            worst = Math.min(worst, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
          }
          return worst;
        }"""
    )
    assert 4.5 <= worst < 99


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(widget, show, theme):
    found = Axe().run(show(widget, theme=theme)).response["violations"]
    grave = [v for v in found if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in grave] == []


def test_it_fits_a_phone(widget, show):
    page = show(widget, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_every_control_has_a_label_and_is_reached_by_tab(widget, show):
    page = show(widget)
    named = page.evaluate(
        """() => [...document.querySelectorAll(".scxr-widget :is(input, select, button)")]
             .filter((c) => c.checkVisibility())
             .map((c) => c.labels?.[0]?.textContent.trim() || c.textContent.trim())"""
    )
    assert named and all(named)
    page.locator(".scxr-widget :is(input, select)").first.focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    tabbable = page.evaluate(
        """() => [...document.querySelectorAll(".scxr-widget :is(input, select, button)")]
             .filter((c) => c.checkVisibility() && !c.disabled && (c.type !== "radio" || c.checked))
             .slice(1).map((c) => c.id || c.textContent)"""
    )
    assert set(tabbable) <= reached


def test_what_changes_is_announced(widget, show):
    page = show(widget)
    assert status(page).get_attribute("aria-live") == "polite"
    assert page.locator(".scxr-widget").get_attribute("data-widget")
    unnamed = page.locator(
        '.scxr-stage canvas:not([aria-label]), svg[role="img"]:not([aria-label])'
    )
    assert [node for node in unnamed.all() if node.is_visible()] == []
