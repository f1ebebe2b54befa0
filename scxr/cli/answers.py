"""What every command shares: how it answers, and how its arguments and tables read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
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


def table(frame: pd.DataFrame, *lines: str) -> Answer:
    # Through pandas, which turns NaN into null: NaN is no JSON.
    rows = json.loads(frame.to_json(orient="records"))
    text = frame.to_string(index=False, float_format=lambda x: f"{x:.3f}") if rows else "none"
    return Answer({"rows": rows}, "\n".join([text, *lines]))


def save(figure: Figure, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InputError(f"The figure cannot be written to {path}: {error}.") from error
