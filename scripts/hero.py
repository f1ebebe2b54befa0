"""Draw book/assets/hero.png: phantom radiographs, findings outlined (`python scripts/hero.py`)."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from scxr.data.phantom import FINDINGS, generate

TARGET = Path(__file__).resolve().parent.parent / "book" / "assets" / "hero.png"
WANTED = ("No Finding", "hemidiaphragm elevation", "pulmonary mass", "hiatal hernia")
COLOUR = "#f2a33a"


def choose(findings: list[str]) -> list[int]:
    """One row for each wanted finding, each row once."""
    chosen: list[int] = []
    for name in WANTED:
        chosen.append(next(i for i, f in enumerate(findings) if f == name and i not in chosen))
    return chosen


def main() -> None:
    """Generate enough phantoms of the target hospital to find one of each, and draw four."""
    batch = generate(np.arange(400), size=320, hospital="B", seed=0)
    rows = choose(list(batch.table["findings"]))
    figure, axes = plt.subplots(1, len(rows), figsize=(12, 3.25), facecolor="#0b0f13")
    for axis, row in zip(axes, rows, strict=True):
        axis.imshow(batch.images[row], cmap="gray", vmin=0, vmax=255)
        finding = batch.table["findings"].iloc[row]
        if finding in FINDINGS:
            axis.contour(batch.masks[finding][row], levels=[0.5], colors=COLOUR, linewidths=1.6)
        axis.set_title(finding.lower(), color="#e9f2f7", fontsize=14, pad=7)
        axis.axis("off")
    figure.subplots_adjust(left=0.008, right=0.992, top=0.9, bottom=0.02, wspace=0.03)
    figure.savefig(TARGET, dpi=110, facecolor=figure.get_facecolor())


if __name__ == "__main__":
    main()
