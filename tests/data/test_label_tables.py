"""The real label tables: every row, counted against the papers and an independent plain parse."""

from __future__ import annotations

import ast
import csv
import gzip
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scxr.data import label_tables
from scxr.data.label_tables import TABLES, read_label_table
from scxr.data.sources.nih import _boxes
from scxr.errors import InputError

PACKAGE = importlib.util.find_spec("torchxrayvision")
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="torchxrayvision is not installed")

# Images with each finding as the data set's cards give them, for instance
# https://huggingface.co/datasets/alkzar90/NIH-Chest-X-ray-dataset.
NIH_COUNTS = {
    "Infiltration": 19894,
    "Effusion": 13317,
    "Atelectasis": 11559,
    "Nodule": 6331,
    "Mass": 5782,
    "Pneumothorax": 5302,
    "Consolidation": 4667,
    "Pleural_Thickening": 3385,
    "Cardiomegaly": 2776,
    "Emphysema": 2516,
    "Edema": 2303,
    "Fibrosis": 1686,
    "Pneumonia": 1431,
    "Hernia": 227,
}


def plain_rows(name: str, *columns: str) -> list[dict[str, str]]:
    """These columns of the shipped file through Python's csv module alone."""
    assert PACKAGE is not None and PACKAGE.submodule_search_locations
    file = Path(PACKAGE.submodule_search_locations[0]) / "data" / TABLES[name].file
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        rows = csv.reader(text)
        header = next(rows)
        places = [header.index(column) for column in columns]
        return [dict(zip(columns, [row[i] for i in places], strict=True)) for row in rows]


@pytest.fixture(scope="module")
def padchest_rows() -> list[dict[str, str]]:
    names = ("ImageID", "ImageDir", "PatientID", "Labels", "StudyDate_DICOM", "PatientBirth")
    return plain_rows("padchest", *names)


@pytest.fixture(scope="module")
def padchest() -> pd.DataFrame:
    return read_label_table("padchest")


def test_every_nih_image_patient_and_finding_is_there() -> None:
    table = read_label_table("nih")
    assert len(table) == table["image"].nunique() == 112_120
    assert table["patient"].nunique() == 30_805
    assert table["view"].value_counts().to_dict() == {"PA": 67_310, "AP": 44_810}
    counts = Counter(part for text in table["findings"] for part in text.split("|"))
    assert counts.pop("No Finding") == 60_361
    assert counts == NIH_COUNTS
    assert set(table["hospital"]) == {"NIH"} and set(table["sex"]) == {"F", "M"}
    assert table["age"].astype(int).between(0, 95).all()
    first = table[table["image"] == "00000001_002.png"].iloc[0]
    assert (first["patient"], first["findings"]) == ("1", "Cardiomegaly|Effusion")
    assert (first["age"], first["follow_up"]) == ("58", "2")


def test_nih_equals_a_plain_read_row_by_row() -> None:
    rows = plain_rows("nih", "Image Index", "Patient ID", "Finding Labels")
    table = read_label_table("nih")
    assert table["image"].tolist() == [row["Image Index"] for row in rows]
    assert table["patient"].tolist() == [row["Patient ID"] for row in rows]
    assert table["findings"].tolist() == [row["Finding Labels"] for row in rows]


def test_the_shipped_boxes_are_984_on_880_images() -> None:
    assert PACKAGE is not None and PACKAGE.submodule_search_locations
    boxes = _boxes(Path(PACKAGE.submodule_search_locations[0]) / "data")
    assert len(boxes) == 880 and sum(map(len, boxes.values())) == 984
    assert set(boxes) <= set(read_label_table("nih")["image"])
    assert {box.structure for found in boxes.values() for box in found} <= set(NIH_COUNTS)


def test_padchest_equals_a_plain_parse_row_by_row(
    padchest: pd.DataFrame, padchest_rows: list[dict[str, str]]
) -> None:
    assert len(padchest) == padchest["image"].nunique() == 160_861
    assert padchest["patient"].nunique() == 67_625
    assert padchest["image"].tolist() == [row["ImageID"] for row in padchest_rows]
    assert padchest["patient"].tolist() == [row["PatientID"] for row in padchest_rows]
    assert padchest["folder"].tolist() == [row["ImageDir"] for row in padchest_rows]
    expected: dict[str, tuple[str, int]] = {}
    for row in padchest_rows:
        text = row["Labels"]
        if text not in expected:
            names = ast.literal_eval(text) if text.startswith("[") else []
            clean = list(dict.fromkeys(" ".join(name.split()) for name in names if name.strip()))
            others = [name for name in clean if name != "normal"]
            joined = "|".join(others) if others else "No Finding" if clean else ""
            expected[text] = (joined, len(names))
    pairs = [expected[row["Labels"]] for row in padchest_rows]
    assert padchest["findings"].tolist() == [joined for joined, _ in pairs]
    assert padchest["listed"].astype(int).tolist() == [number for _, number in pairs]


def test_what_is_odd_in_padchest_is_counted(
    padchest: pd.DataFrame, padchest_rows: list[dict[str, str]]
) -> None:
    unparsable = np.array([not row["Labels"].startswith("[") for row in padchest_rows])
    assert unparsable.sum() == 103 and {
        row["Labels"] for row in padchest_rows if "[" not in row["Labels"]
    } == {"nan"}
    unknown = (padchest["findings"] == "").to_numpy()
    assert unknown.sum() == 880 and (unknown >= unparsable).all()
    assert padchest["view"].value_counts().to_dict() == {
        "PA": 91_728,
        "L": 49_579,
        "AP supine": 14_346,
        "AP": 4_559,
        "COSTAL": 630,
        "EXCLUDE": 11,
        "UNK": 8,
    }
    cleaned = padchest["findings"].str.count(r"\|") + 1
    fewer = (cleaned < padchest["listed"].astype(int)) & ~unknown
    assert fewer.sum() > 3000, "blanks and repeats are dropped"
    assert padchest["label_method"].value_counts().to_dict() == {
        "RNN_model": 121_808,
        "Physician": 39_053,
    }


def test_padchest_ages_follow_from_the_two_years(
    padchest: pd.DataFrame, padchest_rows: list[dict[str, str]]
) -> None:
    for position in range(0, len(padchest_rows), 997):
        row = padchest_rows[position]
        expected = int(row["StudyDate_DICOM"][:4]) - float(row["PatientBirth"] or "nan")
        assert padchest["age"][position] == ("" if np.isnan(expected) else str(int(expected)))
    assert (padchest["age"] == "").sum() == sum(not row["PatientBirth"] for row in padchest_rows)


def test_a_copy_is_given_out() -> None:
    table = read_label_table("nih")
    table["findings"] = "changed"
    assert "changed" not in set(read_label_table("nih")["findings"])


def test_the_package_itself_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchxrayvision", raising=False)
    assert label_tables._shipped_file(TABLES["nih"].file).is_file()
    assert "torchxrayvision" not in sys.modules


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no label table 'mimic'; choose of nih, padchest\."):
        read_label_table("mimic")
    monkeypatch.setattr(label_tables, "PACKAGE", "no_such_package_as_this")
    read = label_tables._read.__wrapped__  # past the cache
    with pytest.raises(InputError, match="run `pip install no_such_package") as error:
        read("nih")
    assert "\n" not in str(error.value)
    monkeypatch.setattr(label_tables, "PACKAGE", "json")  # there, but without the file
    with pytest.raises(InputError, match="not there or not complete"):
        read("nih")
