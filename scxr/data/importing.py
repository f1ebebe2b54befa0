"""Turn records into a store: decode in parallel, set bad files aside, survive a kill.

The work is cut into shards of `SHARD` images. Each finished shard is a file in a hidden folder
beside the destination; an import that was interrupted finds them there and goes on. At the end the
shards are joined, in the order of the records, so the store does not depend on how many workers
made it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from scxr.data.boxes import box_masks
from scxr.data.decoding import ASPECTS
from scxr.data.sharding import Work, load_shard, make_shards
from scxr.data.sources import SOURCES, Record
from scxr.data.store import RadiographStore, StoreWriter
from scxr.data.store.layout import check_destination
from scxr.errors import InputError
from scxr.progress import progress_bar

log = logging.getLogger(__name__)

SHARD = 32
QUARANTINE = "quarantine.csv"


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        imported: number of images in the store.
        quarantined: files that were not imported, as `{"file", "reason"}`; also kept in the store
            as `quarantine.csv`.
        store: the store, opened.
        notes: sentences about rows without files, unknown labels, repeated images and the like.
    """

    imported: int
    quarantined: list[dict[str, str]]
    store: RadiographStore
    notes: list[str] = field(default_factory=list)


def import_from(
    kind: str,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 256,
    aspect: str = "squash",
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    **options: Any,
) -> ImportReport:
    """Import the data set of `kind` (`nih`, `padchest`, `chestmnist`, `folder`) at `path`.

    `options` go to the source (`labels`, `columns`, `views`); the rest is as in `import_records`.
    """
    if kind not in SOURCES:
        raise InputError(f"There is no source '{kind}'; choose of {', '.join(SOURCES)}.")
    check_destination(Path(out).absolute(), overwrite)
    given = {name: value for name, value in options.items() if value is not None}
    records = SOURCES[kind](Path(path), **given)
    return import_records(
        records,
        out,
        size=size,
        aspect=aspect,
        workers=workers,
        limit=limit,
        overwrite=overwrite,
        source={"kind": kind, "folder": Path(path).absolute().name},
    )


def import_records(
    records: Iterable[Record],
    out: str | os.PathLike[str],
    size: int = 256,
    aspect: str = "squash",
    workers: int | None = None,
    limit: int | None = None,
    *,
    overwrite: bool = False,
    source: Mapping[str, Any] | None = None,
) -> ImportReport:
    """Decode the records' files into a new store at `out`.

    Args:
        records: from a source.
        out: where the store will be; it appears when everything is done.
        size: height and width in pixels.
        aspect: `squash` (the series) or `pad`, see `scxr.data.decoding.fit`.
        workers: threads; None takes all cores. Pillow decodes and resizes without holding Python's
            lock, so threads share the cores and cost no start-up.
        limit: import at most the first `limit` files.
        overwrite: replace an existing store.
        source: what the store says about its origin.

    Raises `InputError` when an option makes no sense, `out` is taken, or no image could be read.
    """
    _check_options(size, aspect, workers, limit)
    destination = Path(out).absolute()
    check_destination(destination, overwrite)
    plan = _plan(records, limit)
    if not plan.todo:
        raise InputError(_nothing(plan.quarantined))
    parts = [plan.todo[start : start + SHARD] for start in range(0, len(plan.todo), SHARD)]
    work = Work(_shard_folder(destination, plan.todo, size, aspect), size, aspect)
    with progress_bar(
        total=len(plan.todo), desc="importing", unit="image", smoothing=0.05
    ) as progress:
        files = make_shards(parts, work, workers or os.cpu_count() or 1, progress.update)
    writer = StoreWriter(
        destination,
        size,
        size,
        {"kind": "records", **(source or {})},
        capacity=len(plan.todo),
        aspect=aspect,
        overwrite=overwrite,
    )
    with writer:
        _join(files, parts, plan, writer, aspect)
        if writer.count == 0:
            shutil.rmtree(work.folder, ignore_errors=True)
            raise InputError(_nothing(plan.quarantined))
        pd.DataFrame(plan.quarantined, columns=["file", "reason"]).to_csv(
            writer.folder / QUARANTINE, index=False
        )
    shutil.rmtree(work.folder, ignore_errors=True)
    report = ImportReport(writer.count, plan.quarantined, writer.finish(), plan.sentences())
    if report.quarantined:
        log.warning(
            "%d files were set aside; %s says why",
            len(report.quarantined),
            destination / QUARANTINE,
        )
    for note in report.notes:
        log.warning("%s", note)
    return report


@dataclass
class _Plan:
    todo: list[Record]
    quarantined: list[dict[str, str]]
    notes: Counter[str]
    examples: dict[str, str]

    def note(self, text: str, image: str) -> None:
        self.notes[text] += 1
        self.examples.setdefault(text, image)

    def sentences(self) -> list[str]:
        return [
            f"{count} {text} (for example {self.examples[text]})."
            for text, count in self.notes.most_common()
        ]


def _plan(records: Iterable[Record], limit: int | None) -> _Plan:
    plan = _Plan([], [], Counter(), {})
    for record in records:
        if record.path is None:
            plan.note(record.note or "rows without a file", record.image)
        elif record.problem:
            plan.quarantined.append({"file": _name(record), "reason": record.problem})
        elif limit is None or len(plan.todo) < limit:
            plan.todo.append(record)
        else:
            plan.note(f"files beyond the limit of {limit}, left out", record.image)
    return plan


def _join(
    files: list[Path], parts: list[list[Record]], plan: _Plan, writer: StoreWriter, aspect: str
) -> None:
    seen: dict[bytes, Record] = {}
    for file, part in zip(files, parts, strict=True):
        shard = load_shard(file)
        for index, reason in shard.failed:
            plan.quarantined.append({"file": _name(part[index]), "reason": reason})
        kept = [part[index] for index in shard.kept]
        for record, picture in zip(kept, shard.images, strict=True):
            if record.note:
                plan.note(record.note, record.image)
            _note_repeat(plan, seen, record, picture)
        writer.add(
            shard.images,
            [_row(record) for record in kept],
            box_masks(kept, shard, aspect),
            kind="box",
        )


def _note_repeat(plan: _Plan, seen: dict[bytes, Record], record: Record, pixels: Any) -> None:
    """Count pictures that are equal pixel by pixel; under two patients they can leak."""
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
    first = seen.setdefault(digest, record)
    if first is record:
        return
    owner = "another patient" if first.patient != record.patient else "the same patient"
    plan.note(f"images that equal an earlier image of {owner} in every pixel", record.image)


def _row(record: Record) -> dict[str, str]:
    return {
        **record.extra,
        "image": record.image,
        "patient": record.patient,
        "view": record.view,
        "findings": record.findings,
        "hospital": record.hospital,
    }


def _shard_folder(destination: Path, todo: list[Record], size: int, aspect: str) -> Path:
    """The folder of finished shards, emptied unless they come from the same files and settings."""
    folder = destination.parent / f".{destination.name}.shards"
    plan = folder / "plan.json"
    content = hashlib.sha256(json.dumps([size, aspect, SHARD]).encode())
    for record in todo:
        content.update(_identity(record).encode())
    wanted = json.dumps({"content": content.hexdigest()})
    if plan.is_file() and plan.read_text(encoding="utf-8") == wanted:
        log.info("continuing an interrupted import")
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plan.write_text(wanted, encoding="utf-8")
    return folder


def _identity(record: Record) -> str:
    """Changes when the file does; labels do not matter, they are joined afresh."""
    assert record.path is not None
    try:
        status = record.path.stat()
        state = (status.st_size, status.st_mtime_ns)
    except OSError:
        state = (-1, -1)
    return json.dumps([str(record.path.absolute()), record.member, record.index, *state])


def _name(record: Record) -> str:
    return record.image if not record.member else f"{record.path}/{record.member}"


def _check_options(size: int, aspect: str, workers: int | None, limit: int | None) -> None:
    if aspect not in ASPECTS:
        raise InputError(f"There is no aspect '{aspect}'; choose of {', '.join(ASPECTS)}.")
    bounds: list[tuple[str, int | None, Callable[[int], bool], str]] = [
        ("size", size, lambda value: 16 <= value <= 4096, "between 16 and 4096 pixels"),
        ("workers", workers, lambda value: value >= 1, "at least 1"),
        ("limit", limit, lambda value: value >= 1, "at least 1"),
    ]
    for name, value, allowed, words in bounds:
        if value is not None and not allowed(value):
            raise InputError(f"The {name} is {value}; it has to be {words}.")


def _nothing(quarantined: list[dict[str, str]]) -> str:
    if not quarantined:
        return "There is no image to import; check the path and the labels."
    first = quarantined[0]
    return (
        f"None of {len(quarantined)} files could be imported; the first, {first['file']}: "
        f"{first['reason']}."
    )
