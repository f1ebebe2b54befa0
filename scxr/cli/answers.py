"""What every command shares: how it answers, and how its arguments and tables read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scxr.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Answer:
    """What a command has to say: `data` as JSON, `text` for people."""

    data: dict[str, Any]
    text: str


@dataclass(kw_only=True)
class Command:
    """What all commands share."""

    json: bool = False
    """Print one JSON document on standard output, and nothing else there."""
    typed: str = field(default="", init=False, repr=False)
    """What was typed, for the record; not an option."""

    def __call__(self) -> Answer:
        raise TypeError(f"{type(self).__name__} does nothing.")


def pairs(assignments: tuple[str, ...]) -> dict[str, str]:
    """("lr=1e-3", ...) -> {"lr": "1e-3", ...}."""
    pairs = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise InputError(f"{assignment!r} is no assignment: write it as key=value.")
        pairs[key.strip()] = value.strip()
    return pairs


def facts(facts: Mapping[str, Any]) -> Answer:
    width = max(len(key) for key in facts)
    return Answer(dict(facts), "\n".join(f"{k:<{width}}  {v}" for k, v in facts.items()))


def table(frame: pd.DataFrame, *lines: str, **others: pd.DataFrame) -> Answer:
    """A table as "rows", `lines` below it, and other tables by their names."""
    data, text = {"rows": _rows(frame)}, [_text(frame)]
    for name, other in others.items():
        data[name] = _rows(other)
        text += ["", name, _text(other)]
    return Answer(data, "\n".join([*text, *lines]))


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    # NaN is no JSON, and pandas' own writer would round to ten decimals.
    return [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in frame.to_dict("records")
    ]


def _text(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "none"
    fine = {"auc_step": "{:.1g}".format}  # steps can be far smaller than what they are steps of
    shown = {name: fine[name] for name in frame.columns if name in fine}
    return frame.to_string(index=False, float_format=lambda x: f"{x:.3f}", formatters=shown)


def require_writable(path: Path | None, *suffixes: str) -> None:
    """Say now, not after minutes of computing, that `path` cannot be written; its folder is made.

    Raises:
        InputError: another suffix, a folder of that name, or no leave to write there.
    """
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path} has to end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder of {path} cannot be made: {error}.") from error
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: choose another place, or get leave to.")


def save(figure: Figure, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InputError(f"The figure cannot be written to {path}: {error}.") from error
