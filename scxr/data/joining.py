"""Make one store of the parts that several machines have imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scxr.data.importing import QUARANTINE, ImportReport, tell, write_quarantine
from scxr.data.remarks import Remarks, read_remarks, sentences, write_remarks
from scxr.data.store import RadiographStore, StoreWriter
from scxr.data.store.layout import check_destination
from scxr.errors import InputError
from scxr.progress import progress_bar

BLOCK = 512


def join_parts(
    out: str | os.PathLike[str],
    parts: Sequence[str | os.PathLike[str]],
    *,
    overwrite: bool = False,
) -> ImportReport:
    """Join the parts of an import into the store that one import would have made.

    Args:
        out: where the store will be; it appears when everything is done.
        parts: folders that `--part k/n` made, in any order; their checksums are verified.
        overwrite: replace an existing store.

    Pixels pass through in blocks and the result is equal in every byte to an import in one go.
    Raises `InputError` where a part is missing, given twice, damaged, or of another import.
    """
    check_destination(Path(out).absolute(), overwrite)
    stores = _in_order([RadiographStore.open(part) for part in parts])
    for store in stores:
        store.verify()
    source = {key: value for key, value in stores[0].source.items() if key not in ("part", "plan")}
    _, height, width = stores[0].shape
    remarks, quarantined = Remarks(), _quarantined(stores)
    total = sum(len(store) for store in stores)
    writer = StoreWriter(
        out, height, width, source, total, aspect=stores[0].aspect, overwrite=overwrite
    )
    with writer, progress_bar(total=total, desc="joining", unit="image") as progress:
        for store in stores:
            for note in read_remarks(store.path)["notes"]:
                remarks.note(note["text"], note["example"], note["count"])
            writer.add_store(store)
            # Images that repeat each other can lie in different parts: all are looked at again.
            for rows, images in _blocks(store):
                remarks.see(rows, images)
                progress.update(len(rows))
        content = remarks.content()
        write_quarantine(writer.folder, quarantined)
        write_remarks(writer.folder, content)
    report = ImportReport(
        total, quarantined, writer.finish(), sentences(content), content["repeats"]
    )
    tell(report)
    return report


def _in_order(stores: list[RadiographStore]) -> list[RadiographStore]:
    """The stores by number of part, checked to be all the parts of one import."""
    by_number: dict[int, RadiographStore] = {}
    for store in stores:
        if "part" not in store.source:
            raise InputError(
                f"{store.path} is no part of an import; parts are made with "
                "`scxr data import … --part 1/4`."
            )
        number, n = store.source["part"]
        known = by_number.setdefault(number, store)
        if n != stores[0].source["part"][1]:
            raise InputError(
                f"{store.path} is one of {n} parts, {stores[0].path} one of "
                f"{stores[0].source['part'][1]}; give the parts of one import."
            )
        if store.source["plan"] != stores[0].source["plan"]:
            raise InputError(
                f"{store.path} and {stores[0].path} were not cut from the same images, labels and "
                "settings; import one of them again."
            )
        if known is not store:
            raise InputError(f"{known.path} and {store.path} are both part {number}; give one.")
    if not by_number:
        raise InputError("There is no part to join; name the folders that --part made.")
    n = stores[0].source["part"][1]
    missing = [str(number) for number in range(1, n + 1) if number not in by_number]
    if missing:
        raise InputError(
            f"Of {n} parts these are missing: {', '.join(missing)}; import them with --part "
            f"{missing[0]}/{n}."
        )
    return [by_number[number] for number in sorted(by_number)]


def _quarantined(stores: list[RadiographStore]) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = []
    for store in stores:
        frame = pd.read_csv(store.path / QUARANTINE, dtype=str, keep_default_na=False)
        entries += [
            {"file": file, "reason": reason}
            for file, reason in zip(frame["file"], frame["reason"], strict=True)
        ]
    return entries


def _blocks(store: RadiographStore) -> Iterator[tuple[list[dict[str, Any]], Any]]:
    for start in range(0, len(store), BLOCK):
        rows: Any = store.table.iloc[start : start + BLOCK].to_dict("records")
        yield rows, store.images[start : start + BLOCK]
