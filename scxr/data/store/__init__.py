"""RadiographStore: a folder of memory-mapped radiographs with one table row an image.

Everything that trains, evaluates or explains reads this and nothing else. A store is

- `store.json`: format version, shape, where the images came from, pixel mean and standard
  deviation, SHA-256 of every other file;
- `images.npy`: (N, H, W) uint8, one channel, memory-mapped, so that opening 112,120 images costs
  milliseconds and all processes share the page cache;
- `table.parquet`: image, patient, view, findings (`a|b`), hospital, and whatever else came along;
- optionally `masks.npy` (M, H, ceil(W / 8)) uint8, bits packed along the width, with
  `regions.parquet` (row, structure, mask, kind): only regions that exist take space, and boxes are
  kept as filled masks of kind `box`;
- of an import, `quarantine.csv` (file, reason) and `notes.json` (what else was noted, with counts
  of repeated images and of patients on both sides of a split).
"""

from scxr.data.store.layout import COLUMNS, NORMAL, has_any_finding, has_finding
from scxr.data.store.reader import RadiographStore
from scxr.data.store.writer import StoreWriter

__all__ = [
    "COLUMNS",
    "NORMAL",
    "RadiographStore",
    "StoreWriter",
    "has_any_finding",
    "has_finding",
]
