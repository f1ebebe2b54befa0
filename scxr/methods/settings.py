"""From a preset and a few changes (perhaps typed on a command line) to checked settings."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import types
import typing
from typing import Any

from scxr.errors import InputError
from scxr.methods.base import Settings


def with_changes(settings: Settings, changes: dict[str, Any]) -> Settings:
    """`settings` with some values changed.

    Args:
        changes: by name; "augmentation.crop_scale" reaches inside. Values may be strings, as in
            {"lr": "1e-3", "augmentation.crop_scale": "0.2,1"}. Giving `steps` clears `epochs`, and
            the other way round.

    Raises:
        InputError: an unknown name, or a value that does not fit it.
    """
    if "steps" in changes and "epochs" in changes:
        raise InputError("Give steps or epochs, not both: one follows from the other.")
    for key, value in changes.items():
        outer, _, inner = key.partition(".")
        if inner:
            nested = _change(getattr(settings, outer, None), inner, value, key)
            settings = dataclasses.replace(settings, **{outer: nested})
        else:
            settings = _change(settings, key, value, key)
    if "steps" in changes:
        settings = dataclasses.replace(settings, epochs=None)
    if "epochs" in changes:
        settings = dataclasses.replace(settings, steps=None)
    return settings


def to_dict(settings: Settings) -> dict[str, Any]:
    """Plain values, ready for JSON."""
    return dataclasses.asdict(settings)


def _change(target: Any, name: str, value: Any, key: str) -> Any:
    """A copy of the dataclass `target` with one field changed."""
    if not dataclasses.is_dataclass(target) or isinstance(target, type):
        raise InputError(f"There is no setting {key!r}.")
    hints = typing.get_type_hints(type(target))
    if name not in hints:
        near = difflib.get_close_matches(name, hints, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(hints)}."
        raise InputError(f"There is no setting {key!r}: {hint}")
    try:
        converted = _convert(hints[name], value)
    except (ValueError, SyntaxError, TypeError):
        wanted = getattr(hints[name], "__name__", str(hints[name]))
        raise InputError(f"{key}={value!r} does not fit: {key} is a {wanted}.") from None
    return dataclasses.replace(target, **{name: converted})


def _convert(hint: Any, value: Any) -> Any:
    """`value` (perhaps a string) as the type that `hint` asks for; ValueError where it is not."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if types.NoneType in options and value in (None, "None", "none"):
            return None
        return _convert(next(o for o in options if o is not types.NoneType), value)
    if hint is str:
        return str(value)
    if isinstance(value, str):
        value = ast.literal_eval(value.capitalize() if value in ("true", "false") else value)
    if origin is tuple:
        inner = typing.get_args(hint)
        if len(value) != len(inner):
            raise ValueError(value)
        return tuple(_convert(i, v) for i, v in zip(inner, value, strict=True))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ValueError(value)
    return value
