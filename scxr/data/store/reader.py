"""Read a store: open without cost, gather pixels, look regions up, verify checksums."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from scxr.data.store.layout import CONTENT, digest, read_header
from scxr.errors import InputError


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
        header = read_header(folder)
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

    def summary(self) -> dict[str, Any]:
        """What the store holds, in a few facts."""
        n, height, width = self.shape
        return {
            "store": str(self.path),
            "images": n,
            "size": f"{height} x {width}",
            "aspect": self.aspect,
            "patients": int(self.table["patient"].nunique()),
            "hospitals": sorted(set(self.table["hospital"])),
            "views": {str(k): int(v) for k, v in self.table["view"].value_counts().items()},
            "mean": round(self.mean, 4),
            "std": round(self.std, 4),
            "structures": self.structures,
            "source": self.source,
            "fingerprint": self.fingerprint,
        }

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
            if file.stat().st_size != expected["bytes"] or digest(file) != expected["sha256"]:
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
    def packed_masks(self) -> np.ndarray:
        """(M, H, ceil(W / 8)) uint8, memory-mapped: all regions, bits packed along the width."""
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
        packed = np.asarray(self.packed_masks[numbers])
        return np.unpackbits(packed, axis=-1, count=self.shape[2]).astype(bool)
