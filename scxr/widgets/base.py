"""What the widgets share: one front end for paper and kernel, and a plain-text stand-in.

A widget's whole state travels with the page. Its JavaScript plays that state without a network;
it also pings the kernel, and where one answers it offers what only running code can do.
"""

from __future__ import annotations

import html
import json
import logging
from pathlib import Path
from typing import Any

import anywidget
from IPython.display import HTML, display

from scxr.errors import InputError

PAGE_LIMIT = 1_500_000
"""Bytes that a widget may add to a page: state as JSON, buffers as base64, code and style."""

_HERE = Path(__file__).parent
_logger = logging.getLogger(__name__)


def front_end(*names: str) -> str:
    """One self-contained ES module: the shared helpers, then the named files in order."""
    parts = [(_HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("shared", *names)]
    return "\n".join(parts)


def style() -> str:
    """The stylesheet, one for all widgets."""
    return (_HERE / "shared.css").read_text(encoding="utf-8")


class CourseWidget(anywidget.AnyWidget):
    """Base of the course's widgets: answers the front end, describes itself in words."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(self._receive)
        weight = self.page_bytes()
        if weight > PAGE_LIMIT:
            _logger.warning(
                "%s adds %.1f MB to a page; show fewer images or smaller ones.",
                type(self).__name__,
                weight / 1e6,
            )

    def describe(self) -> str:
        """The widget in a few sentences, for readers without JavaScript and for print."""
        raise TypeError(f"{type(self).__name__} does not say what it shows.")

    def abilities(self) -> list[str]:
        """What the kernel can do beyond the saved state; the front end shows controls for it."""
        return []

    def answer(self, content: dict[str, Any], buffers: list[Any]) -> tuple[dict, list[bytes]]:
        """Answer one request of the front end: a JSON reply and its buffers.

        Raises:
            InputError: the request cannot be met; the front end shows the sentence.
        """
        raise InputError(f"This widget does not know the request {content.get('type')!r}.")

    def page_bytes(self) -> int:
        """Bytes that the widget adds to a static page."""
        return len(json.dumps(self._get_embed_state()))

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        request = {"type": content.get("type"), "id": content.get("id")}
        if request["type"] == "ping":
            self.send({"type": "pong", "abilities": self.abilities()})
            return
        try:
            reply, attached = self.answer(content, buffers)
        except InputError as error:
            self.send({**request, "type": "error", "message": str(error)})
        except Exception as error:
            # A function of the reader's own failed: the reader sees it here or nowhere.
            _logger.exception("%s could not answer %s", type(self).__name__, request["type"])
            self.send({**request, "type": "error", "message": f"{type(error).__name__}: {error}"})
        else:
            self.send({**request, **reply}, attached)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle[0]["text/plain"] = self.describe()
        return bundle

    def _ipython_display_(self) -> None:
        data, metadata = self._repr_mimebundle_() or ({}, {})
        display(data, metadata=metadata, raw=True)
        # Static pages keep only the richest form of an output, which needs JavaScript.
        display(HTML(f"<noscript><p>{html.escape(self.describe())}</p></noscript>"))
