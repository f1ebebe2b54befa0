"""Tables as people make them: each is read right, or refused in one sentence that says why."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from malformed import encode, grey

from scxr.data.importing import import_from
from scxr.data.sources import folder
from scxr.errors import InputError

HEADER = "image,patient,view,findings\n"
ROWS = "a.png,007,PA,Mass|Nodule\nb.png,08,AP,No Finding\n"
PLAIN = HEADER + ROWS
TWO = {"a.png": ("007", "Mass|Nodule"), "b.png": ("08", "No Finding")}
ONE = {"a.png": ("1", "Mass")}


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


@dataclass(frozen=True)
class Readable:
    """What becomes of a table that is read: image -> patient and findings, and what is noted."""

    data: bytes
    expected: dict[str, tuple[str, str]] = field(default_factory=lambda: TWO)
    noted: str = ""
    set_aside: str = ""
    name: str = "labels.csv"


def text(content: str, expected: dict[str, tuple[str, str]] | None = None, **more: str) -> Readable:
    return Readable(content.encode(), TWO if expected is None else expected, **more)


def one(findings: str, **more: str) -> Readable:
    """A table of one row with these findings as text, which mean a mass."""
    return text(f"image,patient,findings\na.png,1,{findings}\n", ONE, **more)


READABLE: dict[str, Readable] = {
    "plain": text(PLAIN),
    "byte order mark": Readable(codecs.BOM_UTF8 + PLAIN.encode()),
    "UTF-16": Readable(PLAIN.encode("utf-16")),
    "UTF-16, big end first": Readable(codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be")),
    "UTF-16 of a spreadsheet": Readable(PLAIN.replace(",", "\t").encode("utf-16"), name="t.txt"),
    "Latin-1": Readable(
        PLAIN.replace("007", "José").encode("latin-1"), {**TWO, "a.png": ("José", "Mass|Nodule")}
    ),
    "semicolons": text(PLAIN.replace(",", ";")),
    "tabs": text(PLAIN.replace(",", "\t"), name="labels.tsv"),
    "bars": text("image|patient|findings\na.png|1|Mass\n", ONE),
    "a line that names the separator": text("sep=;\n" + PLAIN.replace(",", ";")),
    "Windows line ends": text(PLAIN.replace("\n", "\r\n")),
    "old Mac line ends": text(PLAIN.replace("\n", "\r")),
    "no line end at the end": text(PLAIN.rstrip()),
    "blank lines": text("\n\n" + PLAIN.replace("\n", "\n\n") + "\n"),
    "lines of delimiters": text(PLAIN + ",,,\n,,,\n", noted="without a file"),
    "a delimiter at the end of each line": text(PLAIN.replace("\n", ",\n")),
    "blanks around names and values": text(PLAIN.replace(",", " , ")),
    "everything in quotes": text(
        "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.splitlines())
    ),
    "capital letters in the header": text(PLAIN.replace("image", "Image").replace("pat", "PAT")),
    "an index column without a name": text(
        ",image,patient,findings\n0,a.png,007,Mass|Nodule\n1,b.png,08,No Finding\n"
    ),
    "rows that are too short": text(
        HEADER + "a.png,007,PA,Mass|Nodule\nb.png,08\n", {**TWO, "b.png": ("08", "")}
    ),
    "compressed": Readable(gzip.compress(PLAIN.encode()), name="labels.csv.gz"),
    "compressed, without saying so": Readable(gzip.compress(PLAIN.encode())),
    "the header twice": text(PLAIN + PLAIN, noted="repeat another one"),
    "the same rows twice": text(PLAIN + ROWS, noted="repeat another one"),
    "the same row with other labels": text(
        PLAIN + "a.png,007,PA,Edema\n", {"b.png": TWO["b.png"]}, set_aside="2 rows in .* disagree"
    ),
    "the same row of another patient": text(
        PLAIN + "a.png,7,PA,Mass|Nodule\n", {"b.png": TWO["b.png"]}, set_aside="disagree"
    ),
    "names that climb": text(
        PLAIN + "../a.png,1,PA,Edema\n../../etc/passwd,1,PA,\n", noted="without a file"
    ),
    "absolute names of elsewhere": text(PLAIN + "/etc/passwd,1,PA,\n", noted="without a file"),
    "names of a Windows disk": text(PLAIN + "C:\\scans\\c.png,1,PA,\n", noted="without a file"),
    "names in other case": text(PLAIN + "A.PNG,1,PA,\n", noted="without a file"),
    "names without suffix": text(
        PLAIN.replace(".png", ""), {name[:1]: value for name, value in TWO.items()}
    ),
    "an empty name": text(PLAIN + ",1,PA,Mass\n", noted="without a file"),
    "a name of dots": text(PLAIN + "..,1,PA,Mass\n.,1,PA,\n", noted="without a file"),
    "a folder's name": text(PLAIN + "disk,1,PA,Mass\n", noted="without a file"),
    "no patients": text(
        "image,findings\na.png,Mass\n", {"a.png": ("a", "Mass")}, noted="without a patient"
    ),
    "numbers that look like floats": text(
        "image,patient\na.png,1e5\nb.png,1.50\n", {"a.png": ("1e5", ""), "b.png": ("1.50", "")}
    ),
    "only names": text("image\na.png\n", {"a.png": ("a", "")}, noted="without a patient"),
    "a bar at the end of the findings": one("Mass|"),
    "two bars": one("|Mass||mass| "),
    "nothing but bars": text("image,patient,findings\na.png,1,||\n", {"a.png": ("1", "")}),
    "blanks inside a finding": text(
        "image,patient,findings\na.png,1, pleural   effusion \n",
        {"a.png": ("1", "pleural effusion")},
    ),
    "nan for a finding": text("image,patient,findings\na.png,1,nan\n", {"a.png": ("1", "")}),
    "NULL for a finding": text("image,patient,findings\na.png,1,NULL\n", {"a.png": ("1", "")}),
    "N/A beside a finding": one("N/A|Mass"),
    "normal beside a finding": one("normal|Mass"),
    "commas in a finding": text(
        'image,patient,findings\na.png,1,"Mass, left|Edema"\n', {"a.png": ("1", "Mass, left|Edema")}
    ),
    "a line break in a finding": text(
        'image,patient,findings\na.png,1,"pleural\neffusion"\n',
        {"a.png": ("1", "pleural effusion")},
    ),
    "doubled quotes": text(
        'image,patient,findings\na.png,1,"so ""called"" mass"\n',
        {"a.png": ("1", 'so "called" mass')},
    ),
    "a million characters in a field": text(
        f"image,patient,findings,report\na.png,1,Mass,{'x' * 1_000_000}\n", ONE
    ),
    "a million characters in the header": text(
        f"image,patient,findings,{'x' * 1_000_000}\na.png,1,Mass,\n", ONE
    ),
    "a thousand columns": text(
        f"image,patient,findings,{','.join(map(str, range(1000)))}\na.png,1,Mass{',x' * 1000}\n",
        ONE,
    ),
    "parquet": Readable(
        parquet(image=["a.png"], patient=["1"], findings=["Mass"]), ONE, name="t.parquet"
    ),
    "parquet with numbers": Readable(
        parquet(
            image=["a.png", "b.png"], patient=[1, 2], findings=["Mass", None], age=[1.5, np.nan]
        ),
        {"a.png": ("1", "Mass"), "b.png": ("2", "")},
        name="t.parquet",
    ),
    "parquet with whole numbers that one gap made floats": Readable(
        parquet(image=["a.png", "b.png"], patient=[1, None], findings=["Mass", "Mass"]),
        {"a.png": ("1", "Mass"), "b.png": ("b", "Mass")},
        name="t.parquet",
        noted="without a patient",
    ),
    "parquet with lists": Readable(
        parquet(image=["a.png", "b.png"], patient=["1", "2"], findings=[["Mass", "Edema"], []]),
        {"a.png": ("1", "Mass|Edema"), "b.png": ("2", "")},
        name="t.parquet",
    ),
    "parquet with dates and categories": Readable(
        parquet(
            image=pd.Categorical(["a.png"]),
            patient=["1"],
            findings=["Mass"],
            taken=pd.to_datetime(["2020-01-01"]),
            seen=[True],
        ),
        ONE,
        name="t.parquet",
    ),
    "parquet called csv": Readable(
        parquet(image=["a.png"], patient=["1"], findings=["Mass"]), ONE, name="t.csv"
    ),
}

REFUSED: dict[str, tuple[str, bytes, str]] = {
    "empty": ("t.csv", b"", "is empty"),
    "blanks only": ("t.csv", b"\n \n\t\n", "is empty"),
    "a byte order mark only": ("t.csv", codecs.BOM_UTF8, "is empty"),
    "header only": ("t.csv", HEADER.encode(), "has no rows"),
    "a line that names the separator only": ("t.csv", b"sep=;\n", "cannot be parsed|is empty"),
    "no header": ("t.csv", ROWS.encode(), "no column 'image'.*a.png, 007"),
    "other columns": ("t.csv", b"File,Dx\na.png,Mass\n", r"no column 'image' \(it has: File, Dx\)"),
    "columns twice": ("t.csv", b"image,findings,image \na,b,c\n", "several columns called image"),
    "rows that are too long": ("t.csv", HEADER.encode() + b"a,1\nb,1,PA,Mass,x,y\n", "line 3"),
    "all rows too long": ("t.csv", b"image,patient\na,1,2\nb,2,3\n", "cannot be parsed"),
    "an open quote": (
        "t.csv",
        HEADER.encode() + b'"a.png,1,PA,Mass\nb.png,2\n',
        "cannot be parsed",
    ),
    "an open quote in the header": (
        "t.csv",
        b'"image,patient\na.png,1\n',
        "cannot be parsed|column",
    ),
    "no file of the folder": ("t.csv", b"image\nx.png\ny.png\n", "No row of .* names a file"),
    "NUL bytes": ("t.csv", b"image\0,patient\na.png,1\n", "not a text table"),
    "NUL bytes in a row": ("t.csv", PLAIN.encode() + b"\0\0\0\n", "not a text table"),
    "random bytes": ("t.csv", np.random.default_rng(0).bytes(999), "not a text table|column"),
    "a workbook": ("t.xlsx", zipped("xl/workbook.xml", b"<x/>"), "not a text table"),
    "a workbook called csv": ("t.csv", zipped("xl/workbook.xml", b"<x/>"), "not a text table"),
    "an old workbook": (
        "t.xls",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99),
        "not a text table",
    ),
    "a zipped table": ("t.csv.zip", zipped("t.csv", PLAIN.encode()), "not a text table"),
    "half a gzip": ("t.csv.gz", gzip.compress(PLAIN.encode())[:-9], "damaged gzip"),
    "garbage behind gzip's mark": ("t.csv.gz", b"\x1f\x8b" + bytes(40), "damaged gzip"),
    "half a parquet": (
        "t.parquet",
        parquet(image=["a.png"], findings=["Mass"])[:-20],
        "cannot be read as a Parquet table",
    ),
    "text called parquet": ("t.parquet", PLAIN.encode(), "cannot be read as a Parquet table"),
    "an empty parquet": ("t.parquet", b"", "cannot be read as a Parquet table"),
    "parquet without rows": ("t.parquet", parquet(image=[], findings=[]), "has no rows"),
    "JSON": ("t.json", json.dumps([{"image": "a.png"}]).encode(), "has no rows"),
    "a web page": ("t.csv", b"<!DOCTYPE html>\n<html>404</html>\n", "column"),
    "a picture": ("t.csv", encode(grey(1)), "not a text table"),
}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    root = tmp_path / "disk"
    root.mkdir()
    (root / "a.png").write_bytes(encode(grey(1)))
    (root / "b.png").write_bytes(encode(grey(2)))
    return root


def test_there_are_many() -> None:
    assert len(READABLE) > 50 and len(REFUSED) > 25


@pytest.mark.parametrize("kind", READABLE)
def test_an_odd_table_is_read_right(kind: str, disk: Path) -> None:
    case = READABLE[kind]
    table = disk.parent / case.name
    table.write_bytes(case.data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records = list(folder(disk, table))
    usable = {r.image: r for r in records if r.path is not None and not r.problem}
    assert {name: (r.patient, r.findings) for name, r in usable.items()} == case.expected
    assert not case.noted or any(case.noted in record.note for record in records)
    if case.set_aside:
        assert [r.image for r in records if re.search(case.set_aside, r.problem)] == ["a.png"]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_broken_table_is_refused_in_one_sentence(kind: str, disk: Path) -> None:
    name, data, message = REFUSED[kind]
    table = disk.parent / name
    table.write_bytes(data)
    refused(disk, table, message)


def refused(disk: Path, table: Path, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=message) as error:
            list(folder(disk, table))
    told = str(error.value)
    assert "\n" not in told and "\0" not in told and len(told) < 500 and told.endswith(".")


def test_tables_that_are_no_files_are_refused(disk: Path) -> None:
    place = disk.parent
    (place / "folder.csv").mkdir()
    refused(disk, place / "folder.csv", "is a folder")
    refused(disk, place / "nothing.csv", "There is no table")
    (place / "dangling.csv").symlink_to(place / "nothing.csv")
    refused(disk, place / "dangling.csv", "There is no table")
    os.mkfifo(place / "pipe.csv")
    refused(disk, place / "pipe.csv", "is no file")
    (place / "memory.csv").symlink_to("/proc/self/mem")
    refused(disk, place / "memory.csv", "cannot be read")


def test_a_table_that_is_read_is_imported(disk: Path, tmp_path: Path) -> None:
    table = disk.parent / "labels.csv"
    table.write_bytes(PLAIN.encode("utf-16"))
    report = import_from("folder", disk, tmp_path / "store", labels=table, size=16)
    rows = report.store.table
    assert {row.image: (row.patient, row.findings) for row in rows.itertuples()} == TWO
