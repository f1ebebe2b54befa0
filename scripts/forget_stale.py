"""Forget executed chapters and built pages when what they were made from has changed.

The cache of executed chapters knows the text of a chapter, not the package that it calls: a chapter
would keep the outputs of yesterday's `scxr`. Sphinx, in turn, copies static files once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"


def digest(files: Iterable[Path], *words: str) -> str:
    """SHA-256 over names and contents of `files` and over `words`."""
    total = hashlib.sha256("\0".join(words).encode())
    for file in sorted(files):
        total.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def forget_if_changed(name: str, now: str, folders: list[Path]) -> None:
    """Remove `folders` when the digest kept under `name` differs from `now`; keep `now`."""
    record = BUILD / f".{name}.sha256"
    if record.is_file() and record.read_text() == now:
        return
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    record.write_text(now)


def main() -> None:
    """Compare the package and the look of the book with what `_build` was made from."""
    package = [f for f in (ROOT / "scxr").rglob("*") if f.is_file() and f.suffix != ".pyc"]
    look = [f for f in (ROOT / "book" / "assets").rglob("*") if f.is_file()]
    pages = [BUILD / "html", BUILD / ".doctrees"]
    execution = digest([*package, ROOT / "requirements.lock"], os.environ.get("SCXR_MODE", "quick"))
    forget_if_changed("execution", execution, [*pages, BUILD / ".jupyter_cache"])
    forget_if_changed("look", digest([*look, ROOT / "_config.yml", ROOT / "_toc.yml"]), pages)


if __name__ == "__main__":
    main()
