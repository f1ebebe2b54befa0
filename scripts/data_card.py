"""Draw the pictures of book/data-card.md (`python scripts/data_card.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scxr import figures
from scxr.data.phantom import FINDINGS, REGIONS, generate

ASSETS = Path(__file__).resolve().parent.parent / "book" / "assets"
SIZE = 160


def hospitals() -> Figure:
    """Normal radiographs: hospital A above, hospital B below."""
    pools = [
        generate(np.arange(12), size=SIZE, hospital=name, findings=[[]] * 12).images
        for name in ("A", "B")
    ]
    rows = [list(pool[start : start + 6]) for pool in pools for start in (0, 6)]
    return figures.image_grid(rows, row_titles=["A", "A", "B", "B"], side=1.3)


def findings() -> Figure:
    """The ten findings in hospital B, outlined."""
    batch = generate(
        np.arange(40, 40 + len(FINDINGS)), size=SIZE, hospital="B", findings=[[f] for f in FINDINGS]
    )
    masks = np.stack([batch.masks[name][i] for i, name in enumerate(FINDINGS)])
    return figures.contact_sheet(batch.images, FINDINGS, columns=5, masks=masks, side=1.6)


def regions() -> Figure:
    """The region masks of one radiograph."""
    batch = generate([3] * len(REGIONS), size=SIZE, hospital="A", findings=[[]] * len(REGIONS))
    masks = np.stack([batch.masks[name][0] for name in REGIONS])
    names = [name.replace("_", " ") for name in REGIONS]
    return figures.contact_sheet(batch.images, names, columns=5, masks=masks, side=1.6)


def main() -> None:
    """Write the three pictures."""
    for draw in (hospitals, findings, regions):
        draw().savefig(ASSETS / f"phantom-{draw.__name__}.png", dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
