"""`scxr data …`: make, import and check stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from scxr.cli.answers import Answer, Command, facts, pairs, table


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
    """Turn radiographs on disk into a store; files that cannot be read are listed, not fatal."""

    source: Positional[Literal["nih", "padchest", "chestmnist", "folder"]]
    """Layout of the files: a data set as distributed, or any folder of images."""
    path: Annotated[Positional[Path], arg(metavar="PATH")]
    """Folder (or file, for chestmnist) to read."""
    out: Annotated[Path, arg(metavar="STORE")]
    """Folder to write."""
    labels: Annotated[str | None, arg(metavar="TABLE")] = None
    """folder only: CSV, TSV or Parquet with the columns image, patient, view, findings (a|b); or
    "subfolders", where folders are named after findings."""
    column: Annotated[tuple[str, ...], arg(metavar="NAME=COLUMN")] = ()
    """folder only: other names of the table's columns, for example image=Filename."""
    size: int = 256
    """Height and width in the store, pixels."""
    aspect: Literal["squash", "pad"] = "squash"
    """What to do with pictures that are not square."""
    workers: Annotated[int | None, arg(metavar="INT")] = None
    """Threads; all cores without it."""
    limit: Annotated[int | None, arg(metavar="INT")] = None
    """Import at most this many images."""
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
            overwrite=self.overwrite,
            labels=self.labels,
            columns=pairs(self.column) or None,
        )
        lines = [f"{report.imported} images are in {self.out}."]
        lines += [f"left out: {q['file']}: {q['reason']}" for q in report.quarantined]
        data = {"imported": report.imported, "quarantined": report.quarantined}
        # The notes are on standard error already: the importer logs them.
        return Answer(data | {"notes": report.notes}, "\n".join(lines))


@dataclass
class Info(Command):
    """Say what a store holds."""

    store: Annotated[Positional[Path], arg(metavar="STORE")]

    def __call__(self) -> Answer:
        from scxr.data import RadiographStore
        from scxr.data.episodes import count_findings

        store = RadiographStore.open(self.store)
        known, counts = facts(store.summary()), table(count_findings(store.table))
        data = known.data | {"findings": counts.data["rows"]}
        return Answer(data, f"{known.text}\n\nimages by finding and side\n{counts.text}")


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
        | Annotated[Info, tyro.conf.subcommand("info")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
    )
