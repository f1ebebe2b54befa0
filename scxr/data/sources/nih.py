"""NIH ChestX-ray14 as distributed: 112,120 PNG files of 1024 x 1024 pixels, 30,805 patients.

Wang et al. 2017, "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR,
arXiv:1705.02315. Labels were mined from reports by a program, not given by a reader of the image.

How to get it: https://nihcc.app.box.com/v/ChestXray-NIHCC, twelve archives `images_001.tar.gz` to
`images_012.tar.gz` (42 GB together) with `Data_Entry_2017_v2020.csv` and `BBox_List_2017.csv`; no
registration. https://www.kaggle.com/datasets/nih-chest-xrays/data has the same as one zip. The
archives are read as they are. Licence: use is unrestricted (CC0 on Kaggle); the NIH asks that the
download site be linked, the paper cited and the NIH Clinical Center acknowledged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from scxr.data.sources.files import list_files, no_pictures, set_aside
from scxr.data.sources.matching import locate
from scxr.data.sources.records import Box, Record, join_findings, view_name
from scxr.data.sources.tables import find_table, iterate, read_table, require_columns
from scxr.errors import InputError

TABLE = "Data_Entry_2017*.csv*"
BOXES = "BBox_List_2017*.csv*"
NEEDED = ["Image Index", "Finding Labels", "Patient ID", "View Position"]
FRAME = 1024.0  # boxes are given in pixels of the distributed files
BOX_NAMES = {"Infiltrate": "Infiltration"}
EXTRA = {"Patient Age": "age", "Patient Gender": "sex", "Follow-up #": "follow_up"}
COLUMNS = [*NEEDED, *EXTRA]


def nih(path: str | Path, labels: str | Path | None = None) -> Iterator[Record]:
    """Records of the images below `path`, whatever the folders are called.

    `path` holds `images_001.tar.gz` and so on, or `images_001/images/*.png`, or `images/`, or one
    flat folder, or zip files of these; beside them `Data_Entry_2017*.csv` (or `labels`) and, for
    boxes, `BBox_List_2017.csv`. Rows whose image is not there (a partial download) are noted.
    """
    root = Path(path)
    files, broken = list_files(root, archives=True)
    table = find_table(root, TABLE, labels, "table of labels")
    frame = read_table(table)
    require_columns(frame, NEEDED, table)
    pictures = [file for file in files if file.name.lower().endswith(".png")]
    if not pictures:
        raise no_pictures(root, "PNG", broken)
    boxes = _boxes(root)
    rows = (nih_record(row, boxes) for row in iterate(frame, COLUMNS))
    return chain(set_aside(broken), locate(rows, root, pictures, table))


def nih_record(row: Mapping[str, str], boxes: Mapping[str, tuple[Box, ...]]) -> Record:
    """One row of the table as a record without a file."""
    image = row["Image Index"].strip()
    return Record(
        image=image,
        path=None,
        patient=row["Patient ID"].strip() or image.split("_")[0].lstrip("0"),
        view=view_name(row["View Position"]),
        findings=join_findings(row["Finding Labels"].split("|")),
        hospital="NIH",
        boxes=boxes.get(image, ()),
        extra={name: row[column].strip() for column, name in EXTRA.items() if column in row},
    )


def _boxes(root: Path) -> dict[str, tuple[Box, ...]]:
    """The 984 boxes of 880 images, by image; none where the file is absent."""
    place = root.parent if root.is_file() else root
    found = sorted(place.rglob(BOXES))
    if not found:
        return {}
    frame = read_table(found[0])
    require_columns(frame, ["Image Index", "Finding Label"], found[0])
    # The header splits "Bbox [x,y,w,h]" at its commas, so the four numbers go by position.
    start = list(frame.columns).index("Finding Label") + 1
    boxes: dict[str, tuple[Box, ...]] = defaultdict(tuple)
    for row in frame.itertuples(index=False):
        name = BOX_NAMES.get(str(row[start - 1]), str(row[start - 1]))
        try:
            left, top, width, height = (float(str(value)) for value in row[start : start + 4])
        except ValueError as error:
            raise InputError(
                f"{found[0]} holds a box of {row[0]} that is not four numbers; repair that row."
            ) from error
        boxes[str(row[0])] += (Box(name, left, top, width, height, FRAME, FRAME),)
    return dict(boxes)
