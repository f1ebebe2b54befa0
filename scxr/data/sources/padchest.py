"""PadChest as distributed: 160,861 table rows, 16-bit PNG files in 54 zip files or folders.

Bustos et al. 2020, "PadChest: A large chest x-ray image dataset with multi-label annotated
reports", Medical Image Analysis 66, arXiv:1901.07441. The `Labels` column holds printed
Python lists with stray blanks, empty names and repeats; 103 rows hold `nan` instead.

How to get it: https://bimcv.cipf.es/bimcv-projects/padchest, after a form; zip files `0.zip` to
`54.zip` (about 1 TB together) and the label table. The zip files are read as they are. Licence: the
PadChest Dataset Research Use Agreement, for research only; images must not be passed on.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path

from scxr.data.sources.files import list_files, no_pictures, set_aside
from scxr.data.sources.matching import locate
from scxr.data.sources.records import Record, join_findings, view_name
from scxr.data.sources.tables import find_table, iterate, read_table, require_columns

TABLE = "PADCHEST_chest_x_ray_images_labels*.csv*"
FRONTAL = ("PA", "AP")
NEEDED = ["ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "Labels"]
EXTRA = {
    "StudyID": "study",
    "ImageDir": "folder",
    "PatientSex_DICOM": "sex",
    "Pediatric": "pediatric",
    "MethodLabel": "label_method",
}
DATES = ["StudyDate_DICOM", "PatientBirth"]
COLUMNS = [*NEEDED, *EXTRA, *DATES]
_joined = functools.lru_cache(maxsize=1 << 16)(join_findings)


def padchest(
    path: str | Path,
    labels: str | Path | None = None,
    views: Collection[str] | None = FRONTAL,
) -> Iterator[Record]:
    """Records of the images below `path`: folders or zip files `0` to `54` and the label table.

    Args:
        path: the folder with the images and `PADCHEST_chest_x_ray_images_labels_160K_*.csv[.gz]`.
        labels: the table, where it lies elsewhere.
        views: projections to import (`AP supine` is the table's `AP_horizontal`); None for all.

    Rows that are left out (another projection, no file) and labels that do not parse (findings
    unknown then) are noted.
    """
    root = Path(path)
    files, broken = list_files(root, archives=True)
    table = find_table(root, TABLE, labels, "table of labels")
    frame = read_table(table)
    require_columns(frame, NEEDED, table)
    pictures = [file for file in files if file.name.lower().endswith(".png")]
    if not pictures:
        raise no_pictures(root, "PNG", broken)

    def leave_out(record: Record) -> str:
        if views is None or record.view in views:
            return ""
        return f"images of projection {record.view or 'unknown'}, left out"

    rows = (padchest_record(row) for row in iterate(frame, COLUMNS))
    return chain(set_aside(broken), locate(rows, root, pictures, table, leave_out))


def padchest_record(row: Mapping[str, str]) -> Record:
    """One row of the table as a record without a file.

    Besides the columns of `EXTRA` it knows the `age` (the study's year minus that of birth) and how
    many names were `listed`, blanks and repeats included: the series counts these, not the findings
    that are left when the list is clean.
    """
    names = parse_labels(row["Labels"])
    image = row["ImageID"].strip()
    patient = row["PatientID"].strip()
    note = "" if names else "images with unknown findings, because their labels are empty"
    if names is None:
        note = "images with unknown findings, because their labels are not a list"
    if not patient:
        note = "images without a patient in the table, each taken as a patient of its own"
    return Record(
        image=image,
        path=None,
        patient=patient or image,
        view=view_name(row["Projection"]),
        findings=_joined(names or ()),
        hospital="PadChest",
        extra={
            **{name: row[column].strip() for column, name in EXTRA.items() if column in row},
            "age": _age(row.get("StudyDate_DICOM", ""), row.get("PatientBirth", "")),
            "listed": str(len(_printed(row["Labels"]) or ())),
        },
        note=note,
    )


@functools.lru_cache(maxsize=1 << 16)  # 160,861 rows hold 28,809 different lists
def parse_labels(text: str) -> tuple[str, ...] | None:
    """The names in a printed Python list, without blanks and empty ones; None if it is no list."""
    names = _printed(text)
    return None if names is None else tuple(name.strip() for name in names if name.strip())


def _age(study: str, birth: str) -> str:
    """Years; empty where a date is missing. The day of birth is not published: one year off."""
    study, birth = study.strip()[:4], birth.strip().removesuffix(".0")
    return str(int(study) - int(birth)) if study.isdecimal() and birth.isdecimal() else ""


@functools.lru_cache(maxsize=1 << 16)
def _printed(text: str) -> tuple[str, ...] | None:
    try:
        names = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
