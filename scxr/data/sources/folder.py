"""Any folder of radiographs: PNG, JPEG, TIFF or DICOM, with a table, sub-folders or no labels.

The files may lie in zip and tar archives; these are read as they are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from scxr.data.decoding import quiet
from scxr.data.sources.archives import is_sequential, read_member
from scxr.data.sources.files import FileIndex, Found, list_files, no_pictures, set_aside
from scxr.data.sources.matching import locate
from scxr.data.sources.records import Box, MaskFile, Record, join_findings, view_name
from scxr.data.sources.tables import (
    TEXT_SUFFIXES,
    iterate,
    pick_columns,
    read_table,
    require_columns,
)
from scxr.errors import InputError

PARTS = ("image", "patient", "view", "findings", "hospital")
BOX_COLUMNS = ("image", "finding", "x", "y", "width", "height")
MASK_COLUMNS = ("image", "structure", "mask")
OTHER_NAMES = {
    "finding": ("label", "structure"),
    "structure": ("label", "finding"),
    "width": ("w",),
    "height": ("h",),
    "mask": ("file",),
}
SUBFOLDERS = "subfolders"
PLAIN_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"}


def folder(
    path: str | Path,
    labels: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    boxes: str | Path | None = None,
    masks: str | Path | None = None,
) -> Iterator[Record]:
    """Records of every file below `path`.

    Args:
        path: the folder; sub-folders and archives are searched too.
        labels: a CSV, TSV or Parquet table with the columns image, patient, view, findings (`a|b`)
            and hospital; or `subfolders`, when the first folder below `path` names the finding; or
            nothing, and then findings are unknown and every file is a patient of its own (DICOM
            files say whose they are).
        columns: other names of these columns in the table, e.g. `{"image": "Filename"}`.
        boxes: a table of annotated rectangles with the columns image, finding, x, y, width and
            height: the upper left corner and the sides, in pixels of the file. They become regions.
            `label` or `structure` may stand for finding, w and h for width and height.
        masks: a table of outlines with the columns image, structure and mask (or label and file):
            the picture of an outline, bright inside, lies where `mask` says, seen from the table's
            folder or from `path`, and covers the same field as the image. They become regions, and
            come before a box of the same structure.

    With a table, its rows decide what is imported: a file without a row is set aside with that
    reason, a row without a file is noted. `image` may be a path or a bare file name, with or
    without its suffix; all other columns are kept.
    """
    root = Path(path)
    files, broken = list_files(root, archives=True)
    tables = {Path(table).absolute() for table in (labels, boxes, masks) if table is not None}
    outlines = [] if masks is None else list(_outlines(Path(masks), root))
    tables |= {outline.path.absolute() for _, outline in outlines}
    files = [file for file in files if file.path.absolute() not in tables]
    if labels is None or str(labels) == SUBFOLDERS:
        if columns:
            raise InputError("Columns can only be named for a table; give one with --labels.")
        if not files:
            raise no_pictures(root, "image", broken)
        records: Iterator[Record] = (_own_record(file, labels is not None) for file in files)
    else:
        records = _with_table(root, files, Path(labels), columns or {})
    if boxes is not None:
        records = _with_boxes(records, root, files, Path(boxes))
    if masks is not None:
        records = _with_masks(records, FileIndex(root, files), outlines, Path(masks).name)
    return chain(set_aside(broken), records)


def _own_record(file: Found, subfolders: bool) -> Record:
    name = PurePosixPath(file.name)
    record = Record(image=file.name, path=file.path, member=file.member, patient=name.stem)
    if name.suffix.lower() in TEXT_SUFFIXES | {".parquet"}:
        return replace(record, problem="a table, not an image (give it as labels)")
    if name.suffix.lower() not in PLAIN_SUFFIXES:
        record = replace(record, **_dicom_facts(file))
    if not subfolders:
        return record
    if len(name.parts) < 2:
        return replace(record, problem="lies in no sub-folder that would name its finding")
    return replace(record, findings=join_findings([name.parts[0].replace("_", " ")]))


def _dicom_facts(file: Found) -> dict[str, Any]:
    """Patient and view from a DICOM header; nothing for any other file.

    Headers in a tar archive are out of reach until its one pass: that is noted.
    """
    import pydicom

    if file.member and is_sequential(file.path):
        return {"note": "files in a tar archive, each taken as a patient of its own"}

    try:
        with quiet():
            content = BytesIO(read_member(file.path, file.member)) if file.member else file.path
            header = pydicom.dcmread(
                content, stop_before_pixels=True, specific_tags=["PatientID", "ViewPosition"]
            )
            facts = {
                "patient": str(header.get("PatientID") or "").strip(),
                "view": view_name(str(header.get("ViewPosition") or "")),
            }
    except Exception:  # not DICOM, or damaged: decoding will say so
        return {}
    return {name: value for name, value in facts.items() if value}


def _with_table(
    root: Path, files: list[Found], table: Path, columns: Mapping[str, str]
) -> Iterator[Record]:
    frame = read_table(table)
    picked = pick_columns(frame, PARTS, columns, table)
    if "image" not in picked:
        there = ", ".join(map(str, frame.columns[:12]))
        raise InputError(
            f"The table {table} has no column 'image' (it has: {there}); say which one names the "
            "files with --column image=NAME."
        )
    rows = (_table_record(row, picked) for row in iterate(frame))
    return locate(rows, root, files, table)


def _with_boxes(
    records: Iterator[Record], root: Path, files: list[Found], table: Path
) -> Iterator[Record]:
    """The records with their boxes; rows of the table that fit no file are noted."""
    frame = _renamed(read_table(table), BOX_COLUMNS)
    require_columns(frame, list(BOX_COLUMNS), table)
    index = FileIndex(root, files)
    boxes: dict[tuple[Path, str], tuple[Box, ...]] = defaultdict(tuple)
    lost: list[Record] = []
    for row in iterate(frame, BOX_COLUMNS):
        box = _box(row, table)
        found = index.find(row["image"])
        if len(found) == 1:
            boxes[found[0].path, found[0].member] += (box,)
        else:
            lost.append(Record(row["image"], None, note=f"boxes of {table.name} without a file"))
    own = (
        replace(record, boxes=boxes.get((record.path, record.member), ()))
        if record.path
        else record
        for record in records
    )
    return chain(lost, own)


def _box(row: Mapping[str, str], table: Path) -> Box:
    try:
        left, top, width, height = (float(row[name]) for name in BOX_COLUMNS[2:])
    except ValueError:
        left = top = width = height = math.nan
    if not (math.isfinite(left + top + width + height) and width > 0 and height > 0):
        raise InputError(
            f"The table {table} holds a box of {row['image']} whose x, y, width and height are "
            "not four numbers with a width and height above 0; repair that row."
        )
    name = join_findings([row["finding"]])
    if not name:
        raise InputError(f"The table {table} holds a box of {row['image']} without a finding.")
    # A frame of 0 x 0 stands for the file's own size, which is known when it is decoded.
    return Box(name, left, top, width, height, frame_width=0, frame_height=0)


def _outlines(table: Path, root: Path) -> Iterator[tuple[str, MaskFile]]:
    """What the table of masks says: image and file, one a row."""
    frame = _renamed(read_table(table), MASK_COLUMNS)
    require_columns(frame, list(MASK_COLUMNS), table)
    for row in iterate(frame, MASK_COLUMNS):
        name = join_findings([row["structure"]])
        if not name:
            raise InputError(f"The table {table} holds a mask of {row['image']} without a name.")
        relative = PurePosixPath(row["mask"].strip().replace("\\", "/"))
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise InputError(
                f"The table {table} names the mask {row['mask']!r} of {row['image']}: give a path "
                f"below the table's folder or below {root}."
            )
        places = [table.absolute().parent / relative, root.absolute() / relative]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise InputError(
                f"The mask {row['mask']} of {row['image']} is neither beside {table} nor below "
                f"{root}; repair that row."
            )
        yield row["image"], MaskFile(name, found)


def _with_masks(
    records: Iterator[Record],
    index: FileIndex,
    outlines: list[tuple[str, MaskFile]],
    table: str,
) -> Iterator[Record]:
    """The records with their outlines; rows of the table that fit no file are noted."""
    masks: dict[tuple[Path, str], tuple[MaskFile, ...]] = defaultdict(tuple)
    lost: list[Record] = []
    for image, outline in outlines:
        found = index.find(image)
        if len(found) == 1:
            masks[found[0].path, found[0].member] += (outline,)
        else:
            lost.append(Record(image, None, note=f"masks of {table} without a file"))
    own = (
        replace(record, masks=masks.get((record.path, record.member), ()))
        if record.path
        else record
        for record in records
    )
    return chain(lost, own)


def _renamed(frame: pd.DataFrame, wanted: tuple[str, ...]) -> pd.DataFrame:
    """The table with other names of its columns put right, where the wanted one is missing."""
    names = {}
    for name in wanted:
        other = next((o for o in OTHER_NAMES.get(name, ()) if o in frame.columns), None)
        if name not in frame.columns and other is not None and other not in wanted:
            names[other] = name
    return frame.rename(columns=names)


def _table_record(row: Mapping[str, str], picked: Mapping[str, str]) -> Record:
    value = {part: row[column].strip() for part, column in picked.items()}
    extra = {name: text for name, text in row.items() if name not in picked.values()}
    image = value["image"]
    note = ""
    patient = value.get("patient", "")
    if not patient:
        patient = PurePosixPath(image.replace("\\", "/")).stem
        note = "images without a patient in the table, each taken as a patient of its own"
    return Record(
        image=image,
        path=None,
        patient=patient,
        view=view_name(value.get("view", "")),
        findings=join_findings(value.get("findings", "").split("|")),
        hospital=value.get("hospital", ""),
        extra={name: text for name, text in extra.items() if name and name not in PARTS},
        note=note,
    )
