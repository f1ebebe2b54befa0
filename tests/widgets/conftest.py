"""Small widgets made by the real code, and a Chromium that sees nothing but a page of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import widget_examples
from playwright.sync_api import Browser, Page
from widget_examples import PATCH, SIZE, bump, monitor_rows

from scxr.memory import grid
from scxr.widgets import (
    AugmentationWidget,
    GradCamWidget,
    MemoryWidget,
    ReconstructionWidget,
    SpectrumWidget,
)
from scxr.widgets.base import CourseWidget

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "book" / "assets" / "widget-host.js"
LIVE_HOST = Path(__file__).with_name("live_host.js")


# ---------------------------------------------------------------- what the widgets show


@pytest.fixture(scope="session")
def chests() -> dict[str, Any]:
    return widget_examples.chests()


@pytest.fixture
def augmentation(chests) -> AugmentationWidget:
    return widget_examples.augmentations(chests)


@pytest.fixture
def runs() -> dict[str, pd.DataFrame]:
    return {"collapsing": monitor_rows(0, 3.0), "healthy": monitor_rows(1, 0.1)}


@pytest.fixture
def spectra(runs) -> SpectrumWidget:
    return SpectrumWidget(runs)


@pytest.fixture
def reconstructions(chests) -> dict[str, Any]:
    """Three epochs of predictions that approach the truth, under two mask ratios."""
    source = np.random.default_rng(0)
    grid = SIZE // PATCH
    masks = np.stack([source.random((2, grid, grid)) < ratio for ratio in (0.4, 0.7)])
    noise = source.normal(size=(3, 2, 2, SIZE, SIZE)).astype(np.float32)
    patches = chests["images"].reshape(2, grid, PATCH, grid, PATCH).astype(np.float32) / 255
    mean = patches.mean(axis=(2, 4), keepdims=True)
    std = np.sqrt(patches.var(axis=(2, 4), ddof=1, keepdims=True) + 1e-6)
    target = ((patches - mean) / std).reshape(2, SIZE, SIZE)
    share = np.array([0.0, 0.5, 0.9], np.float32)[:, None, None, None, None]
    return {
        "images": chests["images"],
        "masks": masks,
        "predictions": share * target + (1 - share) * noise,
        "epochs": [0.0, 5.0, 10.0],
    }


@pytest.fixture
def reconstruction(reconstructions) -> ReconstructionWidget:
    """With a network that paints one standard deviation above every mean."""
    return ReconstructionWidget(
        **reconstructions, predict=lambda image, mask: np.ones_like(image, np.float32)
    )


@pytest.fixture
def cams(chests) -> dict[tuple[str, str, str], np.ndarray]:
    """MoCo looks at the finding, the random network at a corner; layer3 sharper than layer4."""
    out = {}
    for finding, masks in chests["masks"].items():
        for stage, width in (("layer3", 4.0), ("layer4", 10.0)):
            inside = []
            for mask in masks:
                ys, xs = np.nonzero(mask) if mask.any() else (np.array([32]), np.array([32]))
                middle = np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2)
                inside.append(bump(xs[middle], ys[middle], width))
            out["MoCo v2", stage, finding] = np.stack(inside)
            out["random", stage, finding] = np.stack([bump(2, 60, width)] * len(masks))
    return out


@pytest.fixture
def gradcam(chests, cams) -> GradCamWidget:
    return GradCamWidget(
        chests["images"],
        cams,
        chests["masks"],
        explain=lambda image, init, stage, finding: image.astype(np.float32) / 255,
    )


@pytest.fixture(scope="session")
def memory_table() -> pd.DataFrame:
    """Counts of one method and network, at two sizes, in two precisions, checkpointed or not."""
    return grid(methods=["barlow"], backbones=["resnet18"], sizes=[64, 224])


@pytest.fixture
def memory(memory_table) -> MemoryWidget:
    return MemoryWidget(memory_table)


# ---------------------------------------------------------------- kernel without a browser


@pytest.fixture
def ask(monkeypatch) -> Callable[..., tuple[dict, list[bytes]]]:
    """Send a widget what its front end would send; returns what it answers."""

    def send(widget: CourseWidget, content: dict, *buffers: bytes) -> tuple[dict, list[bytes]]:
        answers: list[tuple[dict, list[bytes]]] = []
        monkeypatch.setattr(widget, "send", lambda c, b=None: answers.append((c, b or [])))
        message = {"content": {"data": {"method": "custom", "content": content}}}
        widget._handle_msg({**message, "buffers": list(buffers)})
        (answer,) = answers
        return answer

    return send


# ---------------------------------------------------------------- pages


def page_source(widget: CourseWidget, host: Path, theme: str) -> str:
    """A page as the book writes it: saved state, a view, a host that plays them."""
    state = {"version_major": 2, "version_minor": 0, "state": {}}
    state["state"][widget.model_id] = widget._get_embed_state()
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}

    def script(kind: str, content: dict) -> str:
        body = json.dumps(content).replace("</", "<\\/")
        return f'<script type="application/vnd.jupyter.widget-{kind}+json">{body}</script>'

    return f"""<!DOCTYPE html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">
    <meta name="viewport" content="width=device-width"><title>Widget</title>
    {script("state", state)}<script>{host.read_text(encoding="utf-8")}</script></head>
    <body><main>{script("view", view)}</main></body></html>"""


@pytest.fixture
def show(chromium: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Open a widget from its saved state; with `live=True` its Python answers, as a kernel would.

    The test fails if a script throws, the console reports an error, or anything but the page
    itself is asked for.
    """
    problems: list[str] = []
    contexts = []

    def guard(route, address: str) -> None:
        if route.request.url == address or route.request.url.startswith(("blob:", "data:")):
            return route.continue_()
        problems.append(f"left the page: {route.request.url}")
        return route.abort()

    def open_page(
        widget: CourseWidget, *, live: bool = False, theme: str = "light", width: int = 1000
    ) -> Page:
        file = tmp_path / "widget.html"
        file.write_text(page_source(widget, LIVE_HOST if live else HOST, theme), encoding="utf-8")
        context = chromium.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.route("**/*", lambda route: guard(route, file.as_uri()))
        if live:
            _connect(page, widget)
        page.goto(file.as_uri())
        page.wait_for_selector(".scxr-widget .scxr-status:not(:empty)")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def _connect(page: Page, widget: CourseWidget) -> None:
    """Carry messages between the page and the widget's own handlers, in both directions."""
    outbox: list[dict[str, Any]] = []

    def send(content: dict, buffers: list[bytes] | None = None) -> None:
        packed = [base64.b64encode(b).decode() for b in buffers or []]
        outbox.append({"content": content, "buffers": packed})

    changed: set[str] = set()
    widget.send = send  # type: ignore[method-assign]
    widget.observe(lambda change: changed.add(change["name"]))

    def deliver(kind: str, content: dict, buffers: list[str]) -> dict[str, Any]:
        outbox.clear()
        if kind == "state":
            widget.set_state(content)
            changed.clear()
        else:
            unpacked = [base64.b64decode(b) for b in buffers]
            data = {"method": "custom", "content": content}
            widget._handle_msg({"content": {"data": data}, "buffers": unpacked})
        full = widget._get_embed_state()
        news = {key: full["state"].get(key) for key in changed if key in widget.keys}
        arrays = [b for b in full.get("buffers", []) if b["path"][0] in news]
        changed.clear()
        return {"messages": list(outbox), "state": news, "buffers": arrays}

    page.expose_function("toPython", deliver)


@pytest.fixture
def pixels() -> Callable[..., np.ndarray]:
    """What a canvas of the page shows: (H, W, 3) uint8."""

    def read(page: Page, which: int = 0) -> np.ndarray:
        data = page.evaluate(
            """(which) => {
              const canvas = document.querySelectorAll(".scxr-stage canvas")[which];
              const { width, height } = canvas;
              const image = canvas.getContext("2d").getImageData(0, 0, width, height);
              return { width, height, values: [...image.data] };
            }""",
            which,
        )
        shape = (data["height"], data["width"], 4)
        return np.array(data["values"], np.uint8).reshape(shape)[..., :3]

    return read
