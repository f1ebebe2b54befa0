"""Look into zip and tar archives without unpacking them, and trust nothing that they claim.

Nothing is ever written to disk: members are decoded from memory, so that 42 GB of NIH archives or
1 TB of PadChest need no second copy. A zip is read at random. A `.tar.gz` cannot be: it is passed
through twice, once to list it and once to read it, and never held in memory.

An archive is refused when it unpacks to more than `MAX_RATIO` times its size (a bomb), a member
when it is a link or device, encrypted, larger than `MAX_BYTES`, or has a name that leads out of the
archive.
"""

from __future__ import annotations

import functools
import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from scxr.data.decoding import MAX_BYTES, Unusable

TAR = (".tar", ".tar.gz", ".tgz")
NESTED = (".zip", *TAR, ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")
MAX_RATIO = 100  # PNG and JPEG files hardly shrink, DICOM with wide black borders some tenfold
SLACK = 200_000_000  # bytes that any archive may unpack to, however small it is
MAX_MEMBERS = 1_000_000
HEADER = 1 << 20  # longest name or extended header that is read
CHUNK = 1 << 18

DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)


@dataclass(frozen=True)
class Listing:
    """What an archive holds.

    Attributes:
        members: names of the files that can be read, in the order of the archive.
        refused: names and reasons of those that are not read.
        problem: why the archive could not be listed to its end; empty where it was.
    """

    members: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    problem: str = ""


def is_archive(name: str) -> bool:
    """Whether a file of this name is looked into."""
    return name.lower().endswith((".zip", *TAR))


def is_sequential(path: Path) -> bool:
    """Whether an archive has to be read from front to back."""
    return path.name.lower().endswith(TAR)


def list_archive(path: Path) -> Listing:
    """The members of a zip or tar archive; damage ends the list and is told, not raised."""
    status = path.stat()
    return _list(path, status.st_size, status.st_mtime_ns)


def read_member(path: Path, member: str) -> bytes:
    """One member of a zip archive; raises `Unusable` with the reason."""
    try:
        status = path.stat()
        archive = _open_zip(path, status.st_size, status.st_mtime_ns)
        if archive.getinfo(member).file_size > MAX_BYTES:
            raise Unusable(f"the file is larger than {MAX_BYTES / 1e9:.0f} GB")
        with archive.open(member) as handle:
            # The size in the archive's directory is a claim: read no more than is allowed.
            return handle.read(MAX_BYTES + 1)
    except (*DAMAGE, KeyError) as error:
        raise Unusable(f"damaged in its archive ({_short(error)})") from error


def read_members(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the wanted members of a tar archive, in its order, in one pass."""
    missing = set(wanted)
    try:
        with _open_tar(path) as (archive, stream):
            for info in archive:
                if info.name in missing and info.isreg():
                    missing.discard(info.name)
                    yield info.name, stream.take(info.offset_data, info.size)
                if not missing:
                    return
    except DAMAGE as error:
        raise Unusable(f"damaged in its archive ({_short(error)})") from error


@functools.lru_cache(maxsize=256)
def _list(path: Path, size: int, changed: int) -> Listing:
    listing = _list_tar(path) if is_sequential(path) else _list_zip(path)
    names = [name for name in listing.members if not _is_litter(name)]
    seen: set[str] = set()
    members, refused = [], list(listing.refused)
    for name in names:
        reason = _refusal(name, seen)
        seen.add(name)
        if reason:
            refused.append((name, reason))
        else:
            members.append(name)
    return Listing(tuple(members), tuple(refused), listing.problem)


def _refusal(name: str, seen: set[str]) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        return "its name leads out of the archive"
    if name in seen:
        return "the archive holds several files of this name"
    if path.name.lower().endswith(NESTED):
        return "an archive within an archive is not opened"
    return ""


def _is_litter(name: str) -> bool:
    """Hidden files and what macOS adds to archives."""
    return PurePosixPath(name.replace("\\", "/")).name.startswith(".") or name.startswith(
        "__MACOSX"
    )


def _list_zip(path: Path) -> Listing:
    members, refused = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except DAMAGE as error:
        return Listing((), (), f"a zip archive that cannot be read ({_short(error)})")
    total = sum(info.file_size for info in infos)
    if total > _allowed(path) or len(infos) > MAX_MEMBERS:
        return Listing((), (), _bomb(path))
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            refused.append((info.filename, "a link or device, which is not followed"))
        elif info.flag_bits & 0x1:
            refused.append((info.filename, "encrypted; unpack the archive with its password"))
        else:
            members.append(info.filename)
    return Listing(tuple(members), tuple(refused))


def _list_tar(path: Path) -> Listing:
    members: list[str] = []
    refused: list[tuple[str, str]] = []
    pending: list[str] = []  # a member counts when the one after it, or the end, has been reached
    try:
        with _open_tar(path) as (archive, stream):
            for info in archive:
                members.extend(pending)
                pending.clear()
                if len(members) + len(refused) > MAX_MEMBERS:
                    return Listing((), (), _bomb(path))
                if info.isdir():
                    continue
                if not info.isreg():
                    refused.append((info.name, "a link or device, which is not followed"))
                elif info.issparse() or info.size > MAX_BYTES:
                    refused.append((info.name, f"larger than {MAX_BYTES / 1e9:.0f} GB, or sparse"))
                else:
                    pending.append(info.name)
            stream.check_end()
        members.extend(pending)
    except Unusable as error:
        return Listing((), (), str(error))
    except DAMAGE as error:
        reason = f"the archive is damaged or cut short after {len(members)} files"
        return Listing(tuple(members), tuple(refused), f"{reason} ({_short(error)})")
    return Listing(tuple(members), tuple(refused))


@functools.lru_cache(maxsize=64)
def _open_zip(path: Path, size: int, changed: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@contextmanager
def _open_tar(path: Path) -> Iterator[tuple[tarfile.TarFile, _Stream]]:
    """The archive and the stream that it is read from."""
    with path.open("rb") as file:
        stream = _Stream(file) if path.name.lower().endswith(".tar") else _Inflated(file, path)
        # The stream reads, tells and seeks, which is all that tarfile needs of a file.
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as archive:
            yield archive, stream


class _Stream:
    """Bytes that tarfile reads: it may not ask for more than a header, whatever a header says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._header = b""  # what tarfile has read last

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(position, whence)

    def read(self, n: int = -1) -> bytes:
        if not 0 <= n <= HEADER:
            raise tarfile.ReadError(f"a header of {n} bytes")
        self._header = self._exactly(n)
        return self._header

    def take(self, start: int, n: int) -> bytes:
        """`n` bytes of a member that starts at `start`."""
        self.seek(start)
        data = self._exactly(n)
        if len(data) < n:
            raise EOFError("it ends in the middle of a file")
        return data

    def check_end(self) -> None:
        """Raise `ReadError` unless tarfile has stopped at a real end, with only zeros behind it.

        It takes a damaged or cut header for the end, too, and says nothing.
        """
        if self._header != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("a header is damaged or missing")
        while data := self._exactly(CHUNK):
            if data.count(0) != len(data):
                raise tarfile.ReadError("something follows its end")

    def _exactly(self, n: int) -> bytes:
        return self._file.read(n)


class _Inflated(_Stream):
    """The content of a .tar.gz, forwards only, at most `MAX_RATIO` times its size."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file)
        self._path = path
        self._allowed = _allowed(path)
        self._inflate = zlib.decompressobj(wbits=31)
        self._ahead = memoryview(b"")
        self._at = 0

    def tell(self) -> int:
        return self._at

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or position < self._at:
            raise tarfile.StreamError("a compressed archive is read forwards only")
        while self._at < position:
            if not len(self._some(position - self._at)):
                break
        return self._at

    def _exactly(self, n: int) -> bytes:
        pieces = []
        while n > 0:
            piece = self._some(n)
            if not len(piece):
                break
            pieces.append(piece)
            n -= len(piece)
        return b"".join(pieces)

    def _some(self, most: int) -> memoryview:
        if not len(self._ahead):
            self._ahead = memoryview(self._more())
        piece, self._ahead = self._ahead[:most], self._ahead[most:]
        self._at += len(piece)
        return piece

    def _more(self) -> bytes:
        """The next bytes; empty at the end."""
        while True:
            if self._inflate.eof:  # a gzip file may hold several parts, and zeros behind them
                packed = (self._inflate.unused_data or self._file.read(CHUNK)).lstrip(b"\0")
                if not packed:
                    return b""
                self._inflate = zlib.decompressobj(wbits=31)
            else:
                packed = self._inflate.unconsumed_tail or self._file.read(CHUNK)
                if not packed:
                    raise EOFError("its end is missing")
            data = self._inflate.decompress(packed, 4 * CHUNK)
            if self._at + len(data) > self._allowed:
                raise Unusable(_bomb(self._path))
            if data:
                return data


def _allowed(path: Path) -> int:
    return SLACK + MAX_RATIO * path.stat().st_size


def _bomb(path: Path) -> str:
    return f"the archive unpacks to more than {MAX_RATIO} times its size, as no pictures do"


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:120] if text else type(error).__name__
