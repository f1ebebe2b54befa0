"""Bring table rows and files together, and say what has no counterpart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from scxr.data.sources.files import FileIndex, Found
from scxr.data.sources.records import Record
from scxr.errors import InputError


def locate(
    rows: Iterable[Record],
    root: Path,
    files: list[Found],
    table: Path,
    leave_out: Callable[[Record], str] = lambda record: "",
) -> Iterator[Record]:
    """Records with their files, for rows that came without.

    A row without a file, and one that `leave_out` gives a reason for, are noted; rows that repeat
    each other count once; a file whose rows disagree, or that no row names, is set aside.

    Raises `InputError` when no row at all names a file.
    """
    index = FileIndex(root, files)
    matched: dict[Found, list[Record]] = {}
    lost: list[Record] = []
    first: Record | None = None
    for record in rows:
        first = first or record
        matches = index.find(record.image)
        if len(matches) == 1:
            matched.setdefault(matches[0], []).append(record)
        else:
            what = "that could mean several files" if matches else "without a file"
            lost.append(replace(record, note=f"rows of {table.name} {what}"))
    if not matched:
        example = f" (the first row says '{first.image}')" if first else ""
        raise InputError(
            f"No row of {table} names a file below {root}{example}; check the path and the column "
            "that names the files."
        )
    return _records(matched, lost, files, table, leave_out)


def _records(
    matched: Mapping[Found, list[Record]],
    lost: list[Record],
    files: list[Found],
    table: Path,
    leave_out: Callable[[Record], str],
) -> Iterator[Record]:
    yield from lost
    for file, records in matched.items():
        record = replace(records[0], path=file.path, member=file.member)
        reason = leave_out(record)
        if reason:
            yield replace(record, path=None, note=reason)
        elif not all(_facts(other) == _facts(record) for other in records[1:]):
            yield replace(record, problem=f"its {len(records)} rows in {table.name} disagree")
        else:
            yield record
            for other in records[1:]:
                yield replace(other, note=f"rows of {table.name} that repeat another one")
    for file in files:
        if file not in matched:
            reason = f"no row in {table.name} names this file"
            yield Record(file.name, file.path, member=file.member, problem=reason)


def _facts(record: Record) -> tuple[str, str, str, str]:
    return record.patient, record.view, record.findings.casefold(), record.hospital
