"""Which findings a table has, and how many images of each lie on both sides of the split.

The split is that of the SCARCE-CXR series: a patient is held out when the MD5 of the identifier is
divisible by five, so no patient is on both sides, whatever else the table holds.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from scxr.data.store import NORMAL
from scxr.errors import InputError


@functools.lru_cache(maxsize=1 << 18)
def split_of(patient: str) -> Literal["train", "val"]:
    """The side of the split a patient is on: `val` for MD5(identifier) mod 5 = 0, about a fifth."""
    digest = hashlib.md5(str(patient).encode("utf-8"), usedforsecurity=False).hexdigest()
    return "val" if int(digest, 16) % 5 == 0 else "train"


def is_validation(patients: pd.Series) -> np.ndarray:
    """(N,) bool: which rows belong to held-out patients."""
    codes, values = pd.factorize(patients)
    sides = np.array([split_of(patient) == "val" for patient in values], dtype=bool)
    return sides[codes] if len(sides) else np.zeros(0, dtype=bool)


def eligible(
    table: pd.DataFrame, *, single_label: bool = False, views: Collection[str] | None = None
) -> np.ndarray:
    """(N,) bool: rows with known findings, of these views, with one finding if `single_label`."""
    findings = table["findings"].fillna("")
    rows = findings != ""
    if single_label:
        rows = rows & ~findings.str.contains("|", regex=False)
    if views is not None:
        rows = rows & table["view"].isin(list(views))
    return rows.to_numpy(dtype=bool)


def finding_names(table: pd.DataFrame) -> list[str]:
    """Every finding in the table but `No Finding`, in order of the alphabet."""
    names: dict[str, str] = {}
    for value in table["findings"].fillna("").unique():
        for part in str(value).split("|"):
            if part.strip() and part.strip().casefold() != NORMAL.casefold():
                names.setdefault(part.strip().casefold(), part.strip())
    return sorted(names.values(), key=str.casefold)


def count_findings(
    table: pd.DataFrame, *, single_label: bool = False, views: Collection[str] | None = None
) -> pd.DataFrame:
    """Images of each finding on both sides of the split: finding, train, val; by frequency."""
    rows = eligible(table, single_label=single_label, views=views)
    return tally(table[rows])[["finding", "train", "val"]]


def tally(table: pd.DataFrame) -> pd.DataFrame:
    """Every finding of these rows, most frequent first.

    Columns: finding, train, val (images on either side of the split), train_patients, val_patients.
    """
    exploded = pd.DataFrame(
        {
            "finding": table["findings"].fillna("").str.split("|"),
            "val": is_validation(table["patient"]),
            "patient": table["patient"],
        }
    ).explode("finding")
    exploded["key"] = exploded["finding"].str.strip().str.casefold()
    exploded = exploded[(exploded["key"] != "") & (exploded["key"] != NORMAL.casefold())]
    spelling = {name.casefold(): name for name in finding_names(table)}
    counts = [
        {
            "finding": spelling[str(key)],
            "train": int((~rows["val"]).sum()),
            "val": int(rows["val"].sum()),
            "train_patients": rows.loc[~rows["val"], "patient"].nunique(),
            "val_patients": rows.loc[rows["val"], "patient"].nunique(),
        }
        for key, rows in exploded.groupby("key")
    ]
    columns = ["finding", "train", "val", "train_patients", "val_patients"]
    frame = pd.DataFrame(counts, columns=columns)
    order = (-(frame["train"] + frame["val"])).argsort(kind="stable")
    return frame.iloc[order].reset_index(drop=True)


def choose_findings(
    table: pd.DataFrame,
    min_train: int = 15,
    min_val: int = 6,
    candidates: Sequence[str] | None = None,
    *,
    exclude: Iterable[str] = (),
    single_label: bool = False,
    views: Collection[str] | None = None,
) -> list[str]:
    """Findings with enough images on both sides of the split, most frequent first.

    Args:
        table: of a store.
        min_train, min_val: images needed among training and validation patients.
        candidates: consider these only; a name the table does not know is an `InputError`.
        exclude: names left out (hardware, surgery, artefacts, normal variants, in the series).
        single_label: count only images with exactly one finding, as the series does.
        views: count only these projections, in the series ("PA", "AP").
    """
    counts = count_findings(table, single_label=single_label, views=views)
    enough = counts[(counts["train"] >= min_train) & (counts["val"] >= min_val)]
    unwanted = {name.strip().casefold() for name in exclude}
    kept = [name for name in enough["finding"] if name.casefold() not in unwanted]
    if candidates is None:
        return kept
    names = finding_names(table)
    wanted = {known_finding(name, names).casefold() for name in candidates}
    return [name for name in kept if name.casefold() in wanted]


def known_finding(name: str, names: Sequence[str]) -> str:
    """The table's spelling of a finding, or an error that names the nearest ones."""
    spelling = {known.casefold(): known for known in names}
    key = name.strip().casefold()
    if key in spelling:
        return spelling[key]
    if not names:
        raise InputError(f"No image has a known finding, so there is no '{name}' to draw.")
    near = [spelling[match] for match in difflib.get_close_matches(key, spelling, n=3)]
    if near:
        raise InputError(f"No image has the finding '{name}'; did you mean {' or '.join(near)}?")
    listed = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
    raise InputError(f"No image has the finding '{name}'; there are {listed}.")
