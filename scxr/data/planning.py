"""What an import will do before it reads a picture: which files, in which order, in which parts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from scxr.data.remarks import Remarks
from scxr.data.sharding import Source, source_of
from scxr.data.sources import Record
from scxr.data.sources.archives import list_archive
from scxr.errors import InputError


@dataclass
class Plan:
    """Files to import, files set aside without being opened, and what there is to say."""

    todo: list[Record] = field(default_factory=list)
    quarantined: list[dict[str, str]] = field(default_factory=list)
    remarks: Remarks = field(default_factory=Remarks)

    def digest(self, settings: Any) -> str:
        """Equal where parts can be joined: same records, labels, file sizes and settings.

        Folders and times do not count: each machine may have its own copy.
        """
        content = hashlib.sha256(json.dumps([settings, len(self.todo)]).encode())
        for record in self.todo:
            content.update(_facts(record).encode())
        return content.hexdigest()

    def keep(self, part: tuple[int, int], shards: list[list[Record]]) -> list[list[Record]]:
        """The shards of a part; what concerns the whole import stays with the first part."""
        number, parts = part
        if parts > len(shards):
            raise InputError(
                f"{len(self.todo)} images are too few for {parts} parts; take at most "
                f"{len(shards)}."
            )
        if number > 1:
            self.quarantined.clear()
            self.remarks.notes.clear()
        return shards[len(shards) * (number - 1) // parts : len(shards) * number // parts]


def make_plan(records: Iterable[Record], limit: int | None) -> Plan:
    """Sort records into what is imported, set aside and noted."""
    plan = Plan()
    for record in records:
        if record.path is None:
            plan.remarks.note(record.note or "rows without a file", record.image)
        elif record.problem:
            plan.quarantined.append({"file": name_of(record), "reason": record.problem})
        elif limit is None or len(plan.todo) < limit:
            plan.todo.append(record)
        else:
            plan.remarks.note(f"files beyond the limit of {limit}, left out", record.image)
    plan.todo = in_reading_order(plan.todo)
    return plan


def in_reading_order(records: Sequence[Record]) -> list[Record]:
    """The records of an archive that is read from front to back, together and in its order.

    They stand where the first of them stood; all others keep their places.
    """
    first: dict[Source, int] = {}
    keys: list[tuple[int, int]] = []
    order: dict[Path, dict[str, int]] = {}
    for number, record in enumerate(records):
        source = source_of(record)
        if source is None or record.path is None:
            keys.append((number, 0))
            continue
        if record.index is None and record.path not in order:
            members = list_archive(record.path).members
            order[record.path] = {name: place for place, name in enumerate(members)}
        place = record.index
        if place is None:
            place = order[record.path].get(record.member, len(order[record.path]))
        keys.append((first.setdefault(source, number), place))
    return [records[number] for number in sorted(range(len(records)), key=keys.__getitem__)]


def cut(records: Sequence[Record], size: int) -> list[list[Record]]:
    """Shards of at most `size` records, each of one source only."""
    shards = []
    for _, group in groupby(records, key=source_of):
        together = list(group)
        shards += [together[start : start + size] for start in range(0, len(together), size)]
    return shards


def part_of(text: str) -> tuple[int, int]:
    """`3/16` -> (3, 16)."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    number, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= parts:
        raise InputError(f"There is no part '{text}'; write 3/16 for the third of sixteen.")
    return number, parts


def name_of(record: Record) -> str:
    """The file as the quarantine list calls it."""
    return record.image if not record.member else f"{record.path}/{record.member}"


def _facts(record: Record) -> str:
    assert record.path is not None
    known = dataclasses.replace(record, path=None, masks=())
    facts: list[Any] = [dataclasses.astuple(known), record.path.name, _size(record.path)]
    facts += [(m.structure, m.member, m.path.name, _size(m.path)) for m in record.masks]
    return json.dumps(facts, default=dict)


def _size(path: Path) -> int:
    """Bytes of a file; -1 where it cannot be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
