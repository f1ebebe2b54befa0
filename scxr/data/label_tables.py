"""The real label tables of NIH ChestX-ray14 and PadChest, every row, without their images.

Who asks what a finding's training set would look like, how patients fall on the two sides of a
split or what a protocol's negatives are made of needs the tables alone. The package
`torchxrayvision` (Cohen et al. 2022, "TorchXRayVision: A library of chest X-ray datasets and
models", MIDL, arXiv:2111.00595) ships both as their authors published them; its files are read
where they lie, the package itself (and all it imports) is not.

- `nih`: `Data_Entry_2017_v2020.csv`, 112,120 images of 30,805 patients. Wang et al. 2017,
  "ChestX-ray8", CVPR, arXiv:1705.02315; https://nihcc.app.box.com/v/ChestXray-NIHCC. Free to use;
  the NIH Clinical Center asks to be named, with a link and the citation.
- `padchest`: `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`, 160,861 images of 67,625
  patients. Bustos et al. 2020, "PadChest", Medical Image Analysis 66, arXiv:1901.07441;
  https://bimcv.cipf.es/bimcv-projects/padchest, whose research use agreement applies. A physician
  labelled 39,053 images, a recurrent network trained on them the others.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scxr.data.sources.nih import COLUMNS as NIH_COLUMNS
from scxr.data.sources.nih import nih_record
from scxr.data.sources.padchest import COLUMNS as PADCHEST_COLUMNS
from scxr.data.sources.padchest import padchest_record
from scxr.data.sources.records import Record
from scxr.data.sources.tables import iterate, read_table
from scxr.errors import InputError

PACKAGE = "torchxrayvision"


@dataclass(frozen=True)
class _Shipped:
    file: str
    columns: list[str]
    record: Callable[[Mapping[str, str]], Record]


TABLES = {
    "nih": _Shipped(
        "Data_Entry_2017_v2020.csv.gz", NIH_COLUMNS, lambda row: nih_record(row, boxes={})
    ),
    "padchest": _Shipped(
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", PADCHEST_COLUMNS, padchest_record
    ),
}


def read_label_table(name: str) -> pd.DataFrame:
    """Every row of the table `nih` or `padchest` as an import would store it, all as text.

    Columns: image, patient, view (`PA`, `AP`, `AP supine`, `L`, others as they are), findings
    (`a|b`; `No Finding` is normal, empty is unknown), hospital, and

    - `nih`: age (years), sex, follow_up (number of the visit, from 0);
    - `padchest`: age (years, from the year of birth), sex, study, folder (the archive the image
      lies in), pediatric, label_method (`Physician` or `RNN_model`), listed (names in the printed
      list, blanks and repeats included).

    The first call reads the file (a few seconds for PadChest), later ones copy.
    Raises `InputError` for another name, or where `torchxrayvision` is not installed.
    """
    if name not in TABLES:
        raise InputError(f"There is no label table '{name}'; choose of {', '.join(TABLES)}.")
    return _read(name).copy()


@functools.lru_cache(maxsize=len(TABLES))
def _read(name: str) -> pd.DataFrame:
    shipped = TABLES[name]
    frame = read_table(_shipped_file(shipped.file), shipped.columns)
    records = [shipped.record(row) for row in iterate(frame)]
    table = {
        part: [getattr(record, part) for record in records]
        for part in ("image", "patient", "view", "findings", "hospital")
    }
    for extra in records[0].extra:
        table[extra] = [record.extra[extra] for record in records]
    return pd.DataFrame(table)


def _shipped_file(name: str) -> Path:
    # The package is found, not imported: that would take seconds.
    package = importlib.util.find_spec(PACKAGE)
    places = (package.submodule_search_locations if package else None) or ()
    for place in places:
        if (Path(place) / "data" / name).is_file():
            return Path(place) / "data" / name
    raise InputError(
        f"The label table {name} comes with {PACKAGE}, which is not there or not complete; "
        f"run `pip install {PACKAGE}`."
    )
