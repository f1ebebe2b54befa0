"""Figures made of radiographs: grids, reconstructions, maps laid over them and where they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scxr.errors import InputError
from scxr.figures.style import HEAT, INK, OUTLINE, drawn, looks_of, panels, require

LOCALISATION_LABELS = {
    "enrichment": "times the attention of an average pixel",
    "energy_inside": "share of the map inside the region",
    "hit": "peak inside the region, share of images",
    "iou_otsu": "IoU with the region after Otsu",
}
REFERENCES: dict[str, Literal["-", "--", ":"]] = {
    "random": "-",
    "centre prior": "--",
    "atlas prior": ":",
}
"""What a map has to beat, and the line it is drawn with."""


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
        heats: (row, column) -> (h, w) in [0, 1], laid over the whole picture.
        masks: (row, column) -> (h, w) bool, outlined.
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
                axis.set_title(column_titles[j], fontsize=9, parse_math=False)
        if i < len(row_titles):
            grid[i][0].set_ylabel(row_titles[i], fontsize=9, parse_math=False)
    if title:
        figure.suptitle(title, parse_math=False)
    return figure


def _picture(
    axis: Axes, picture: np.ndarray, heat: np.ndarray | None, mask: np.ndarray | None
) -> None:
    top = 255 if np.asarray(picture).dtype == np.uint8 else 1
    whole = (0.0, 1.0, 1.0, 0.0)  # all layers cover the same field, whatever their pixels
    axis.imshow(picture, cmap="gray", vmin=0, vmax=top, extent=whole)
    if heat is not None:
        alpha = 0.65 * np.clip(heat, 0, 1) ** 0.5
        axis.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=alpha, extent=whole)
    if mask is not None and mask.any():
        y, x = ((np.arange(n) + 0.5) / n for n in mask.shape)
        axis.contour(x, y, mask, levels=[0.5], colors=OUTLINE, linewidths=1.2)
    axis.set_aspect(picture.shape[0] / picture.shape[1])


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
        axis.set_title(text, fontsize=8, color=INK, parse_math=False)
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
    seen: Mapping[str, np.ndarray] | None = None,
    notes: Mapping[str, str] | None = None,
    side: float = 1.6,
) -> Figure:
    """One row a picture, one column an init; the true region outlined everywhere.

    Args:
        images: (n, H, W).
        seen: name of the init -> (n, S, S), the pictures as that network was shown them; its maps
            are laid over them instead of over `images`.
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
    shown = [(seen or {}).get(name, images) for name in names]
    return image_grid(
        [[image, *(stack[i] for stack in shown)] for i, image in enumerate(images)],
        column_titles=["picture", *below],
        heats=grid,
        masks=outlines,
        title=title,
        side=side,
    )


@drawn
def localisation_forest(table: pd.DataFrame, *, measure: str = "enrichment") -> Figure:
    """Does pretraining put attention in the right place, and is it consistent across findings?

    One row a finding and region, smallest regions on top; a point an init with its 95 % interval.
    Random weights, the centre prior and the atlas prior are upright lines in each row: points to
    the right of a line beat it. The legend counts in how many rows an init beats random weights.

    Args:
        table: of `scxr.explain.localisation_table`, of one stage, method and mode.
        measure: one of `scxr.explain.localisation.MEASURES`.
    """
    if measure not in LOCALISATION_LABELS:
        known = ", ".join(LOCALISATION_LABELS)
        raise InputError(f"Unknown measure {measure!r}: choose from {known}.")
    require(table, "finding", "structure", "init", "share", f"{measure}_low", f"{measure}_high")
    if table.duplicated(["finding", "structure", "init"]).any():
        raise InputError("There are several points for one place: draw one stage and mode alone.")
    place = {key: i for i, key in enumerate(_by_size(table))}
    rows = [place[key] for key in zip(table["finding"], table["structure"], strict=True)]
    table = table.assign(_row=rows)
    names = [name for name in dict.fromkeys(table["init"]) if name not in REFERENCES]
    looks = looks_of(names)
    step = 0.16 * (len(names) + 2)
    figure, (axis,) = panels(1, 1, 7.2, 1.4 + step * len(place))
    for name, line in REFERENCES.items():
        part = table[table["init"] == name]
        if len(part):
            axis.vlines(
                part[measure], part["_row"] - 0.42, part["_row"] + 0.42, INK, line, label=name, lw=2
            )
    for offset, name in enumerate(names):
        part = table[table["init"] == name]
        value = part[measure]
        errors = np.stack([value - part[f"{measure}_low"], part[f"{measure}_high"] - value])
        axis.errorbar(
            value,
            part["_row"] + 0.7 * ((offset + 0.5) / len(names) - 0.5),
            xerr=np.clip(errors, 0, None),
            ls="none",
            elinewidth=1.4,
            label=name + _won(table, name, measure),
            **looks[name],
        )
    if measure == "enrichment":
        _ratio_axis(axis)
    else:
        axis.set_xlim(left=0)
    labels = [_row_name(*key, table) for key in place]
    axis.set_yticks(range(len(place)), labels, parse_math=False)
    axis.set(xlabel=LOCALISATION_LABELS[measure], ylim=(len(place) - 0.5, -0.5))
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    return figure


def _ratio_axis(axis: Axes) -> None:
    """Twice and half are equally far from no preference; below 1/8 lies at the border."""
    low, high = 1 / 8, max(4.0, 1.1 * float(axis.get_xlim()[1]))
    axis.axvline(1, color=INK, lw=0.8, ls=(0, (1, 4)), zorder=0)
    axis.set_xscale("log", base=2, nonpositive="clip")
    axis.set_xlim(low, high)
    ticks = [2.0**power for power in range(-3, int(np.floor(np.log2(high))) + 1)]
    axis.set_xticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
    axis.minorticks_off()


def _by_size(table: pd.DataFrame) -> list[tuple[str, str]]:
    sizes = table.groupby(["finding", "structure"], sort=False)["share"].mean().sort_values()
    return list(sizes.index)


def _row_name(finding: str, structure: str, table: pd.DataFrame) -> str:
    here = (table["finding"] == finding) & (table["structure"] == structure)
    name = finding if structure == finding else f"{finding}: {structure}"
    return f"{name} ({table.loc[here, 'share'].mean():.1%})"


def _won(table: pd.DataFrame, name: str, measure: str) -> str:
    """In how many rows an init lies above random weights, in words."""
    wide = table.pivot(index="_row", columns="init", values=measure)
    if "random" not in wide:
        return ""
    both = wide[[name, "random"]].dropna()
    return f" (above random in {(both[name] > both['random']).sum()} of {len(both)})"
