"""The parallel part of an import: shards of decoded pictures, each written when it is complete.

Files and members of zip archives are read wherever they lie. A `.tar.gz` and an array in an `.npz`
can only be read from front to back: one reader an archive passes through it once, collects the
shards that are missing and hands each on when all its members have come by.
"""

from __future__ import annotations

import threading
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scxr.data.decoding import MAX_BYTES, Unusable, decode, fit, normalise, quiet
from scxr.data.sources import Record
from scxr.data.sources.archives import DAMAGE, is_sequential, read_member, read_members

Source = tuple[Path, str]  # what is read from front to back: an archive, or an array in one
Place = str | int  # where in it: the name of a member or the number of a row


@dataclass(frozen=True)
class Work:
    """Where shards go and what a picture becomes."""

    folder: Path
    size: int
    aspect: str


@dataclass(frozen=True)
class Shard:
    """A finished shard.

    Attributes:
        images: (n, size, size) uint8.
        kept: (n,) positions of these pictures among the shard's records.
        sizes: (n, 2) width and height of the files.
        failed: positions and reasons of the others.
    """

    images: np.ndarray
    kept: np.ndarray
    sizes: np.ndarray
    failed: list[tuple[int, str]]


def source_of(record: Record) -> Source | None:
    """What has to be read from front to back to get at this record; None for a file or zip."""
    if record.path is None:
        return None
    if record.index is not None:
        return record.path, record.member
    return (record.path, "") if record.member and is_sequential(record.path) else None


def make_shards(
    parts: Sequence[Sequence[Record]],
    work: Work,
    workers: int,
    progress: Callable[[int], object],
) -> list[Path]:
    """Make the shards that do not exist yet; returns the files in the order of `parts`.

    All records of a part have the same `source_of`. On an interrupt the shards that are complete
    stay.
    """
    files = [_shard_file(work.folder, number) for number in range(len(parts))]
    done = set(finished_shards(work.folder, len(parts)))
    missing = [number for number in range(len(parts)) if number not in done]
    progress(sum(map(len, parts)) - sum(len(parts[number]) for number in missing))
    by_source: dict[Source | None, list[int]] = defaultdict(list)
    for number in missing:
        by_source[source_of(parts[number][0])].append(number)
    line = _Line(parts, files, work, workers, progress)
    with quiet():  # once for all files: for each of them it would cost a tenth of the decoding
        line.run(by_source)
    return files


def finished_shards(folder: Path, n: int) -> list[int]:
    """Numbers of the first `n` shards that an earlier import has finished."""
    # A power cut can leave a file without its content: only whole archives count.
    return [number for number in range(n) if zipfile.is_zipfile(_shard_file(folder, number))]


class _Line:
    """Threads that read archives from front to back, and threads that decode shards."""

    def __init__(
        self,
        parts: Sequence[Sequence[Record]],
        files: Sequence[Path],
        work: Work,
        workers: int,
        progress: Callable[[int], object],
    ) -> None:
        self.stop = threading.Event()
        self._parts, self._files, self._work = parts, files, work
        self._progress = progress
        self._counting = threading.Lock()
        self._decoders = ThreadPoolExecutor(workers)
        self._readers = ThreadPoolExecutor(workers)
        # Readers wait where decoders fall behind, so that memory holds a few shards of files.
        self._waiting = threading.Semaphore(workers + 1)

    def run(self, numbers_of: Mapping[Source | None, Sequence[int]]) -> None:
        try:
            jobs = []
            for source, numbers in numbers_of.items():
                if source is None:
                    jobs += [self.submit(number) for number in numbers]
                else:
                    jobs.append(self.submit_pass(source, numbers))
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            self.stop.set()
            raise
        finally:
            self.close()

    def submit(
        self, number: int, content: Mapping[Place, Any] | None = None, reason: str = ""
    ) -> Future[None]:
        return self._decoders.submit(self._make, number, content, reason)

    def submit_pass(self, source: Source, numbers: Sequence[int]) -> Future[None]:
        return self._readers.submit(self._pass, source, numbers)

    def close(self) -> None:
        self._readers.shutdown(wait=True, cancel_futures=self.stop.is_set())
        self._decoders.shutdown(wait=True, cancel_futures=self.stop.is_set())

    def _pass(self, source: Source, numbers: Sequence[int]) -> None:
        """Read a source once and submit each of its shards as soon as its members are there."""
        shard_of = {_place(record): number for number in numbers for record in self._parts[number]}
        left = {number: {_place(r) for r in self._parts[number]} for number in numbers}
        content: dict[int, dict[Place, Any]] = defaultdict(dict)
        jobs: list[Future[None]] = []
        reason = "it is not in its archive"
        try:
            for place, data in _read(source, shard_of.keys()):
                number = shard_of[place]
                content[number][place] = data
                left[number].discard(place)
                if not left[number]:
                    jobs.append(self._hand_over(number, content.pop(number)))
                    del left[number]
                if self.stop.is_set():
                    break
        except Unusable as error:
            reason = str(error)
        jobs += [self._hand_over(number, content.pop(number, {}), reason) for number in left]
        for job in jobs:
            job.result()

    def _hand_over(
        self, number: int, content: Mapping[Place, Any], reason: str = ""
    ) -> Future[None]:
        while not self._waiting.acquire(timeout=0.1):
            if self.stop.is_set():
                break
        job = self.submit(number, content, reason)
        job.add_done_callback(lambda _: self._waiting.release())
        return job

    def _make(self, number: int, content: Mapping[Place, Any] | None, reason: str) -> None:
        images, kept, sizes = [], [], []
        failed: list[tuple[int, str]] = []
        for position, record in enumerate(self._parts[number]):
            if self.stop.is_set():
                return
            try:
                raw = raw_pixels(record) if content is None else _received(content, record, reason)
                images.append(fit(normalise(raw), self._work.size, self._work.aspect))
                kept.append(position)
                sizes.append((raw.shape[1], raw.shape[0]))
            except Unusable as error:
                failed.append((position, str(error)))
            with self._counting:
                self._progress(1)
        shard = Shard(
            np.array(images, dtype=np.uint8).reshape(-1, self._work.size, self._work.size),
            np.array(kept, dtype=np.int64),
            np.array(sizes, dtype=np.int64).reshape(-1, 2),
            failed,
        )
        _save(shard, self._files[number])


def load_shard(file: Path) -> Shard:
    """Read a finished shard."""
    with np.load(file, allow_pickle=False) as arrays:
        failed = zip(arrays["failed"].tolist(), arrays["reasons"].tolist(), strict=True)
        return Shard(arrays["images"], arrays["kept"], arrays["sizes"], list(failed))


def raw_pixels(record: Record) -> np.ndarray:
    """(H, W) raw values of a record's file or zip member; raises `Unusable`."""
    if record.path is None:
        raise Unusable("there is no such file")
    try:
        if record.member:
            return decode(read_member(record.path, record.member))
        return decode(_file(record.path))
    except OSError as error:
        raise Unusable(f"the file cannot be read ({error.strerror or error})") from error


def _shard_file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npz"


def _save(shard: Shard, file: Path) -> None:
    # Renamed when complete: a shard that exists is whole.
    partial = file.with_suffix(".partial")
    with partial.open("wb") as handle:
        np.savez(
            handle,
            images=shard.images,
            kept=shard.kept,
            sizes=shard.sizes,
            failed=np.array([position for position, _ in shard.failed], dtype=np.int64),
            reasons=np.array([reason for _, reason in shard.failed], dtype=np.str_),
        )
    partial.replace(file)


def _place(record: Record) -> Place:
    return record.member if record.index is None else record.index


def _received(content: Mapping[Place, Any], record: Record, reason: str) -> np.ndarray:
    data = content.get(_place(record))
    if data is None:
        raise Unusable(reason)
    return decode(data) if isinstance(data, bytes) else data


def _file(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise Unusable(f"the file is larger than {MAX_BYTES / 1e9:.0f} GB")
    return path.read_bytes()


def _read(source: Source, wanted: Collection[Place]) -> Iterator[tuple[Place, Any]]:
    path, array = source
    if array:
        return _rows(path, array, wanted)
    return read_members(path, [str(place) for place in wanted])


def _rows(path: Path, array: str, wanted: Collection[Place]) -> Iterator[tuple[int, np.ndarray]]:
    """(number, pixels) of the wanted rows of an array in an .npz file, in one pass."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{array}.npy") as file:
            shape, dtype = _header(file)
            size = int(np.prod(shape[1:])) * dtype.itemsize
            for number in range(shape[0]):
                data = file.read(size)
                if len(data) < size:
                    raise EOFError("it ends in the middle of a picture")
                if number in wanted:
                    yield number, np.frombuffer(data, dtype).reshape(shape[1:])
    except (*DAMAGE, KeyError) as error:
        raise Unusable(f"the array {array} cannot be read ({error})") from error


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
    if by_column or dtype.hasobject or len(shape) != 3:
        raise ValueError(f"it holds {shape} {dtype}, not a stack of grey pictures")
    if int(np.prod(shape[1:], dtype=object)) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"a picture in it is larger than {MAX_BYTES / 1e9:.0f} GB")
    return shape, dtype
