"""Any folder of radiographs: PNG, JPEG, TIFF or DICOM, with a table, sub-folders or no labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from scxr.data.sources.files import Found, list_files
from scxr.data.sources.matching import locate
from scxr.data.sources.records import Record, join_findings, view_name
from scxr.data.sources.tables import TEXT_SUFFIXES, iterate, pick_columns, read_table
from scxr.errors import InputError

PARTS = ("image", "patient", "view", "findings", "hospital")
SUBFOLDERS = "subfolders"
PLAIN_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"}


def folder(
    path: str | Path,
    labels: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Record]:
    """Records of every file below `path`.

    Args:
        path: the folder; sub-folders are searched too.
        labels: a CSV, TSV or Parquet table with the columns image, patient, view, findings (`a|b`)
            and hospital; or `subfolders`, when the first folder below `path` names the finding; or
            nothing, and then findings are unknown and every file is a patient of its own (DICOM
            files say whose they are).
        columns: other names of these columns in the table, e.g. `{"image": "Filename"}`.

    With a table, its rows decide what is imported: a file without a row is set aside with that
    reason, a row without a file is noted. `image` may be a path or a bare file name, with or
    without its suffix; all other columns are kept.
    """
    root = Path(path)
    files, _ = list_files(root)
    if labels is None or str(labels) == SUBFOLDERS:
        if columns:
            raise InputError("Columns can only be named for a table; give one with --labels.")
        return _without_table(root, files, labels is not None)
    table = Path(labels)
    return _with_table(root, files, table, columns or {})


def _without_table(root: Path, files: list[Found], subfolders: bool) -> Iterator[Record]:
    if not files:
        raise InputError(f"There is no file in {root}; check the path.")
    return (_own_record(file, subfolders) for file in files)


def _own_record(file: Found, subfolders: bool) -> Record:
    name = PurePosixPath(file.name)
    record = Record(image=file.name, path=file.path, patient=name.stem)
    if file.path.suffix.lower() in TEXT_SUFFIXES | {".parquet"}:
        return replace(record, problem="a table, not an image (give it as labels)")
    if file.path.suffix.lower() not in PLAIN_SUFFIXES:
        record = replace(record, **_dicom_facts(file.path))
    if not subfolders:
        return record
    if len(name.parts) < 2:
        return replace(record, problem="lies in no sub-folder that would name its finding")
    return replace(record, findings=join_findings([name.parts[0].replace("_", " ")]))


def _dicom_facts(path: Path) -> dict[str, Any]:
    """Patient and view from a DICOM header; nothing for any other file."""
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=["PatientID", "ViewPosition"]
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
    files = [file for file in files if file.path.absolute() != table.absolute()]
    rows = (_table_record(row, picked) for row in iterate(frame))
    return locate(rows, root, files, table)


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
