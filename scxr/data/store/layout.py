"""What reader and writer of a store agree on: names, version, header, checksums, statistics."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scxr.errors import InputError

FORMAT = "scxr-store"
VERSION = 1
COLUMNS = ("image", "patient", "view", "findings", "hospital")
REQUIRED = ("image", "patient")
NORMAL = "No Finding"
CONTENT = ("images.npy", "table.parquet", "masks.npy", "regions.parquet")


def has_finding(findings: pd.Series, name: str) -> np.ndarray:
    """(N,) bool: which rows of a findings column (`a|b`) name `name`, in any case, as a whole."""
    return has_any_finding(findings, [name])


def has_any_finding(findings: pd.Series, names: Iterable[str]) -> np.ndarray:
    """(N,) bool: which rows of a findings column name at least one of `names`."""
    wanted = {name.strip().casefold() for name in names}
    codes, values = pd.factorize(findings.fillna(""))
    hits = np.fromiter(
        (
            any(part.strip().casefold() in wanted for part in str(value).split("|"))
            for value in values
        ),
        dtype=bool,
        count=len(values),
    )
    return hits[codes] if len(values) else np.zeros(len(findings), dtype=bool)


def histogram_statistics(histogram: np.ndarray) -> tuple[float, float]:
    """Mean and (population) standard deviation in [0, 1] from counts of the 256 grey values.

    Integer arithmetic throughout, so the result does not depend on the order of the images.
    """
    counts = [int(count) for count in histogram]
    n = sum(counts)
    first = sum(value * count for value, count in enumerate(counts))
    second = sum(value * value * count for value, count in enumerate(counts))
    variance = (n * second - first * first) / (n * n)
    return first / n / 255, variance**0.5 / 255


def check_destination(path: Path, overwrite: bool) -> None:
    """Raise `InputError` where writing a store to `path` would destroy something."""
    if path.is_file():
        raise InputError(f"{path} is a file; give a folder name that does not exist yet.")
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / "store.json").is_file():
        raise InputError(f"{path} exists and is not a store; give another folder name.")
    if not overwrite:
        raise InputError(f"The store {path} exists already; remove it or give another folder name.")


def read_header(folder: Path) -> dict[str, Any]:
    """The parsed store.json of a store, or `InputError` where it cannot be read."""
    if not folder.exists():
        raise InputError(f"There is no store at {folder}; check the path.")
    file = folder / "store.json"
    if not file.is_file():
        raise InputError(
            f"{folder} is not a store (it holds no store.json); make one with `scxr data import` "
            "or `scxr data phantom`."
        )
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The store {folder} is damaged: store.json cannot be read.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{file} does not describe a store of radiographs.")
    if not isinstance(header.get("version"), int) or header["version"] > VERSION:
        raise InputError(
            f"The store {folder} has format version {header.get('version')}, this scxr reads up "
            f"to {VERSION}; update scxr."
        )
    needed = {"n", "height", "width", "source", "aspect", "mean", "std", "structures", "masks"}
    missing = sorted((needed | {"files"}) - header.keys())
    if missing:
        raise InputError(f"The store {folder} is damaged: store.json lacks {', '.join(missing)}.")
    return header


def check_space(folder: Path, needed: int) -> None:
    """Raise `InputError` where `needed` bytes do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"The store needs {needed / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free; "
            "choose another disk or a smaller --size."
        )


def digest(file: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
