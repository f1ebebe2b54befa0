"""ChestMNIST (MedMNIST+): the NIH images at 28, 64, 128 or 224 px in one file.

Yang et al. 2023, "MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image
classification", Scientific Data 10, arXiv:2110.14795; files at
https://zenodo.org/records/10519652 (`chestmnist_224.npz` and others), CC BY 4.0.

The file holds no patient identifiers, so every image counts as a patient of its own and images of
one patient can land on both sides of a split. The set has 3.6 images a patient (112,120 of 30,805):
scores from it can be too good, and intervals over patients are not to be had.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scxr.data.sources.records import Record, join_findings
from scxr.errors import InputError

FINDINGS = (  # in the order of the label columns, with the names of the NIH table
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening"),
    "Hernia",
)
PARTS = ("train", "val", "test")
NOTE = (
    "images without a patient identifier (ChestMNIST has none), each taken as a patient of its own"
)


def chestmnist(path: str | Path) -> Iterator[Record]:
    """Records of every image in a `chestmnist*.npz` file (or the largest one in a folder)."""
    file = _file(Path(path))
    try:
        with np.load(file, allow_pickle=False) as arrays:
            labels = {part: arrays[f"{part}_labels"] for part in PARTS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is not a complete ChestMNIST file ({error}).") from error
    for table in labels.values():
        if table.ndim != 2 or table.shape[1] != len(FINDINGS):
            raise InputError(f"{file} has labels of shape {table.shape}, not 14 columns.")
    return _records(file, labels)


def _records(file: Path, labels: dict[str, np.ndarray]) -> Iterator[Record]:
    for part, table in labels.items():
        for index, row in enumerate(table):
            present = [FINDINGS[column] for column in np.flatnonzero(row)]
            name = f"chestmnist_{part}_{index:06d}"
            yield Record(
                image=name,
                path=file,
                patient=name,
                findings=join_findings(present or ["No Finding"]),
                hospital="NIH",
                extra={"part": part},
                member=f"{part}_images",
                index=index,
                note=NOTE,
            )


def _file(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"There is no {path}; give a chestmnist npz file or its folder.")
    if path.is_file():
        return path
    found = sorted(path.glob("chestmnist*.npz"), key=lambda file: file.stat().st_size)
    if not found:
        raise InputError(
            f"There is no chestmnist*.npz in {path}; get one from "
            "https://zenodo.org/records/10519652."
        )
    return found[-1]
