"""Draw the pictures of book/data-card.md (`python scripts/data_card.py`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from scxr import figures
from scxr.data.phantom import FINDINGS, HOSPITALS, REGIONS, generate
from scxr.data.phantom.cohort import patient_name
from scxr.data.phantom.findings import draw_case

ASSETS = Path(__file__).resolve().parent.parent / "book" / "assets"
SIZE = 160
GRADES = (0.05, 0.25, 0.5, 0.75, 0.95)


def hospitals() -> Figure:
    """Normal radiographs of 24 patients: hospital A above, hospital B below."""
    pools = [
        generate(np.arange(0, 120, 10), size=SIZE, hospital=name, findings=[[]] * 12).images
        for name in ("A", "B")
    ]
    rows = [list(pool[start : start + 6]) for pool in pools for start in (0, 6)]
    return figures.image_grid(rows, row_titles=["A", "A", "B", "B"], side=1.3)


def findings() -> Figure:
    """The ten findings in hospital B, rather clear ones, outlined."""
    chosen = [_with_grade(name, 0.7) for name in FINDINGS]
    batch = generate(chosen, size=SIZE, hospital="B", findings=[[f] for f in FINDINGS])
    masks = np.stack([batch.masks[name][i] for i, name in enumerate(FINDINGS)])
    return figures.contact_sheet(batch.images, FINDINGS, columns=5, masks=masks, side=1.6)


def grades() -> Figure:
    """Every finding from the faintest to the plainest, not outlined."""
    rows = []
    for name in FINDINGS:
        chosen = [_with_grade(name, grade) for grade in GRADES]
        asked = [[name]] * len(chosen)
        rows.append(list(generate(chosen, size=SIZE, hospital="B", findings=asked).images))
    titles = [f"grade {grade:.2f}" for grade in GRADES]
    names = [_two_lines(name) for name in FINDINGS]
    return figures.image_grid(rows, row_titles=names, column_titles=titles, side=1.3)


def patients() -> Figure:
    """Three patients of hospital A, four radiographs of each."""
    place = HOSPITALS["A"]
    images: dict[str, list[int]] = {}
    for index in range(200):
        images.setdefault(patient_name(index, place, 0), []).append(index)
    chosen = [name for name, numbers in images.items() if len(numbers) >= 4][:3]
    rows = [list(generate(images[name][:4], size=SIZE, hospital="A").images) for name in chosen]
    return figures.image_grid(rows, row_titles=chosen, side=1.5)


def regions() -> Figure:
    """The region masks of one radiograph."""
    batch = generate([40] * len(REGIONS), size=SIZE, hospital="B", findings=[[]] * len(REGIONS))
    masks = np.stack([batch.masks[name][0] for name in REGIONS])
    names = [name.replace("_", " ") for name in REGIONS]
    return figures.contact_sheet(batch.images, names, columns=5, masks=masks, side=1.6)


def _with_grade(finding: str, grade: float) -> int:
    """Number of the image of hospital B whose patient's case comes nearest to a grade."""
    place = HOSPITALS["B"]
    names = [patient_name(index, place, 0) for index in range(400)]
    cases = [draw_case(finding, name, place.name, 0).conspicuity for name in names]
    return int(np.argmin(np.abs(np.array(cases) - grade)))


def _two_lines(name: str) -> str:
    first, _, rest = name.partition(" ")
    return f"{first}\n{rest}"


def main() -> None:
    """Write the pictures."""
    for draw in (hospitals, findings, grades, patients, regions):
        draw().savefig(ASSETS / f"phantom-{draw.__name__}.png", dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
