"""The parallel part of an import: shards of decoded pictures, each written when it is complete."""

from __future__ import annotations

import functools
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scxr.data.decoding import MAX_BYTES, Unusable, decode, fit, normalise
from scxr.data.sources import Record


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


def make_shards(
    parts: Sequence[Sequence[Record]],
    work: Work,
    workers: int,
    progress: Callable[[int], object],
) -> list[Path]:
    """Make the shards that do not exist yet; returns the files in the order of `parts`.

    On an interrupt the shards that are complete stay.
    """
    files = [work.folder / f"{number:06d}.npz" for number in range(len(parts))]
    missing = [number for number, file in enumerate(files) if not file.is_file()]
    progress(sum(map(len, parts)) - sum(len(parts[number]) for number in missing))
    stop = threading.Event()
    counting = threading.Lock()

    def count(images: int) -> None:
        with counting:
            progress(images)

    with ThreadPoolExecutor(max_workers=workers) as pool:
        jobs = [
            pool.submit(_make, parts[number], files[number], work, stop, count)
            for number in missing
        ]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return files


def load_shard(file: Path) -> Shard:
    """Read a finished shard."""
    with np.load(file, allow_pickle=False) as arrays:
        failed = zip(arrays["failed"].tolist(), arrays["reasons"].tolist(), strict=True)
        return Shard(arrays["images"], arrays["kept"], arrays["sizes"], list(failed))


def raw_pixels(record: Record) -> np.ndarray:
    """(H, W) raw values of a record's file, archive member or array row; raises `Unusable`."""
    if record.path is None:
        raise Unusable("there is no such file")
    if record.index is not None:
        return _array(record.path, record.member)[record.index]
    try:
        return decode(_member(record.path, record.member) if record.member else _file(record.path))
    except OSError as error:
        raise Unusable(f"the file cannot be read ({error.strerror or error})") from error


def _make(
    part: Sequence[Record],
    file: Path,
    work: Work,
    stop: threading.Event,
    progress: Callable[[int], object],
) -> None:
    images, kept, sizes = [], [], []
    failed: list[tuple[int, str]] = []
    for position, record in enumerate(part):
        if stop.is_set():
            return
        try:
            raw = raw_pixels(record)
            images.append(fit(normalise(raw), work.size, work.aspect))
            kept.append(position)
            sizes.append((raw.shape[1], raw.shape[0]))
        except Unusable as error:
            failed.append((position, str(error)))
        progress(1)
    # Renamed when complete: a shard that exists is whole.
    partial = file.with_suffix(".partial")
    with partial.open("wb") as handle:
        np.savez(
            handle,
            images=np.array(images, dtype=np.uint8).reshape(-1, work.size, work.size),
            kept=np.array(kept, dtype=np.int64),
            sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
            failed=np.array([position for position, _ in failed], dtype=np.int64),
            reasons=np.array([reason for _, reason in failed], dtype=np.str_),
        )
    partial.replace(file)


def _file(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise Unusable(f"the file is larger than {MAX_BYTES / 1e9:.0f} GB")
    return path.read_bytes()


def _member(path: Path, member: str) -> bytes:
    try:
        archive = _archive(path)
        if archive.getinfo(member).file_size > MAX_BYTES:
            raise Unusable(f"the file is larger than {MAX_BYTES / 1e9:.0f} GB")
        with archive.open(member) as handle:
            # The size in the archive's directory is a claim: read no more than is allowed.
            data = handle.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise Unusable(f"damaged in its archive ({error})") from error
    except (RuntimeError, NotImplementedError) as error:
        raise Unusable(f"the archive cannot be unpacked ({error})") from error
    return data


@functools.lru_cache(maxsize=64)
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


_loading = threading.Lock()


def _array(path: Path, member: str) -> np.ndarray:
    with _loading:  # one thread loads, the others wait for it instead of loading it again
        return _load_array(path, member)


@functools.lru_cache(maxsize=1)
def _load_array(path: Path, member: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[member]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Unusable(f"the array {member} cannot be read ({error})") from error
