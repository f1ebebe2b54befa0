"""List the files of a data set, in folders and zip archives, and match table rows to them."""

from __future__ import annotations

import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scxr.errors import InputError


@dataclass(frozen=True)
class Found:
    """A file: `name` is its path below the root, `member` its name inside an archive `path`."""

    name: str
    path: Path
    member: str = ""


def list_files(root: Path, archives: bool = False) -> tuple[list[Found], list[Found]]:
    """All files below `root`, in order of name, and the archives that cannot be opened.

    Hidden files and folders that are stores are skipped. With `archives`, zip files are looked into
    (`root` may be one) instead of being listed.
    """
    if not root.exists():
        raise InputError(f"There is no folder {root}; check the path.")
    if root.is_file() and not (archives and zipfile.is_zipfile(root)):
        raise InputError(f"{root} is a file; give the folder that holds the images.")
    found: list[Found] = []
    broken: list[Found] = []
    for file in [root] if root.is_file() else _walk(root):
        name = file.name if file == root else file.relative_to(root).as_posix()
        if not (archives and file.suffix.lower() == ".zip"):
            found.append(Found(name, file))
            continue
        try:
            found.extend(_members(name, file))
        except (zipfile.BadZipFile, OSError, NotImplementedError):
            broken.append(Found(name, file))
    return found, broken


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
    with zipfile.ZipFile(file) as archive:
        inside = [info.filename for info in archive.infolist() if not info.is_dir()]
    folder = PurePosixPath(name).with_suffix("")
    return [
        Found((folder / member).as_posix(), file, member)
        for member in sorted(inside)
        if not PurePosixPath(member).name.startswith(".") and not member.startswith("__MACOSX")
    ]
