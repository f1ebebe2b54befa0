"""List the files of a data set, in folders and archives, and match table rows to them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from scxr.data.sources.archives import is_archive, is_sequential, list_archive
from scxr.data.sources.records import Record
from scxr.errors import InputError


@dataclass(frozen=True)
class Found:
    """A file: `name` is its path below the root, `member` its name inside an archive `path`.

    `problem` says why it cannot be read, where that is known.
    """

    name: str
    path: Path
    member: str = ""
    problem: str = ""


def list_files(root: Path, archives: bool = False) -> tuple[list[Found], list[Found]]:
    """All files below `root`, in order of name, and what cannot be read, with the reason.

    Hidden files and folders that are stores are skipped. With `archives`, zip and tar files are
    looked into (`root` may be one) instead of being listed.
    """
    if not root.exists():
        raise InputError(f"There is no folder {root}; check the path.")
    if root.is_file() and not (archives and is_archive(root.name)):
        raise InputError(f"{root} is a file; give the folder that holds the images.")
    files = [root] if root.is_file() else _walk(root)
    names = [file.name if file == root else file.relative_to(root).as_posix() for file in files]
    packed = {file for file in files if archives and is_archive(file.name)}
    # Listing a .tar.gz means passing through it, in C code that lets other threads run.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(list_archive, packed))
    found: list[Found] = []
    for name, file in zip(names, files, strict=True):
        found.extend(_members(name, file) if file in packed else [Found(name, file)])
    found = [_checked(file) for file in found]
    return [file for file in found if not file.problem], [file for file in found if file.problem]


def set_aside(broken: Iterable[Found]) -> Iterator[Record]:
    """Records that only say why these files are not read."""
    for file in broken:
        yield Record(file.name, file.path, member=file.member, problem=file.problem)


def no_pictures(root: Path, kind: str, broken: list[Found]) -> InputError:
    """The error for a folder without any file to import, naming the first that is damaged."""
    first = f"; {broken[0].name}: {broken[0].problem}" if broken else ""
    return InputError(
        f"There is no {kind} file below {root}, nor in an archive there; check the path{first}."
    )


class FileIndex:
    """Finds the file that a table row means, by relative path, bare name or name without suffix."""

    def __init__(self, root: Path, files: Iterable[Found]) -> None:
        self._root = PurePosixPath(root.absolute().as_posix()).parts
        self._by_name: dict[str, list[Found]] = defaultdict(list)
        self._by_stem: dict[str, list[Found]] = defaultdict(list)
        for file in files:
            name = PurePosixPath(file.name).name
            self._by_name[name].append(file)
            self._by_stem[PurePosixPath(name).stem].append(file)

    def find(self, text: str) -> list[Found]:
        """The files that `text` can mean: none, one, or several where it is ambiguous.

        Folders in `text` must be those the file really lies in. A path that climbs (`..`) means
        nothing: only listed files are ever returned.
        """
        parts = tuple(
            part for part in text.strip().replace("\\", "/").split("/") if part not in ("", ".")
        )
        if not parts or ".." in parts:
            return []
        candidates = self._by_name.get(parts[-1])
        folders = parts[:-1]
        if candidates is None:
            candidates = self._by_stem.get(parts[-1], [])
        matches = [file for file in candidates if self._lies_in(file, folders)]
        exact = [file for file in matches if PurePosixPath(file.name).parts[:-1] == folders]
        return exact if len(exact) == 1 else matches

    def _lies_in(self, file: Found, folders: tuple[str, ...]) -> bool:
        if not folders:
            return True
        place = (*self._root, *PurePosixPath(file.name).parts[:-1])
        return place[len(place) - len(folders) :] == folders


def _walk(root: Path) -> list[Path]:
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        if "store.json" in names and "images.npy" in names:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        files.extend(Path(folder, name) for name in names if not name.startswith("."))
    return sorted(files)


def _members(name: str, file: Path) -> list[Found]:
    listing = list_archive(file)
    folder = PurePosixPath(name[: -len(".gz")] if name.lower().endswith(".gz") else name)
    folder = folder.with_suffix("")
    # A tar is read in its own order, so that is the order to keep.
    names = listing.members if is_sequential(file) else sorted(listing.members)
    found = [Found((folder / member).as_posix(), file, member) for member in names]
    found += [Found(f"{name}/{member}", file, problem=reason) for member, reason in listing.refused]
    if listing.problem:
        found.append(Found(name, file, problem=listing.problem))
    return found


def _checked(file: Found) -> Found:
    """A name with bytes that are no text could be written to no table; a pipe never ends."""
    try:
        file.name.encode("utf-8")
    except UnicodeEncodeError:
        name = file.name.encode("utf-8", "backslashreplace").decode("utf-8")
        return Found(name, file.path, problem="its name is not text in UTF-8")
    if not file.member and not file.path.is_file() and file.path.exists():
        return replace(file, problem="a pipe, socket or device, not a file")
    return file
