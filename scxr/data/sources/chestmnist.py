"""ChestMNIST (MedMNIST+): the NIH images at 28, 64, 128 or 224 px in one file.

Yang et al. 2023, "MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image
classification", Scientific Data 10, arXiv:2110.14795.

How to get it: `download` fetches one file from https://zenodo.org/records/10519652
(`chestmnist_224.npz` and others; `medmnist` fetches the same one); no registration. Licence: CC BY
4.0. It is read row by row, so that memory holds a few pictures and not the array.

The file holds no patient identifiers, so every image counts as a patient of its own. The set has
3.6 images a patient (112,120 of 30,805): images of one patient land on both sides of the split by
patients, scores can be too good, and intervals over patients are not to be had. The column `part`
keeps the file's own train, val and test.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scxr.data.sources.records import Record, join_findings
from scxr.errors import InputError

log = logging.getLogger(__name__)

FINDINGS = (  # in the order of the label columns, with the names of the NIH table
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening"),
    "Hernia",
)
PARTS = ("train", "val", "test")
NOTE = (
    "images without a patient identifier (ChestMNIST has none), each taken as a patient of its "
    "own: images of one patient can be on both sides of a split, which flatters scores, and no "
    "interval over patients is to be had"
)
FILES = {  # by size in pixels: name and MD5, as published at RECORD
    28: ("chestmnist.npz", "02c8a6516a18b556561a56cbdd36c4a8"),
    64: ("chestmnist_64.npz", "9de6cd0b934ebb5b7426cfba5efbae16"),
    128: ("chestmnist_128.npz", "db107e5590b27930b62dbaf558aebee3"),
    224: ("chestmnist_224.npz", "45bd33e6f06c3e8cdb481c74a89152aa"),
}
RECORD = "https://zenodo.org/records/10519652"


def chestmnist(path: str | Path, download: int | None = None) -> Iterator[Record]:
    """Records of every image in a `chestmnist*.npz` file (or the largest one in a folder).

    Args:
        path: the file or its folder.
        download: fetch the file of 28, 64, 128 or 224 px to the folder `path`, unless it is there.
    """
    file = _file(Path(path)) if download is None else _fetch(Path(path), download)
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
            f"There is no chestmnist*.npz in {path}; add --download 64 (or 128, 224), or get one "
            f"from {RECORD}."
        )
    return found[-1]


def _fetch(folder: Path, size: int) -> Path:
    from torchvision.datasets.utils import check_integrity, download_url

    if size not in FILES:
        raise InputError(f"There is no ChestMNIST of {size} px; choose of {_sizes()}.")
    if folder.is_file():
        raise InputError(f"{folder} is a file; name the folder to download to.")
    name, md5 = FILES[size]
    if not check_integrity(str(folder / name), md5):
        url = f"{RECORD}/files/{name}?download=1"
        log.warning("downloading %s to %s", url, folder)
        try:
            download_url(url, str(folder), filename=name, md5=md5)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{url} could not be downloaded ({error}); try again, or put the file into "
                f"{folder} by hand."
            ) from error
    return folder / name


def _sizes() -> str:
    return ", ".join(map(str, FILES))
