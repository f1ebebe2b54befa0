"""Read label tables as they are found: CSV, TSV and other delimiters, BOM, gzip, Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scxr.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
PARQUET_MARK = b"PAR1"
SEPARATOR_LINE = re.compile(r"\A\s*sep=.[ \t]*\r?\n", re.IGNORECASE)
TEXT_SUFFIXES = {".csv", ".tsv", ".txt", ".tab"}


def read_table(path: Path, columns: Collection[str] | None = None) -> pd.DataFrame:
    """All columns (or these, which is faster) as text, blanks as empty strings, names stripped.

    Raises `InputError` in one sentence for a table that is missing, empty or not a table.
    """
    data = _content(path)
    parquet = path.suffix.lower() == ".parquet" or data.startswith(PARQUET_MARK)
    frame = _parquet(data, path) if parquet else _delimited(data, path, columns)
    names = [str(name).strip() for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"The table {path} has several columns called {', '.join(repeated)}.")
    frame.columns = pd.Index(names)
    if len(frame) == 0:
        raise InputError(f"The table {path} has no rows.")
    return frame


def iterate(frame: pd.DataFrame, columns: Iterable[str] | None = None) -> Iterator[dict[str, str]]:
    """The rows as dictionaries of text, of these columns (those that exist) or of all."""
    names = [name for name in frame.columns if columns is None or name in set(columns)]
    for values in zip(*(frame[name].tolist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def find_table(folder: Path, pattern: str, given: str | Path | None, what: str) -> Path:
    """The table `given`, or the one file under `folder` that matches `pattern`."""
    if given is not None:
        return Path(given)
    places = (folder, folder.parent) if folder.is_file() else (folder,)
    for place in places:
        found = sorted(file for file in place.rglob(pattern) if file.is_file())
        if len(found) > 1:
            names = ", ".join(file.name for file in found[:3])
            raise InputError(
                f"{place} holds more than one {what} ({names}); choose one with --labels."
            )
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


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the table in it.")
    if not path.exists():
        raise InputError(f"There is no table {path}; check the path.")
    if not path.is_file():
        raise InputError(f"{path} is no file; give a CSV, TSV or Parquet table.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The table {path} cannot be read ({error.strerror}).") from error


def _parquet(data: bytes, path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as a Parquet table ({reason}).") from error
    columns = {name: [_as_text(value) for value in frame[name]] for name in frame.columns}
    return pd.DataFrame(columns, index=frame.index, dtype=object)


def _as_text(value: Any) -> str:
    """A typed value as a CSV file would hold it; a list is `a|b`."""
    if isinstance(value, np.ndarray | list | tuple):
        return "|".join(_as_text(part) for part in value)
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # one gap in a column makes floats of all its integers
    return str(value)


def _delimited(data: bytes, path: Path, columns: Collection[str] | None) -> pd.DataFrame:
    text = _text(data, path)
    if not text.strip():
        raise InputError(f"The table {path} is empty.")
    if "\0" in text:
        raise InputError(f"{path} is not a text table; give a CSV, TSV or Parquet file.")
    text = SEPARATOR_LINE.sub("", text)  # what spreadsheets write for themselves
    # The start of a header is enough, and all that the csv module would take.
    header = text.lstrip()[:100_000].splitlines()[0] if text.strip() else ""
    # The delimiter is the sign that cuts the header into most columns.
    delimiter = max(DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign))))
    try:
        return _parse(text, delimiter, columns)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise InputError(
            f"The table {path} cannot be parsed with the delimiter '{delimiter}': {reason}."
        ) from error


def _parse(text: str, delimiter: str, columns: Collection[str] | None) -> pd.DataFrame:
    options: dict[str, Any] = {"sep": delimiter, "dtype": str, "keep_default_na": False}
    if columns is not None:
        options["usecols"] = lambda name: name.strip() in columns
    frame = pd.read_csv(io.StringIO(text), low_memory=False, **options)
    if isinstance(frame.index, pd.RangeIndex):
        return frame
    # Rows longer than the header: pandas would shift the columns. Harmless only where the surplus
    # is an empty field at the end of each line, otherwise it warns, which counts as an error here.
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(io.StringIO(text), index_col=False, **options)


def _text(data: bytes, path: Path) -> str:
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
