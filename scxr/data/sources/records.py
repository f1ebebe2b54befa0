"""What a source yields: one record an image, and the vocabulary they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scxr.data.store import NORMAL

NORMAL_NAMES = {"no finding", "no_finding", "no findings", "normal"}

# What programs write for a value that is not there; none of it is the name of a finding.
MISSING = {"nan", "na", "n/a", "#n/a", "<na>", "null", "none"}

VIEWS = {
    "pa": "PA",
    "posteroanterior": "PA",
    "ap": "AP",
    "anteroposterior": "AP",
    # A patient lying down is another picture than one standing up: the series leaves these out.
    "ap supine": "AP supine",
    "ap_horizontal": "AP supine",
    "l": "L",
    "lateral": "L",
    "ll": "L",
    "rl": "L",
}


@dataclass(frozen=True)
class Box:
    """A rectangle around a finding: left, top, width, height within a frame, all in pixels."""

    structure: str
    left: float
    top: float
    width: float
    height: float
    frame_width: float
    frame_height: float


@dataclass(frozen=True)
class MaskFile:
    """An outline that lies in a picture of its own, as large as the radiograph's file or not."""

    structure: str
    path: Path
    member: str = ""


@dataclass(frozen=True)
class Record:
    """One image to import and what is known about it.

    Attributes:
        image: its name in the store.
        path: the file, or the archive it lies in; None for a table row without a file.
        patient: identifier; images that share it are never split.
        view: `PA`, `AP`, `AP supine`, `L`, another name, or empty (unknown).
        findings: names joined with `|`; empty is unknown, `No Finding` is normal.
        hospital: where it was taken.
        boxes: annotated rectangles.
        masks: annotated outlines.
        extra: further columns of the store's table.
        member: the name within the archive `path`.
        index: the position along the first axis of the array `member`.
        problem: why the file is set aside without being opened.
        note: what the report should say about it, counted over all records with the same note.
    """

    image: str
    path: Path | None
    patient: str = ""
    view: str = ""
    findings: str = ""
    hospital: str = ""
    boxes: tuple[Box, ...] = ()
    masks: tuple[MaskFile, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)
    member: str = ""
    index: int | None = None
    problem: str = ""
    note: str = ""


def join_findings(names: Iterable[str]) -> str:
    """`a|b` of the names, without blanks or repeats; `normal` becomes `No Finding`.

    Words for a missing value (`nan`, `NULL`, ...) are no finding and not normal: unknown.
    `No Finding` beside a finding is dropped: a radiograph with a finding is not normal.
    """
    kept: dict[str, str] = {}
    for name in names:
        clean = " ".join(name.split())
        if clean.casefold() in NORMAL_NAMES:
            clean = NORMAL
        if clean and clean.casefold() not in MISSING:
            kept.setdefault(clean.casefold(), clean)
    if len(kept) > 1:
        kept.pop(NORMAL.casefold(), None)
    return "|".join(kept.values())


def view_name(text: str) -> str:
    """The projection in this package's words; an unknown one is kept as it is."""
    clean = " ".join(text.split())
    return VIEWS.get(clean.casefold(), clean)
