"""`scxr data …`: make, import and check stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from scxr.cli.answers import Answer, Command, facts, pairs, table
from scxr.errors import InputError

if TYPE_CHECKING:
    from scxr.data.importing import ImportReport


# Help of more than one line: tyro would keep the breaks of a docstring.
LABELS = (
    "folder: CSV, TSV or Parquet with the columns image, patient, view, findings (a|b); or the "
    "word subfolders, where folders are named after findings. nih and padchest: their table, where "
    "it lies elsewhere."
)
BOXES = (
    "folder only: rectangles to keep as regions, in a table with the columns image, finding, x, y, "
    "width and height; pixels of the files, x and y the upper left corner."
)
MASKS = (
    "folder only: outlines to keep as regions, in a table with the columns image, structure and "
    "mask (the picture of the outline, bright inside; relative to the table or to PATH)."
)
PART = (
    "Import only the K-th of N parts, for example 3/16, to STORE.part-03-of-16. Give each machine "
    "the same command with another part, then: scxr data join STORE STORE.part-*"
)


@dataclass
class Phantom(Command):
    """Write a store of procedural radiographs with known findings, masks and hospitals."""

    out: Annotated[Path, arg(metavar="STORE")]
    """Folder to write."""
    n: int = 4000
    """Number of images."""
    size: int = 128
    """Height and width, pixels."""
    hospital: Literal["A", "B"] = "A"
    """A: the unlabelled pool, several findings an image; B: the target, at most one."""
    seed: int = 0

    def __call__(self) -> Answer:
        from scxr.data.phantom import write_store

        store = write_store(
            self.out, self.n, size=self.size, hospital=self.hospital, seed=self.seed
        )
        return facts(store.summary())


@dataclass
class Import(Command):
    """Turn radiographs on disk into a store; files that cannot be read are listed, not fatal.

    Zip and tar archives are read as they are. Values are normalised before they are cut to 8 bits.
    An import that was interrupted goes on when the same command is given again.
    """

    source: Positional[Literal["nih", "padchest", "chestmnist", "folder"]]
    """Layout of the files: a data set as distributed, or any folder of images."""
    path: Annotated[Positional[Path], arg(metavar="PATH")]
    """Folder (or file, for chestmnist; or archive) to read."""
    out: Annotated[Path, arg(metavar="STORE")]
    """Folder to write."""
    labels: Annotated[str | None, arg(metavar="TABLE", help=LABELS)] = None
    column: Annotated[tuple[str, ...], arg(metavar="NAME=COLUMN")] = ()
    """folder only: other names of the table's columns, for example image=Filename."""
    boxes: Annotated[Path | None, arg(metavar="TABLE", help=BOXES)] = None
    masks: Annotated[Path | None, arg(metavar="TABLE", help=MASKS)] = None
    download: Annotated[int | None, arg(metavar="SIZE")] = None
    """chestmnist only: fetch the file of 28, 64, 128 or 224 px to PATH, unless it is there."""
    size: int = 256
    """Height and width in the store, pixels."""
    aspect: Literal["squash", "pad"] = "squash"
    """Pictures that are not square: squash them (as the series does), or pad with black."""
    workers: Annotated[int | None, arg(metavar="INT")] = None
    """Threads; all cores without it."""
    limit: Annotated[int | None, arg(metavar="INT")] = None
    """Import at most this many images."""
    part: Annotated[str | None, arg(metavar="K/N", help=PART)] = None
    overwrite: bool = False
    """Replace a store that is already there."""

    def __call__(self) -> Answer:
        from scxr.data.importing import import_from

        report = import_from(
            self.source,
            self.path,
            self.out,
            size=self.size,
            aspect=self.aspect,
            workers=self.workers,
            limit=self.limit,
            part=self.part,
            overwrite=self.overwrite,
            labels=self.labels,
            columns=pairs(self.column) or None,
            boxes=self.boxes,
            masks=self.masks,
            download=self.download,
        )
        return _told(report)


@dataclass
class Join(Command):
    """Make one store of the parts that `scxr data import --part` wrote, on one machine or many."""

    out: Annotated[Positional[Path], arg(metavar="STORE")]
    """Folder to write."""
    parts: Annotated[Positional[tuple[Path, ...]], arg(metavar="PART [PART ...]")]
    """The parts, in any order."""
    overwrite: bool = False
    """Replace a store that is already there."""

    def __call__(self) -> Answer:
        from scxr.data.joining import join_parts

        return _told(join_parts(self.out, self.parts, overwrite=self.overwrite))


@dataclass
class Info(Command):
    """Say what a store holds."""

    store: Annotated[Positional[Path], arg(metavar="STORE")]

    def __call__(self) -> Answer:
        from scxr.data import RadiographStore
        from scxr.data.episodes import count_findings
        from scxr.data.importing import leftovers
        from scxr.data.remarks import read_remarks, sentences

        unfinished = leftovers(self.store)
        if unfinished and not self.store.exists():
            raise InputError(
                f"The import to {self.store} was interrupted; give it again to go on (what is done "
                f"lies in {unfinished})."
            )
        store = RadiographStore.open(self.store)
        known, counts = facts(store.summary()), table(count_findings(store.table))
        remarks = read_remarks(store.path)
        notes = sentences(remarks)
        if unfinished:
            notes.append(
                f"An interrupted import left its finished shards in {unfinished}; give the import "
                "again to go on, or remove the folder."
            )
        data = known.data | {"findings": counts.data["rows"], "notes": notes}
        data |= {"repeats": remarks.get("repeats", {})}
        text = f"{known.text}\n\nimages by finding and side\n{counts.text}"
        return Answer(data, "\n".join([text, *(["", "notes", *notes] if notes else [])]))


@dataclass
class Verify(Command):
    """Check a store's files against their checksums."""

    store: Annotated[Positional[Path], arg(metavar="STORE")]

    def __call__(self) -> Answer:
        from scxr.data import RadiographStore

        store = RadiographStore.open(self.store)
        store.verify()
        return Answer({"store": str(self.store), "intact": True}, f"{self.store} is intact.")


@dataclass
class Data:
    """Make, import and check stores of radiographs."""

    command: (
        Annotated[Phantom, tyro.conf.subcommand("phantom")]
        | Annotated[Import, tyro.conf.subcommand("import")]
        | Annotated[Join, tyro.conf.subcommand("join")]
        | Annotated[Info, tyro.conf.subcommand("info")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )


def _told(report: ImportReport) -> Answer:
    lines = [f"{report.imported} images are in {report.store.path}."]
    if report.resumed:
        lines.append(f"{report.resumed} of them were ready from an interrupted import.")
    lines += [f"left out: {q['file']}: {q['reason']}" for q in report.quarantined]
    data = {
        "imported": report.imported,
        "quarantined": report.quarantined,
        "notes": report.notes,
        "repeats": report.repeats,
        "resumed": report.resumed,
        "store": str(report.store.path),
    }
    # The notes are on standard error already: the importer logs them.
    return Answer(data, "\n".join(lines))
