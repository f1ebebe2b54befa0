"""RadiographStore: a folder of memory-mapped radiographs with one table row an image.

Everything that trains, evaluates or explains reads this and nothing else. A store is

- `store.json`: format version, shape, where the images came from, pixel mean and standard
  deviation, SHA-256 of every other file;
- `images.npy`: (N, H, W) uint8, one channel, memory-mapped, so that opening 112,120 images costs
  milliseconds and all processes share the page cache;
- `table.parquet`: image, patient, view, findings (`a|b`), hospital, and whatever else came along;
- optionally `masks.npy` (M, H, ceil(W / 8)) uint8, bits packed along the width, with
  `regions.parquet` (row, structure, mask, kind): only regions that exist take space, and boxes are
  kept as filled masks of kind `box`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch

from scxr.errors import InputError

log = logging.getLogger(__name__)

FORMAT = "scxr-store"
VERSION = 1
COLUMNS = ("image", "patient", "view", "findings", "hospital")
REQUIRED = ("image", "patient")
NORMAL = "No Finding"
CONTENT = ("images.npy", "table.parquet", "masks.npy", "regions.parquet")


class RadiographStore:
    """A finished store, opened read-only. Make one with `StoreWriter`, open it with `open`."""

    def __init__(self, path: Path, header: dict[str, Any], images: np.ndarray) -> None:
        self.path = path
        self.header = header
        self.images = images
        self.mean = float(header["mean"])
        self.std = float(header["std"])
        self.structures: list[str] = list(header["structures"])

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RadiographStore:
        """Open a store without reading pixels or table.

        Raises `InputError` where there is no store, it is damaged, or a newer scxr wrote it.
        """
        folder = Path(path)
        header = _read_header(folder)
        try:
            images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"The store {folder} is damaged: images.npy cannot be read ({error}); "
                "import or generate it again."
            ) from error
        expected = (header["n"], header["height"], header["width"])
        if images.shape != expected or images.dtype != np.uint8:
            raise InputError(
                f"The store {folder} is damaged: images.npy holds {images.shape} {images.dtype}, "
                f"store.json says {expected} uint8; import or generate it again."
            )
        return cls(folder, header, images)

    def __len__(self) -> int:
        return int(self.header["n"])

    def __repr__(self) -> str:
        n, height, width = self.shape
        return f"RadiographStore({str(self.path)!r}, {n} images of {height} x {width})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process opens the files itself; pickling a memory map would copy every pixel.
        return RadiographStore.open, (str(self.path.absolute()),)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, H, W)."""
        return int(self.header["n"]), int(self.header["height"]), int(self.header["width"])

    @property
    def source(self) -> dict[str, Any]:
        """Where the images came from, as the importer recorded it."""
        return dict(self.header["source"])

    @property
    def aspect(self) -> str:
        """How pictures were fitted into (H, W): `squash`, `pad` or `native` (made at this size)."""
        return str(self.header["aspect"])

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the content: it changes when pixels, table or regions change."""
        files = self.header["files"]
        parts = {name: files[name]["sha256"] for name in CONTENT if name in files}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row an image, read at first use: the columns `COLUMNS` (text) and any others.

        `findings` joins names with `|`; empty means unknown, `No Finding` means normal.
        """
        return self._parquet("table.parquet", len(self))

    @cached_property
    def regions(self) -> pd.DataFrame:
        """One row a region: row (of the store), structure, mask (number), kind (`mask`|`box`)."""
        if not self.has_masks:
            return pd.DataFrame(columns=["row", "structure", "mask", "kind"])
        return self._parquet("regions.parquet", int(self.header["masks"]))

    @property
    def has_masks(self) -> bool:
        """Whether any region is known."""
        return int(self.header["masks"]) > 0

    def batch(self, rows: Any) -> torch.Tensor:
        """Pixels of `rows` (numbers or a boolean selection) as (B, 1, H, W) uint8, a copy."""
        numbers = self._numbers(rows)
        pixels = np.take(self.images.view(np.ndarray), numbers, axis=0)
        return torch.from_numpy(pixels).unsqueeze(1)

    def mask(self, row: int, structure: str) -> np.ndarray | None:
        """(H, W) bool: the region of `structure` in image `row`, or None where there is none."""
        found = self._mask_numbers(np.asarray([row]), structure)[0]
        return None if found < 0 else self._unpack(np.asarray([found]))[0]

    def masks(self, rows: Any, structure: str) -> np.ndarray:
        """(n, H, W) bool: the regions of `structure` in `rows`, all False where there is none."""
        found = self._mask_numbers(rows, structure)
        result = np.zeros((len(found), *self.shape[1:]), dtype=bool)
        known = np.flatnonzero(found >= 0)
        if len(known):
            result[known] = self._unpack(found[known])
        return result

    def verify(self) -> None:
        """Read every file and compare checksums; raise `InputError` naming the first that differs.

        Takes as long as reading the store once.
        """
        for name, expected in self.header["files"].items():
            file = self.path / name
            if not file.is_file():
                raise InputError(f"The store {self.path} lacks {name}; import it again.")
            if file.stat().st_size != expected["bytes"] or _digest(file) != expected["sha256"]:
                raise InputError(
                    f"The store {self.path} is damaged: the checksum of {name} differs from the "
                    "one in store.json; import or generate it again."
                )

    def _parquet(self, name: str, n: int) -> pd.DataFrame:
        try:
            frame = pd.read_parquet(self.path / name)
        except (OSError, ValueError) as error:
            raise InputError(
                f"The store {self.path} is damaged: {name} cannot be read ({error}); import or "
                "generate it again."
            ) from error
        if len(frame) != n:
            raise InputError(
                f"The store {self.path} is damaged: {name} has {len(frame)} rows, not {n}; "
                "import or generate it again."
            )
        return frame

    def _numbers(self, rows: Any) -> np.ndarray:
        numbers = np.atleast_1d(np.asarray(rows))
        if numbers.dtype == bool:
            if len(numbers) != len(self):
                raise IndexError(f"a selection of {len(numbers)} for {len(self)} images")
            return np.flatnonzero(numbers)
        numbers = numbers.astype(np.int64)
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"row out of range for a store of {len(self)} images")
        return numbers

    @cached_property
    def _masks(self) -> np.ndarray:
        return np.load(self.path / "masks.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def _index(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {
            str(structure): (group["row"].to_numpy(), group["mask"].to_numpy())
            for structure, group in self.regions.sort_values("row").groupby("structure")
        }

    def _mask_numbers(self, rows: Any, structure: str) -> np.ndarray:
        numbers = self._numbers(rows)
        if structure not in self.structures:
            known = ", ".join(self.structures) or "none"
            raise InputError(
                f"The store {self.path} has no regions of '{structure}' (it has: {known})."
            )
        owners, masks = self._index.get(structure, (np.empty(0, int), np.empty(0, int)))
        if not len(owners):
            return np.full(len(numbers), -1)
        place = np.minimum(np.searchsorted(owners, numbers), len(owners) - 1)
        return np.where(owners[place] == numbers, masks[place], -1)

    def _unpack(self, numbers: np.ndarray) -> np.ndarray:
        packed = np.asarray(self._masks[numbers])
        return np.unpackbits(packed, axis=-1, count=self.shape[2]).astype(bool)


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
            _check_space(self.path.parent, capacity * height * width)
        self.folder = self.path.parent / f".{self.path.name}.{secrets.token_hex(4)}.partial"
        self.folder.mkdir()
        self._images = _GrowingArray(self.folder / "images.npy", (height, width))
        self._masks: _GrowingArray | None = None
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
        kind: str = "mask",
    ) -> None:
        """Append images (B, H, W) uint8, their table rows, and masks name -> (B, H, W) bool.

        `rows` need `image` and `patient`; the other columns default to empty text. An all-False
        mask takes no space and reads back as "no such region here".
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
        self._images.append(images)
        self._histogram += np.bincount(images.reshape(-1), minlength=256)
        self._frames.append(frame)

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
            self._masks = _GrowingArray(self.folder / "masks.npy", packed.shape[1:])
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
                file.name: {"bytes": file.stat().st_size, "sha256": _digest(file)} for file in files
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


def has_finding(findings: pd.Series, name: str) -> np.ndarray:
    """(N,) bool: which rows of a findings column (`a|b`) name `name`, in any case, as a whole."""
    wanted = name.strip().casefold()
    codes, values = pd.factorize(findings.fillna(""))
    hits = np.fromiter(
        (wanted in (part.strip().casefold() for part in str(value).split("|")) for value in values),
        dtype=bool,
        count=len(values),
    )
    return hits[codes] if len(values) else np.zeros(len(findings), dtype=bool)


def histogram_statistics(histogram: np.ndarray) -> tuple[float, float]:
    """Mean and (population) standard deviation in [0, 1] from counts of the 256 grey values.

    Integer arithmetic throughout, so the result does not depend on the order of the images.
    """
    counts = [int(count) for count in histogram]
    n = sum(counts)
    first = sum(value * count for value, count in enumerate(counts))
    second = sum(value * value * count for value, count in enumerate(counts))
    variance = (n * second - first * first) / (n * n)
    return first / n / 255, variance**0.5 / 255


def check_destination(path: Path, overwrite: bool) -> None:
    """Raise `InputError` where writing a store to `path` would destroy something."""
    if path.is_file():
        raise InputError(f"{path} is a file; give a folder name that does not exist yet.")
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / "store.json").is_file():
        raise InputError(f"{path} exists and is not a store; give another folder name.")
    if not overwrite:
        raise InputError(f"The store {path} exists already; remove it or give another folder name.")


class _GrowingArray:
    """An .npy file of uint8 that grows along its first axis.

    NumPy pads the header so that a longer first dimension fits in place; the final length is
    written when the file is closed.
    """

    def __init__(self, path: Path, item: tuple[int, ...]) -> None:
        self.n = 0
        self._item = item
        self._file: BinaryIO = path.open("wb")
        self._write_header()
        self._start = self._file.tell()

    def append(self, items: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(items).data)
        self.n += len(items)

    def close(self) -> None:
        if self._file.closed:
            return
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._start:
            raise RuntimeError("the .npy header changed its length")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _write_header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._file,
            {"descr": "|u1", "fortran_order": False, "shape": (self.n, *self._item)},
        )


def _text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The contract's columns first, as text without gaps; other columns in a form parquet takes."""
    for name in COLUMNS:
        values = frame[name] if name in frame else pd.Series("", index=frame.index)
        frame[name] = values.fillna("").astype(str)
    extra = [name for name in frame.columns if name not in COLUMNS]
    for name in extra:
        if frame[name].dtype == object:
            frame[name] = frame[name].map(lambda value: "" if value is None else str(value))
    return frame[[*COLUMNS, *extra]]


def _read_header(folder: Path) -> dict[str, Any]:
    if not folder.exists():
        raise InputError(f"There is no store at {folder}; check the path.")
    file = folder / "store.json"
    if not file.is_file():
        raise InputError(
            f"{folder} is not a store (it holds no store.json); make one with `scxr data import` "
            "or `scxr data phantom`."
        )
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The store {folder} is damaged: store.json cannot be read.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{file} does not describe a store of radiographs.")
    if not isinstance(header.get("version"), int) or header["version"] > VERSION:
        raise InputError(
            f"The store {folder} has format version {header.get('version')}, this scxr reads up "
            f"to {VERSION}; update scxr."
        )
    needed = {"n", "height", "width", "source", "aspect", "mean", "std", "structures", "masks"}
    missing = sorted((needed | {"files"}) - header.keys())
    if missing:
        raise InputError(f"The store {folder} is damaged: store.json lacks {', '.join(missing)}.")
    return header


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"The store needs {needed / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB free; "
            "choose another disk or a smaller --size."
        )


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
