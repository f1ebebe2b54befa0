"""Batches that are read ahead, while the step before them computes.

A thread gathers pixels from the memory map: numpy copies without holding Python's lock, and a
store that is not in memory yet is read from the disk meanwhile. On a GPU the same thread sends
them through pinned memory, on a stream of its own, so that copying overlaps with computing.
Pictures travel as bytes: a quarter of what floats would weigh.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from scxr.data.store import RadiographStore


class Batches(Iterator[Tensor]):
    """The pixels of one selection of rows after another: (B, 1, H, W) uint8 on `device`.

    Reading starts with the first batch that is asked for, and ends with the block:

        with Batches(store, [[0, 1], [2, 3]]) as batches:
            for images in batches: ...

    What goes wrong while reading is raised where its batch would have come.

    Attributes:
        waited: seconds that the caller has spent waiting, so far. On a GPU it may have had work
            left meanwhile: an upper bound of what the data cost.
    """

    def __init__(
        self,
        store: RadiographStore,
        rows: Iterable[Any],
        device: torch.device | str = "cpu",
        ahead: int = 2,
    ) -> None:
        """
        Args:
            rows: the rows of each batch, as `RadiographStore.batch` takes them. It may be a
                generator: it is run by the thread, in order.
            ahead: batches kept ready.
        """
        self.waited = 0.0
        self._store, self._rows, self._device = store, rows, torch.device(device)
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._free = threading.Semaphore(ahead)
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="scxr-batches", daemon=True)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __next__(self) -> Tensor:
        if self._ended:
            raise StopIteration
        if self._thread.ident is None:
            self._thread.start()
        started = time.perf_counter()
        found = self._ready.get()
        self.waited += time.perf_counter() - started
        if isinstance(found, BaseException):
            self.close()
            raise found
        self._free.release()
        images, arrived = found
        if arrived is not None:
            # The step's stream waits, not the caller; and the memory is not given away before
            # that stream is done with it, though another one filled it.
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(arrived)
            images.record_stream(computing)
        return images

    def close(self) -> None:
        """Stop reading; the thread is gone when this returns."""
        self._ended = True
        self._free.release()
        if self._thread.ident is not None:
            self._thread.join()

    def _read(self) -> None:
        end: BaseException = StopIteration()
        try:
            for rows in self._rows:
                self._free.acquire()
                if self._ended:
                    return
                self._ready.put(self._gather(rows))
        except BaseException as error:  # the caller's to handle, whatever it is
            end = error
        self._ready.put(end)

    def _gather(self, rows: Any) -> tuple[Tensor, torch.cuda.Event | None]:
        pixels = self._store.batch(rows)
        if self._stream is None:
            return pixels.to(self._device), None
        with torch.cuda.stream(self._stream):
            images = pixels.pin_memory().to(self._device, non_blocking=True)
            return images, self._stream.record_event()
