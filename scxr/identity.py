"""What makes two runs the same run: a folder that holds the very run asked for is opened, not
trained again; one that holds another is left alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from scxr import __version__
from scxr.data.store import RadiographStore
from scxr.errors import InputError
from scxr.runs import FORMAT, Run, environment


def describe(
    method: str, preset: str, settings: dict[str, Any], seed: int, data: RadiographStore
) -> dict[str, Any]:
    """config.json of a run: all that went into it."""
    return {
        "format": FORMAT,
        "method": method,
        "preset": preset,
        "settings": settings,
        "seed": seed,
        "data": {
            "fingerprint": data.fingerprint,
            "images": len(data),
            "mean": data.mean,
            "std": data.std,
        },
        "version": __version__,
        "environment": environment(),
    }


def _content(config: dict[str, Any]) -> str:
    """What makes two runs the same run; the machine and the preset's name do not, nor does
    checkpointing, which buys memory with time and changes no weight."""
    names = ("method", "settings", "seed", "data", "precision", "version")
    parts = {name: config.get(name) for name in names}
    kept = {k: v for k, v in config["settings"].items() if k != "checkpointing"}
    parts["settings"] = kept
    return json.dumps(parts, sort_keys=True)


def key(config: dict[str, Any]) -> str:
    """A folder name for the run that `config` describes: the same for the same run."""
    return f"{config['method']}-{hashlib.sha256(_content(config).encode()).hexdigest()[:12]}"


def existing(folder: Path, config: dict[str, Any], resume: bool) -> Run | None:
    """The finished run in `folder` if it is this very one; None when there is work to do."""
    if not (folder / "config.json").exists():
        if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
            raise InputError(f"{folder} exists and is no run folder: choose another --out.")
        return None
    run = Run.open(folder)
    if run.method != config["method"]:
        raise InputError(
            f"{folder} holds a {run.method} run, not {config['method']}: choose another --out."
        )
    if _content(run.config) != _content(json.loads(json.dumps(config))):
        raise InputError(
            f"{folder} holds a {run.method} run with other settings, precision, seed or data: "
            f"choose another --out."
        )
    if run.finished:
        return run
    if not resume:
        raise InputError(
            f"{folder} holds an interrupted run: add --resume to finish it, or choose another "
            f"--out."
        )
    return None


def _is_foreign(file: Path) -> bool:
    """Whether a file is more than the unfinished config.json that a kill leaves behind."""
    return not file.name.startswith(".config.json.")
