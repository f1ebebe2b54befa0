"""Sources: tables as they are found in the world, matched to the files that are there."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from scxr.data.importing import import_from
from scxr.data.sources import SOURCES, Record, chestmnist, folder, nih, padchest
from scxr.data.sources.padchest import parse_labels
from scxr.data.sources.records import join_findings, view_name
from scxr.errors import InputError


def picture(file: Path, seed: int = 0, dtype: str = "uint8") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    top = 255 if dtype == "uint8" else 4095
    values = np.random.default_rng(seed).integers(0, top + 1, (32, 32)).astype(dtype)
    Image.fromarray(values).save(file)


def usable(records: list[Record]) -> dict[str, Record]:
    return {r.image: r for r in records if r.path is not None and not r.problem}


def problems(records: list[Record]) -> dict[str, str]:
    return {r.image: r.problem for r in records if r.problem}


def notes(records: list[Record]) -> dict[str, str]:
    return {r.image: r.note for r in records if r.note}


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "joined"),
    [
        (["Mass", " mass ", "Nodule"], "Mass|Nodule"),
        (["normal"], "No Finding"),
        (["No  Finding", "Mass"], "Mass"),
        (["", "  "], ""),
        ([" pleural  effusion"], "pleural effusion"),
    ],
)
def test_findings_are_joined_clean(names: list[str], joined: str) -> None:
    assert join_findings(names) == joined


def test_views_get_one_name() -> None:
    assert [view_name(text) for text in ("POSTEROANTERIOR", " ap ", "AP_horizontal", "COSTAL")] == [
        "PA",
        "AP",
        "AP supine",
        "COSTAL",
    ]


# --- tables (damaged and odd ones: test_malformed_tables.py) ----------------------------------

PLAIN = "image,patient,findings\na.png,1,Mass|Nodule\nb.png,01,\n"


# --- folder -----------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    root = tmp_path / "disk"
    for number, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/deep/d.png"]):
        picture(root / name, number)
    return root


def labels(root: Path, text: str, name: str = "labels.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root / name


def test_without_a_table_findings_are_unknown(disk: Path) -> None:
    picture(disk / ".hidden.png")
    records = list(folder(disk))
    assert [record.image for record in records] == ["a.png", "b.png", "sub/c.png", "sub/deep/d.png"]
    assert [record.patient for record in records] == ["a", "b", "c", "d"]
    assert {record.findings for record in records} == {""}


def test_a_table_among_the_images_is_not_taken_for_one(disk: Path) -> None:
    labels(disk, PLAIN)
    assert problems(list(folder(disk))) == {
        "labels.csv": "a table, not an image (give it as labels)"
    }


def test_subfolders_as_labels(tmp_path: Path) -> None:
    for name in ("Pleural_effusion/1.png", "normal/2.png", "normal/deep/3.png", "4.png"):
        picture(tmp_path / name)
    records = list(folder(tmp_path, labels="subfolders"))
    assert {name: record.findings for name, record in usable(records).items()} == {
        "Pleural_effusion/1.png": "Pleural effusion",
        "normal/2.png": "No Finding",
        "normal/deep/3.png": "No Finding",
    }
    assert "no sub-folder" in problems(records)["4.png"]


def test_dicom_headers_name_patient_and_view(tmp_path: Path) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientID = "Z-17"
    dataset.ViewPosition = "AP"
    dataset.save_as(tmp_path / "IM0001", enforce_file_format=True)
    (record,) = folder(tmp_path)
    assert (record.patient, record.view) == ("Z-17", "AP")


def test_rows_match_paths_bare_names_and_names_without_suffix(disk: Path) -> None:
    table = labels(
        disk,
        "image,patient,view,findings,scanner\n"
        "disk/a.png,1,PA,Mass,X\n"
        "b,1,AP,No Finding,X\n"
        "c.png,2,,Mass|Nodule,Y\n"
        "sub\\deep\\d.png,3,POSTEROANTERIOR,,Y\n",
    )
    records = list(folder(disk, table))
    assert not problems(records) and not notes(records)
    assert {
        name: str(r.path.relative_to(disk)) for name, r in usable(records).items() if r.path
    } == {
        "disk/a.png": "a.png",
        "b": "b.png",
        "c.png": "sub/c.png",
        "sub\\deep\\d.png": "sub/deep/d.png",
    }
    assert [r.findings for r in records] == ["Mass", "No Finding", "Mass|Nodule", ""]
    assert [r.view for r in records] == ["PA", "AP", "", "PA"]
    assert [r.extra for r in records] == [{"scanner": scanner} for scanner in "XXYY"]


def test_rows_without_files_and_files_without_rows(disk: Path) -> None:
    table = labels(disk, "image,patient\na.png,1\nelsewhere/b.png,2\nz.png,3\n../a.png,4\n")
    records = list(folder(disk, table))
    assert list(usable(records)) == ["a.png"]
    assert set(notes(records)) == {"elsewhere/b.png", "z.png", "../a.png"}
    assert set(notes(records).values()) == {"rows of labels.csv without a file"}
    assert set(problems(records)) == {"b.png", "sub/c.png", "sub/deep/d.png"}


def test_an_ambiguous_name_is_not_guessed(disk: Path) -> None:
    picture(disk / "other" / "c.png", 9)
    table = labels(disk, "image,patient\nc.png,1\na.png,1\n")
    records = list(folder(disk, table))
    assert notes(records) == {"c.png": "rows of labels.csv that could mean several files"}
    table = labels(disk, "image,patient\nother/c.png,1\na.png,1\n")
    assert set(usable(list(folder(disk, table)))) == {"other/c.png", "a.png"}


def test_repeated_rows_count_once_and_contradictions_are_set_aside(disk: Path) -> None:
    rows = "a.png,1,Mass\ndisk/a.png,1,mass\nb.png,1,Mass\nb.png,2,Mass\n"
    records = list(folder(disk, labels(disk, "image,patient,findings\n" + rows)))
    assert list(usable(records)) == ["a.png"]
    assert notes(records) == {"disk/a.png": "rows of labels.csv that repeat another one"}
    assert problems(records)["b.png"] == "its 2 rows in labels.csv disagree"


def test_other_column_names(disk: Path) -> None:
    table = labels(disk, "Filename;Who;Dx;View\na.png;7;Mass|Nodule;PA\n")
    columns = {"image": "Filename", "patient": "Who", "findings": "Dx"}
    (record,) = usable(list(folder(disk, table, columns))).values()
    assert (record.patient, record.findings, record.view) == ("7", "Mass|Nodule", "PA")
    with pytest.raises(InputError, match=r"no column 'image'.*Filename, Who.*--column"):
        folder(disk, table)
    with pytest.raises(InputError, match=r"lacks the columns File .*Filename"):
        folder(disk, table, {"image": "File"})
    with pytest.raises(InputError, match="called picture; choose of image, patient"):
        folder(disk, table, {"picture": "Filename"})
    with pytest.raises(InputError, match="only be named for a table"):
        folder(disk, None, columns)


def test_a_table_without_patients_says_so(disk: Path) -> None:
    records = list(folder(disk, labels(disk, "image,findings\nsub/c.png,Mass\n")))
    (record,) = usable(records).values()
    assert record.patient == "c" and "without a patient" in record.note


@pytest.mark.parametrize("source", [SOURCES["folder"], SOURCES["nih"], SOURCES["padchest"]])
def test_places_that_hold_nothing(source: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        source(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"There is no (image file|table of labels)"):
        source(tmp_path)
    (tmp_path / "x.png").write_bytes(b"1")
    with pytest.raises(InputError, match="is a file; give the folder"):
        source(tmp_path / "x.png")


def test_a_missing_table_and_one_that_matches_nothing(disk: Path) -> None:
    with pytest.raises(InputError, match=r"no table .*nothing\.csv"):
        folder(disk, disk / "nothing.csv")
    with pytest.raises(InputError, match=r"No row of .* names a file .*first row says 'x\.png'"):
        folder(disk, labels(disk, "image,patient\nx.png,1\n"))


def test_a_store_inside_the_folder_is_not_read_as_images(disk: Path) -> None:
    import_from("folder", disk, disk / "store", size=32)
    assert len(list(folder(disk))) == 4


# --- NIH --------------------------------------------------------------------------------------

NIH_TABLE = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
    "00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143\n"
    "00000002_000.png,No Finding,0,2,80,M,AP,2500,2048,0.171,0.171\n"
    "00000003_000.png,Hernia,0,3,81,F,PA,2582,2991,0.143,0.143\n"
)
NIH_BOXES = (
    "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    "00000001_000.png,Infiltrate,256,512,128,64\n"
    "00000001_000.png,Infiltrate,0,0,32,32\n"
    "00000001_000.png,Mass,0,0,1024,1024\n"
)


@pytest.mark.parametrize("layout", ["images_{:03d}/images", "images", "", "zip"])
def test_nih_in_every_layout(layout: str, tmp_path: Path) -> None:
    names = ["00000001_000.png", "00000002_000.png", "00000009_000.png"]
    for number, name in enumerate(names):
        picture(tmp_path / layout.replace("zip", "images").format(number + 1) / name, number)
    if layout == "zip":
        with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
            for name in names:
                archive.write(tmp_path / "images" / name, f"images/{name}")
                (tmp_path / "images" / name).unlink()
    labels(tmp_path, NIH_TABLE, "Data_Entry_2017_v2020.csv")
    labels(tmp_path, NIH_BOXES, "BBox_List_2017.csv")
    report = import_from("nih", tmp_path, tmp_path / "store", size=64)
    table = report.store.table
    assert table["image"].tolist() == names[:2]
    assert table["patient"].tolist() == ["1", "2"]
    assert table["view"].tolist() == ["PA", "AP"]
    assert table["findings"].tolist() == ["Cardiomegaly|Emphysema", "No Finding"]
    assert table["hospital"].tolist() == ["NIH", "NIH"]
    assert table["age"].tolist() == ["58", "80"]
    assert [entry["reason"] for entry in report.quarantined] == [
        "no row in Data_Entry_2017_v2020.csv names this file"
    ]
    assert any("without a file (for example 00000003_000.png)" in note for note in report.notes)
    assert report.store.structures == ["Infiltration", "Mass"]
    expected = np.zeros((64, 64), dtype=bool)
    expected[32:36, 16:24] = True  # x 256, y 512, w 128, h 64 of 1024, at 64 px
    expected[0:2, 0:2] = True
    np.testing.assert_array_equal(report.store.mask(0, "Infiltration"), expected)
    assert report.store.mask(1, "Mass") is None


def test_nih_says_what_is_missing(tmp_path: Path) -> None:
    labels(tmp_path, NIH_TABLE, "Data_Entry_2017.csv")
    (tmp_path / "images_001.tar.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no PNG file .*images_001\.tar\.gz: .* damaged"):
        nih(tmp_path)
    picture(tmp_path / "00000001_000.png")
    labels(tmp_path, NIH_TABLE, "Data_Entry_2017_v2020.csv")
    with pytest.raises(InputError, match="more than one table of labels"):
        nih(tmp_path)
    assert len(usable(list(nih(tmp_path, tmp_path / "Data_Entry_2017.csv")))) == 1
    with pytest.raises(InputError, match="lacks the columns Finding Labels, Patient ID"):
        nih(tmp_path, labels(tmp_path, "Image Index,View Position\na,PA\n", "short.csv"))
    labels(
        tmp_path, "Image Index,Finding Label,Bbox [x,y,w,h]\na,Mass,1,2,x,4\n", "BBox_List_2017.csv"
    )
    with pytest.raises(InputError, match="not four numbers"):
        nih(tmp_path, tmp_path / "Data_Entry_2017.csv")


# --- PadChest ---------------------------------------------------------------------------------

PADCHEST_HEADER = ",ImageID,ImageDir,StudyID,PatientID,PatientSex_DICOM,Projection,Labels,Report\n"
PADCHEST_ROWS = [
    "0,a.png,0,s1,10,F,PA,['normal'],\"x, y\"",
    "1,b.png,0,s2,20,M,AP,\"['pneumonia', ' pleural effusion', '', 'pneumonia']\",x",
    "2,c.png,1,s3,30,M,PA,nan,x",
    "3,d.png,1,s4,40,M,PA,[''],x",
    "4,e.png,1,s5,50,M,L,['nodule'],x",
    "5,f.png,1,s6,60,M,AP_horizontal,['nodule'],x",
    "6,g.png,1,s7,70,M,PA,['nodule'],x",
    "7,h.png,1,s8,80,M,PA,__import__('os').getcwd(),x",
]


def test_padchest_from_folders_and_zips(tmp_path: Path) -> None:
    for number, name in enumerate("abcdefh"):
        place = "0" if number < 2 else "1"
        picture(tmp_path / place / f"{name}.png", number, dtype="uint16")
    with zipfile.ZipFile(tmp_path / "1.zip", "w") as archive:
        for name in "cdefh":
            archive.write(tmp_path / "1" / f"{name}.png", f"{name}.png")
            (tmp_path / "1" / f"{name}.png").unlink()
    (tmp_path / "2.zip").write_bytes(b"PK broken download")
    table = tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
    table.write_bytes(gzip.compress((PADCHEST_HEADER + "\n".join(PADCHEST_ROWS)).encode()))
    report = import_from("padchest", tmp_path, tmp_path / "store", size=32)
    rows = report.store.table
    assert rows["image"].tolist() == ["a.png", "b.png", "c.png", "d.png", "h.png"]
    assert rows["findings"].tolist() == ["No Finding", "pneumonia|pleural effusion", "", "", ""]
    assert rows["patient"].tolist() == ["10", "20", "30", "40", "80"]
    assert rows["study"].tolist() == ["s1", "s2", "s3", "s4", "s8"]
    assert set(rows["hospital"]) == {"PadChest"}
    assert [(entry["file"], entry["reason"]) for entry in report.quarantined] == [
        ("2.zip", "a zip archive that cannot be read (File is not a zip file)")
    ]
    text = " ".join(report.notes)
    assert "2 images with unknown findings, because their labels are not a list" in text
    assert "1 images with unknown findings, because their labels are empty" in text
    assert "1 images of projection L, left out" in text
    assert "1 images of projection AP supine, left out" in text
    assert "without a file (for example g.png)" in text
    everything = list(padchest(tmp_path, views=None))
    assert set(usable(everything)) == {f"{name}.png" for name in "abcdefh"}


def test_printed_lists_are_parsed_without_running_them() -> None:
    assert parse_labels("['a', ' b ', '']") == ("a", "b")
    assert parse_labels("[]") == ()
    for text in ("nan", "", "['a'", "{'a': 1}", "[1, 2]", "print(1)", "[" * 5000):
        assert parse_labels(text) is None


# --- ChestMNIST -------------------------------------------------------------------------------


def test_chestmnist(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for part, n in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.zeros((n, 14), dtype=np.uint8)
    arrays["train_labels"][1, [0, 12]] = 1
    arrays["train_images"][4] = 9
    np.savez_compressed(tmp_path / "chestmnist.npz", **arrays)
    report = import_from("chestmnist", tmp_path, tmp_path / "store", size=28)
    assert report.imported == 9
    assert report.store.table["findings"].tolist()[:2] == [
        "No Finding",
        "Atelectasis|Pleural_Thickening",
    ]
    assert report.store.table["patient"].nunique() == 9
    assert [entry["reason"] for entry in report.quarantined] == [
        "every pixel has the same value (9)"
    ]
    assert any("without a patient identifier" in note for note in report.notes)
    first = arrays["train_images"][0].astype(float)
    stretched = (first - first.min()) / (first.max() - first.min()) * 255
    np.testing.assert_allclose(report.store.images[0], stretched, atol=0.5)


def test_chestmnist_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no chestmnist\*\.npz"):
        chestmnist(tmp_path)
    np.savez(tmp_path / "chestmnist_64.npz", train_images=np.zeros((1, 64, 64)))
    with pytest.raises(InputError, match="not a complete ChestMNIST file"):
        chestmnist(tmp_path)
    (tmp_path / "chestmnist_64.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(InputError, match="not a complete ChestMNIST file"):
        chestmnist(tmp_path)
