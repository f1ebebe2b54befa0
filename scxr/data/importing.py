"""Turn records into a store: decode in parallel, set bad files aside, survive a kill.

The work is cut into shards of `SHARD` images. Each finished shard is a file in a hidden folder
beside the destination; an import that was interrupted finds them there and goes on. At the end the
shards are joined, in the order of the records, so the store does not depend on how many workers
made it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from scxr.data.boxes import box_masks, outline_masks
from scxr.data.decoding import ASPECTS
from scxr.data.planning import Plan, cut, make_plan, name_of, part_of
from scxr.data.remarks import sentences, write_remarks
from scxr.data.sharding import Work, finished_shards, load_shard, make_shards
from scxr.data.sources import SOURCES, Record
from scxr.data.store import RadiographStore, StoreWriter
from scxr.data.store.layout import check_destination, check_space
from scxr.errors import InputError
from scxr.progress import progress_bar

log = logging.getLogger(__name__)

SHARD = 8
QUARANTINE = "quarantine.csv"


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        imported: number of images in the store.
        quarantined: files that were not imported, as `{"file", "reason"}`; also kept in the store
            as `quarantine.csv`.
        store: the store, opened.
        notes: sentences about rows without files, repeated images, patients on both sides of a
            split and the like; the store keeps them, counted, as `notes.json`.
        repeats: counts of equal and nearly equal images, as in `notes.json`.
        resumed: images that an interrupted import had finished.
    """

    imported: int
    quarantined: list[dict[str, str]]
    store: RadiographStore
    notes: list[str] = field(default_factory=list)
    repeats: dict[str, Any] = field(default_factory=dict)
    resumed: int = 0


def import_from(
    kind: str,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int = 256,
    aspect: str = "squash",
    workers: int | None = None,
    limit: int | None = None,
    part: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> ImportReport:
    """Import the data set of `kind` (`nih`, `padchest`, `chestmnist`, `folder`) at `path`.

    `options` go to the source (`labels`, `columns`, `boxes`, `masks`, `download`, `views`); the
    rest is as in `import_records`.
    """
    if kind not in SOURCES:
        raise InputError(f"There is no source '{kind}'; choose of {', '.join(SOURCES)}.")
    given = {name: value for name, value in options.items() if value is not None}
    foreign = sorted(given.keys() - inspect.signature(SOURCES[kind]).parameters.keys())
    if foreign:
        raise InputError(f"The source {kind} takes no {', '.join(foreign)}; leave it out.")
    check_destination(destination_of(out, part), overwrite)
    records = SOURCES[kind](Path(path), **given)
    return import_records(
        records,
        out,
        size=size,
        aspect=aspect,
        workers=workers,
        limit=limit,
        part=part,
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
    part: str | None = None,
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
        part: `3/16` imports the third of 16 parts into `<out>.part-03-of-16`; every machine that
            imports a part needs all the files or archives listed, but reads only its own.
            `scxr.data.joining.join_parts` makes one store of them.
        overwrite: replace an existing store.
        source: what the store says about its origin.

    Raises `InputError` when an option makes no sense, `out` is taken, or no image could be read.
    """
    _check_options(size, aspect, workers, limit)
    destination = destination_of(out, part)
    check_destination(destination, overwrite)
    plan = make_plan(records, limit)
    if not plan.todo:
        raise InputError(_nothing(plan.quarantined))
    origin = {"kind": "records", **(source or {})}
    shards = cut(plan.todo, SHARD)
    if part is not None:
        origin |= {
            "part": part_of(part),
            "plan": plan.digest([size, aspect, SHARD, origin["kind"]]),
        }
        shards = plan.keep(part_of(part), shards)
    todo = [record for shard in shards for record in shard]
    destination.parent.mkdir(parents=True, exist_ok=True)
    work = Work(_shard_folder(destination, todo, size, aspect), size, aspect)
    resumed = sum(len(shards[number]) for number in finished_shards(work.folder, len(shards)))
    # The finished shards and the store that they are joined to lie side by side for a while.
    check_space(destination.parent, (2 * len(todo) - resumed) * size * size)
    with progress_bar(total=len(todo), desc="importing", unit="image", smoothing=0.05) as progress:
        files = make_shards(shards, work, workers or os.cpu_count() or 1, progress.update)
    writer = StoreWriter(destination, size, size, origin, aspect=aspect, overwrite=overwrite)
    with writer:
        _join(files, shards, plan, writer, aspect)
        if writer.count == 0:
            shutil.rmtree(work.folder, ignore_errors=True)
            advice = " Cut the import into fewer parts." if part else ""
            raise InputError(_nothing(plan.quarantined) + advice)
        content = plan.remarks.content()
        write_quarantine(writer.folder, plan.quarantined)
        write_remarks(writer.folder, content)
    shutil.rmtree(work.folder, ignore_errors=True)
    report = ImportReport(
        imported=writer.count,
        quarantined=plan.quarantined,
        store=writer.finish(),
        notes=sentences(content),
        repeats=content["repeats"],
        resumed=resumed,
    )
    tell(report)
    return report


def destination_of(out: str | os.PathLike[str], part: str | None) -> Path:
    """The folder that an import writes: `out`, or `<out>.part-03-of-16` beside it."""
    path = Path(out).absolute()
    if part is None:
        return path
    number, parts = part_of(part)
    return path.parent / f"{path.name}.part-{number:02d}-of-{parts:02d}"


def write_quarantine(folder: Path, quarantined: list[dict[str, str]]) -> None:
    """Keep the list of files that were set aside in a store that is being written."""
    frame = pd.DataFrame(quarantined, columns=["file", "reason"])
    frame.to_csv(folder / QUARANTINE, index=False)


def tell(report: ImportReport) -> None:
    """Log what was set aside and what else is to be known."""
    if report.quarantined:
        file = report.store.path / QUARANTINE
        log.warning("%d files were set aside; %s says why", len(report.quarantined), file)
    for note in report.notes:
        log.warning("%s", note)


def leftovers(store: str | os.PathLike[str]) -> Path | None:
    """The folder in which an interrupted import to `store` keeps its finished shards."""
    path = Path(store).absolute()
    folder = path.parent / f".{path.name}.shards"
    return folder if folder.is_dir() else None


def _join(
    files: list[Path],
    shards: list[list[Record]],
    plan: Plan,
    writer: StoreWriter,
    aspect: str,
) -> None:
    for file, records in zip(files, shards, strict=True):
        shard = load_shard(file)
        for index, reason in shard.failed:
            plan.quarantined.append({"file": name_of(records[index]), "reason": reason})
        kept = [records[index] for index in shard.kept]
        for record in kept:
            if record.note:
                plan.remarks.note(record.note, record.image)
        rows = [_row(record) for record in kept]
        plan.remarks.see(rows, shard.images)
        writer.add(
            shard.images,
            rows,
            outline_masks(kept, shard, aspect),
            boxes=box_masks(kept, shard, aspect),
        )


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
        return folder
    if folder.exists():
        log.warning("%s is of an import of other files or settings; it is replaced", folder)
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
