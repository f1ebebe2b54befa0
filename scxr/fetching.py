"""Weights that others publish, fetched with bounded patience.

What cannot be had from here (no network, a network that says nothing, a library that is not
installed) is `Unavailable`: a comparison is made without it. What is already in the libraries' own
caches is taken from there, without a network.
"""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from scxr.errors import InputError, first_line

PATIENCE = 60.0
"""Seconds without a byte after which a download is given up."""


class Unavailable(InputError):
    """Nothing is wrong with what was asked for, but it cannot be had from here."""


@contextmanager
def patience() -> Iterator[None]:
    """Inside, a socket that is silent for `PATIENCE` seconds raises, unless its owner says other.

    torch's downloads wait for ever otherwise; and they announce themselves on standard output,
    which belongs to the answer of a command.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)


def library(name: str, needed_by: str) -> ModuleType:
    """The optional library `name`, or `Unavailable` with the line that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(
            f"{needed_by} needs the library {name}, which cannot be imported here: "
            f"pip install 'scxr[public]'."
        ) from error


def hub_folder(repository: str, *names: str, needed_by: str) -> Path:
    """A folder with the files `names` of a Hugging Face repository.

    Raises:
        Unavailable: they are not in the library's cache and cannot be fetched.
    """
    hub = library("huggingface_hub", needed_by)
    cached = {hub.try_to_load_from_cache(repository, name) for name in names}
    if all(isinstance(file, str) for file in cached):
        folders = {Path(file).parent for file in cached}
        if len(folders) == 1:
            return folders.pop()
    with _hub_errors(repository, needed_by):
        _knock(hub, repository, names[0])
        files = [Path(hub.hf_hub_download(repository, name)) for name in names]
    return files[0].parent  # one folder a version, and all are of the newest


def hub_file(repository: str, *names: str, needed_by: str) -> Path:
    """The first of the files `names` that a Hugging Face repository has.

    Raises:
        Unavailable: none is in the library's cache, and none can be fetched.
    """
    hub = library("huggingface_hub", needed_by)
    for name in names:
        cached = hub.try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    missing = library("huggingface_hub.errors", needed_by).EntryNotFoundError
    with _hub_errors(repository, needed_by):
        for name in names:
            try:
                _knock(hub, repository, name)
            except missing:
                continue
            return Path(hub.hf_hub_download(repository, name))
        raise FileNotFoundError(f"it has none of {', '.join(names)}")


def _knock(hub: ModuleType, repository: str, name: str) -> None:
    """One question with one timeout: the library's own download would ask six times a minute."""
    hub.get_hf_file_metadata(hub.hf_hub_url(repository, name), timeout=PATIENCE)


@contextmanager
def _hub_errors(repository: str, needed_by: str) -> Iterator[None]:
    constants: Any = library("huggingface_hub.constants", needed_by)
    # Its accelerated transfer has time limits of its own, far beyond ours.
    accelerated = getattr(constants, "HF_HUB_DISABLE_XET", None)
    constants.HF_HUB_DISABLE_XET = True
    try:
        with patience():
            yield
    except Exception as error:  # the library's HTTP errors have no parent of their own
        raise unavailable(f"huggingface.co/{repository}", needed_by, error) from error
    finally:
        constants.HF_HUB_DISABLE_XET = accelerated


def unavailable(where: str, needed_by: str, error: Exception) -> Unavailable:
    """The sentence that says what could not be fetched, and the way out."""
    return Unavailable(
        f"The weights of {needed_by} cannot be fetched from {where} ({first_line(error)}): leave "
        f"this init out, or bring the files and give {needed_by}=PATH."
    )
