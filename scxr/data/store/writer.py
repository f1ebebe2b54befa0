"""Write a store image by image, atomically."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from scxr.data.store.growing import GrowingArray, remove_leftovers
from scxr.data.store.layout import (
    COLUMNS,
    FORMAT,
    REQUIRED,
    VERSION,
    check_destination,
    check_space,
    digest,
    histogram_statistics,
)
from scxr.data.store.reader import RadiographStore
from scxr.errors import InputError


class StoreWriter:
    """Write a store image by image; the destination appears only when it is complete.

    Files grow in a hidden folder beside `path`, which is renamed at the end: a kill at any moment
    leaves no half store. As a context manager it finishes on a normal exit and discards on an
    exception.

    Args:
        path: where the store will be; an existing one is refused unless `overwrite`.
        height, width: of every image, in pixels.
        source: JSON-able description of where the images come from.
        capacity: images expected; refuses early when the disk is too small for them.
        aspect: `squash`, `pad` or `native`, see `RadiographStore.aspect`.
        overwrite: replace an existing store (never any other kind of folder).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        height: int,
        width: int,
        source: Mapping[str, Any],
        capacity: int | None = None,
        *,
        aspect: str = "native",
        overwrite: bool = False,
    ) -> None:
        if height < 1 or width < 1:
            raise InputError(f"A store needs images of at least 1 x 1, not {height} x {width}.")
        self.path = Path(path).absolute()
        self.shape = (height, width)
        self._overwrite = overwrite
        self._header = {"source": dict(source), "aspect": aspect}
        check_destination(self.path, overwrite)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if capacity is not None:
            check_space(self.path.parent, capacity * height * width)
        remove_leftovers(self.path)
        owner = f"{platform.node()}-{os.getpid()}"
        self.folder = self.path.parent / f".{self.path.name}.{owner}-{secrets.token_hex(4)}.partial"
        self.folder.mkdir()
        self._images = GrowingArray(self.folder / "images.npy", (height, width))
        self._masks: GrowingArray | None = None
        self._frames: list[pd.DataFrame] = []
        self._regions: list[pd.DataFrame] = []
        self._structures: list[str] = []
        self._histogram = np.zeros(256, dtype=np.int64)
        self._store: RadiographStore | None = None

    def add(
        self,
        images: np.ndarray,
        rows: Sequence[Mapping[str, Any]] | pd.DataFrame,
        masks: Mapping[str, np.ndarray] | None = None,
        *,
        boxes: Mapping[str, np.ndarray] | None = None,
        kind: str = "mask",
    ) -> None:
        """Append images (B, H, W) uint8, their table rows, and masks name -> (B, H, W) bool.

        `boxes` are masks too, of kind `box`; where an image has both for a structure, the mask is
        kept. `rows` need `image` and `patient`; the other columns default to empty text. An
        all-False mask takes no space and reads back as "no such region here".
        """
        images = np.ascontiguousarray(images)
        frame = pd.DataFrame(rows).reset_index(drop=True)
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise ValueError(f"expected (B, {self.shape[0]}, {self.shape[1]}) uint8 images")
        if len(frame) != len(images):
            raise ValueError(f"{len(images)} images but {len(frame)} table rows")
        if len(images) == 0:
            return
        missing = [name for name in REQUIRED if name not in frame]
        if missing:
            raise ValueError(f"the table rows lack {', '.join(missing)}")
        for structure, stack in (masks or {}).items():
            self._add_regions(structure, np.asarray(stack, dtype=bool), len(images), kind)
        for structure, stack in (boxes or {}).items():
            rest = np.array(stack, dtype=bool)
            if masks and structure in masks:
                rest[np.asarray(masks[structure]).any(axis=(1, 2))] = False
            self._add_regions(structure, rest, len(images), "box")
        self._images.append(images)
        self._histogram += np.bincount(images.reshape(-1), minlength=256)
        self._frames.append(frame)

    def add_store(self, store: RadiographStore) -> None:
        """Append all images, rows and regions of another store of this shape, block by block."""
        if store.shape[1:] != self.shape:
            raise ValueError(f"expected images of {self.shape}, not {store.shape[1:]}")
        self._structures += [name for name in store.structures if name not in self._structures]
        if store.has_masks:
            packed = store.packed_masks
            if self._masks is None:
                self._masks = GrowingArray(self.folder / "masks.npy", packed.shape[1:])
            row, mask = self._images.n, self._masks.n
            regions = store.regions
            self._regions.append(
                regions.assign(row=regions["row"] + row, mask=regions["mask"] + mask)
            )
            for block in _blocks(packed):
                self._masks.append(block)
        for block in _blocks(store.images):
            self._images.append(block)
            self._histogram += np.bincount(block.reshape(-1), minlength=256)
        self._frames.append(store.table)

    @property
    def count(self) -> int:
        """Images added so far."""
        return self._images.n

    def finish(self) -> RadiographStore:
        """Write table and header, move the store into place and open it."""
        if self._store is not None:
            return self._store
        if self._images.n == 0:
            self.discard()
            raise InputError(f"No image was added, so there is no store to write to {self.path}.")
        self._images.close()
        _text_table(pd.concat(self._frames, ignore_index=True)).to_parquet(
            self.folder / "table.parquet", index=False
        )
        if self._masks is not None:
            self._masks.close()
            regions = pd.concat(self._regions, ignore_index=True)
            regions.to_parquet(self.folder / "regions.parquet", index=False)
        header = json.dumps(self._full_header(), indent=2, ensure_ascii=False)
        (self.folder / "store.json").write_text(header + "\n", encoding="utf-8")
        self._move_into_place()
        self._store = RadiographStore.open(self.path)
        return self._store

    def discard(self) -> None:
        """Remove everything written so far."""
        self._images.close()
        if self._masks is not None:
            self._masks.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()

    def _add_regions(self, structure: str, stack: np.ndarray, n: int, kind: str) -> None:
        if stack.shape != (n, *self.shape):
            raise ValueError(f"masks of {structure} have shape {stack.shape}")
        if structure not in self._structures:
            self._structures.append(structure)
        present = np.flatnonzero(stack.any(axis=(1, 2)))
        if not len(present):
            return
        packed = np.packbits(stack[present], axis=-1)
        if self._masks is None:
            self._masks = GrowingArray(self.folder / "masks.npy", packed.shape[1:])
        first = self._masks.n
        self._masks.append(packed)
        self._regions.append(
            pd.DataFrame(
                {
                    "row": present + self._images.n,
                    "structure": structure,
                    "mask": np.arange(first, self._masks.n),
                    "kind": kind,
                }
            )
        )

    def _full_header(self) -> dict[str, Any]:
        mean, std = histogram_statistics(self._histogram)
        files = sorted(file for file in self.folder.iterdir() if file.is_file())
        return {
            "format": FORMAT,
            "version": VERSION,
            "n": self._images.n,
            "height": self.shape[0],
            "width": self.shape[1],
            **self._header,
            "mean": mean,
            "std": std,
            "structures": self._structures,
            "masks": 0 if self._masks is None else self._masks.n,
            "files": {
                file.name: {"bytes": file.stat().st_size, "sha256": digest(file)} for file in files
            },
        }

    def _move_into_place(self) -> None:
        check_destination(self.path, self._overwrite)
        old = None
        if self.path.exists() and any(self.path.iterdir()):
            old = self.path.parent / f".{self.path.name}.{secrets.token_hex(4)}.old"
            self.path.rename(old)
        self.folder.rename(self.path)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Some 32 MB of a memory-mapped array at a time, read into memory of its own."""
    step = max(1, (1 << 25) // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        yield np.array(array[start : start + step])


def _text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The contract's columns first, as text without gaps; other columns in a form parquet takes."""
    for name in COLUMNS:
        values = frame[name] if name in frame else pd.Series("", index=frame.index)
        frame[name] = values.fillna("").astype(str)
    extra = [name for name in frame.columns if name not in COLUMNS]
    for name in extra:
        if frame[name].dtype == object or isinstance(frame[name].dtype, pd.StringDtype):
            frame[name] = frame[name].fillna("").astype(str)
    return frame[[*COLUMNS, *extra]]
