"""Figures made of radiographs: grids, reconstructions, maps laid over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scxr.errors import InputError
from scxr.figures.style import HEAT, INK, OUTLINE, drawn


@drawn
def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    heats: Mapping[tuple[int, int], np.ndarray] | None = None,
    masks: Mapping[tuple[int, int], np.ndarray] | None = None,
    title: str | None = None,
    side: float = 1.6,
) -> Figure:
    """Pictures in rows and columns, grey as they are.

    Args:
        rows: pictures (H, W), uint8 or float in [0, 1].
        heats: (row, column) -> (H, W) in [0, 1], laid over the picture.
        masks: (row, column) -> (H, W) bool, outlined.
        side: of a picture, inches.
    """
    if not rows or not all(len(row) for row in rows):
        raise InputError("There are no pictures to draw.")
    columns = max(len(row) for row in rows)
    figure, grid = plt.subplots(
        len(rows),
        columns,
        figsize=(side * columns, side * len(rows) + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for i, row in enumerate(rows):
        for j, axis in enumerate(grid[i]):
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            sns.despine(ax=axis, left=True, bottom=True)
            if j < len(row):
                _picture(axis, row[j], (heats or {}).get((i, j)), (masks or {}).get((i, j)))
            if i == 0 and j < len(column_titles):
                axis.set_title(column_titles[j], fontsize=9)
        if i < len(row_titles):
            grid[i][0].set_ylabel(row_titles[i], fontsize=9)
    if title:
        figure.suptitle(title)
    return figure


def _picture(
    axis: Axes, picture: np.ndarray, heat: np.ndarray | None, mask: np.ndarray | None
) -> None:
    top = 255 if np.asarray(picture).dtype == np.uint8 else 1
    axis.imshow(picture, cmap="gray", vmin=0, vmax=top)
    if heat is not None:
        axis.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=0.65 * np.clip(heat, 0, 1) ** 0.5)
    if mask is not None and mask.any():
        axis.contour(mask, levels=[0.5], colors=OUTLINE, linewidths=1.2)


def contact_sheet(
    images: np.ndarray,
    titles: Sequence[str] = (),
    *,
    columns: int = 8,
    masks: np.ndarray | None = None,
    title: str | None = None,
    side: float = 1.4,
) -> Figure:
    """(n, H, W) pictures side by side, each with its own title and, if given, outlined region."""
    count = len(images)
    if count == 0:
        raise InputError("There are no pictures to draw.")
    columns = min(columns, count)
    figure = image_grid(
        [list(images[start : start + columns]) for start in range(0, count, columns)],
        masks=None if masks is None else {divmod(i, columns): masks[i] for i in range(count)},
        title=title,
        side=side,
    )
    for axis, text in zip(figure.axes, titles, strict=False):
        axis.set_title(text, fontsize=8, color=INK)
    return figure


def reconstruction_grid(columns: Mapping[str, np.ndarray], *, side: float = 1.5) -> Figure:
    """One row a picture, one column a view of it: title -> (n, H, W) in [0, 1]."""
    stacks = list(columns.values())
    rows = [[stack[i] for stack in stacks] for i in range(len(stacks[0]) if stacks else 0)]
    return image_grid(
        rows, column_titles=[name.replace(" (", "\n(") for name in columns], side=side
    )


def cam_grid(
    images: np.ndarray,
    cams: Mapping[str, np.ndarray],
    masks: np.ndarray | None = None,
    *,
    title: str | None = None,
    notes: Mapping[str, str] | None = None,
    side: float = 1.6,
) -> Figure:
    """One row a picture, one column an init; the true region outlined everywhere.

    Args:
        images: (n, H, W).
        cams: name of the init -> (n, H, W) in [0, 1].
        masks: (n, H, W) bool.
        notes: name of the init -> a line below its name.
    """
    names = list(cams)
    grid = {(i, j + 1): cams[name][i] for i in range(len(images)) for j, name in enumerate(names)}
    outlines = {}
    if masks is not None:
        outlines = {(i, j): masks[i] for i in range(len(images)) for j in range(len(names) + 1)}
    below = [f"{name}\n{(notes or {}).get(name, '')}".rstrip() for name in names]
    return image_grid(
        [[image] * (len(names) + 1) for image in images],
        column_titles=["picture", *below],
        heats=grid,
        masks=outlines,
        title=title,
        side=side,
    )
