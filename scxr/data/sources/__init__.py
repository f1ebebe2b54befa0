"""Where radiographs come from: each source yields records and nothing else.

`SOURCES` holds them by name; `scxr.data.importing` turns records into a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scxr.data.sources.chestmnist import chestmnist
from scxr.data.sources.folder import folder
from scxr.data.sources.nih import nih
from scxr.data.sources.padchest import padchest
from scxr.data.sources.records import Box, Record

SOURCES: dict[str, Callable[..., Iterator[Record]]] = {
    "nih": nih,
    "padchest": padchest,
    "chestmnist": chestmnist,
    "folder": folder,
}

__all__ = ["SOURCES", "Box", "Record", "chestmnist", "folder", "nih", "padchest"]
