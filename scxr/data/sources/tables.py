"""Read label tables as they are found: CSV, TSV and other delimiters, BOM, gzip, Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from scxr.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
TEXT_SUFFIXES = {".csv", ".tsv", ".txt", ".tab"}


def read_table(path: Path) -> pd.DataFrame:
    """All columns as text, blanks as empty strings, column names stripped.

    Raises `InputError` in one sentence for a table that is missing, empty or not a table.
    """
    if not path.is_file():
        raise InputError(f"There is no table {path}; check the path.")
    frame = _parquet(path) if path.suffix.lower() == ".parquet" else _delimited(path)
    frame.columns = [str(name).strip() for name in frame.columns]
    if len(frame) == 0:
        raise InputError(f"The table {path} has no rows.")
    return frame


def find_table(folder: Path, pattern: str, given: str | Path | None, what: str) -> Path:
    """The table `given`, or the one file under `folder` that matches `pattern`."""
    if given is not None:
        return Path(given)
    places = (folder, folder.parent) if folder.is_file() else (folder,)
    for place in places:
        found = sorted(file for file in place.rglob(pattern) if file.is_file())
        if len(found) > 1:
            names = ", ".join(file.name for file in found[:3])
            raise InputError(f"{place} holds several {what} ({names}); choose one with --labels.")
        if found:
            return found[0]
    raise InputError(f"There is no {what} ({pattern}) in {folder}; give it with --labels.")


def require_columns(frame: pd.DataFrame, names: list[str], path: Path) -> None:
    """Raise `InputError` naming the columns that are missing and those that are there."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        there = ", ".join(map(str, frame.columns[:12]))
        raise InputError(
            f"The table {path} lacks the columns {', '.join(missing)} (it has: {there})."
        )


def pick_columns(
    frame: pd.DataFrame, wanted: tuple[str, ...], columns: Mapping[str, str], path: Path
) -> dict[str, str]:
    """Which column of a foreign table plays which part: part -> column name.

    `columns` names them explicitly; otherwise a column of the part's own name, in any case, does.
    """
    unknown = [part for part in columns if part not in wanted]
    if unknown:
        raise InputError(
            f"There is no column to set called {', '.join(unknown)}; choose of {', '.join(wanted)}."
        )
    require_columns(frame, list(columns.values()), path)
    own = {str(name).casefold(): str(name) for name in reversed(frame.columns)}
    picked = {part: own[part] for part in wanted if part in own}
    return {**picked, **columns}


def _parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a Parquet table ({error}).") from error
    return frame.astype(object).where(frame.notna(), "").astype(str)


def _delimited(path: Path) -> pd.DataFrame:
    text = _text(path)
    if not text.strip():
        raise InputError(f"The table {path} is empty.")
    if "\0" in text:
        raise InputError(f"{path} is not a text table; give a CSV, TSV or Parquet file.")
    header = text.lstrip().splitlines()[0]
    # The delimiter is the sign that cuts the header into most columns.
    delimiter = max(DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign))))
    return _parse(io.StringIO(text.lstrip("\r\n"), newline=""), delimiter, path)


def _parse(lines: io.StringIO, delimiter: str, path: Path) -> pd.DataFrame:
    """The csv module rather than pandas: a row longer than the header must not shift columns."""
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = next(reader)
        rows = []
        for row in reader:
            if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
                raise InputError(
                    f"Line {reader.line_num} of {path} has {len(row)} fields, the header "
                    f"{len(header)}; quote the fields that hold the delimiter '{delimiter}'."
                )
            if any(cell.strip() for cell in row):
                rows.append(row[: len(header)] + [""] * (len(header) - len(row)))
    except csv.Error as error:
        raise InputError(f"Line {reader.line_num} of {path} cannot be parsed ({error}).") from error
    return pd.DataFrame(rows, columns=header, dtype=str)


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} is a damaged gzip file ({error}).") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Spreadsheets on Windows write the local code page; accents may differ, columns do not.
        return data.decode("cp1252", errors="replace")
