"""The style: what a figure of the book looks like, whatever it shows.

Transparent, and drawn in a grey that reads on white and on black alike: there is just one with a
contrast of 4.5 to 1 on either (WCAG 2.1 AA), so in the dark the book lays black behind a figure, as
light boxes and viewers do behind a radiograph. Series differ in colour
(Okabe and Ito's palette, safe for colour-blind readers) and in marker.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scxr.errors import InputError

INK = "#767676"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
OUTLINE = "#E69F00"
HEAT = "inferno"
STYLE: Any = {
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "legend.facecolor": "none",
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 11,
    "axes.titlesize": 12,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.dpi": 110,
    "savefig.dpi": 160,
}
P = ParamSpec("P")


def drawn(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the house style and hand the figure over: no global state, shown once."""

    @functools.wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with sns.axes_style("ticks"), plt.rc_context(STYLE):
            figure = function(*args, **kwargs)
        plt.close(figure)
        return figure

    return draw


def looks_of(names: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    """Colour and marker for every name, in order."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(names)
    }


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))


def require(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        what = f"lacks {', '.join(missing)}" if missing else "is empty"
        raise InputError(f"There is nothing to draw: the table {what}.")
    return table
