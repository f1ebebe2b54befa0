"""Figures as parts of a page: data addresses with a description, nothing to fetch."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from scxr.figures.style import MARKERS, looks_of

GLYPHS = dict(zip(MARKERS, "●■▲◆▼✚✖", strict=True))
DOTS = 130  # an inch, of pictures made of pixels: sharp on a phone, small in a mail


@dataclass(frozen=True)
class Picture:
    """A figure that a page can hold.

    Attributes:
        address: "data:image/...".
        text: what there is to see, for those who cannot.
        width: at which its letters are as large as the page's, CSS pixels.
    """

    address: str
    text: str
    width: int


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    name: str
    colour: str
    glyph: str


def legend(names: Sequence[str]) -> list[Key]:
    """What the figures give these names, in this order."""
    looks = looks_of(names).items()
    return [Key(name, look["color"], GLYPHS[look["marker"]]) for name, look in looks]


def drawing(text: str, draw: Callable[..., Figure], *arguments: Any, **options: Any) -> Picture:
    """A figure of lines and letters, as SVG."""
    settings = {"metadata": {"Date": None, "Creator": None}}
    return _picture("svg+xml", text, draw, arguments, options, settings)


def photograph(text: str, draw: Callable[..., Figure], *arguments: Any, **options: Any) -> Picture:
    """A figure with radiographs in it, as WebP."""
    settings = {"dpi": DOTS, "pil_kwargs": {"quality": 85}}
    return _picture("webp", text, draw, arguments, options, settings)


def _picture(
    kind: str,
    text: str,
    draw: Callable[..., Figure],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    settings: dict[str, Any],
) -> Picture:
    # A finding called $x$ is a name and no formula; the salt makes equal figures equal text.
    with plt.rc_context({"text.parse_math": False, "svg.hashsalt": "scxr"}):
        figure = draw(*arguments, **options)
        for legend in figure.legends:
            legend.remove()  # long names would be cut off: the page has one legend for all
        file = BytesIO()
        figure.savefig(file, format=kind.partition("+")[0], **settings)
    content = base64.b64encode(file.getvalue()).decode()
    return Picture(f"data:image/{kind};base64,{content}", text, round(figure.get_figwidth() * 96))
