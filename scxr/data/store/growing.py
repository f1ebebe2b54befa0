"""The files of a store that is being written, and what a killed writer leaves of them."""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
from pathlib import Path
from typing import BinaryIO

import numpy as np

log = logging.getLogger(__name__)


class GrowingArray:
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


def remove_leftovers(path: Path) -> None:
    """Remove what writers of this store left behind when they were killed on this machine."""
    if os.name != "posix":
        return
    name = re.escape(f".{path.name}.")
    ours = re.compile(name + re.escape(platform.node()) + r"-(\d+)-[0-9a-f]+\.partial")
    replaced = re.compile(name + r"[0-9a-f]{8}\.old")
    for folder in path.parent.iterdir():
        match = ours.fullmatch(folder.name)
        unfinished = match is not None and not _is_running(int(match[1]))
        if not unfinished and not replaced.fullmatch(folder.name):
            continue
        if not unfinished and not (path / "store.json").is_file():
            # Killed between the two renames: this is the only copy of what was to be replaced.
            log.warning("the store that an interrupted write was to replace is in %s", folder)
            continue
        log.info("removing what an interrupted write left at %s", folder)
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
