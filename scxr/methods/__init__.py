"""Pretraining methods by name: one file a method, readable from top to bottom.

A new method is a file with a `Method` in it and a line here; the loop, the command line and the
tests find it by its name.
"""

from typing import Any

from scxr.errors import InputError
from scxr.methods.barlow import BarlowTwins
from scxr.methods.base import Method, Settings
from scxr.methods.dino import DINO
from scxr.methods.moco import MoCo
from scxr.methods.settings import with_changes
from scxr.methods.spark import SparK
from scxr.methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {m.name: m for m in (MoCo, BarlowTwins, VICReg, DINO, SparK)}

__all__ = ["METHODS", "Method", "Settings", "preset_settings"]


def preset_settings(method: str, preset: str, changes: dict[str, Any]) -> Settings:
    """The settings of a method's preset, with `changes` applied (see `with_changes`).

    Raises:
        InputError: an unknown method, preset or setting.
    """
    if method not in METHODS:
        raise InputError(f"Unknown method {method!r}: choose from {', '.join(METHODS)}.")
    presets = METHODS[method].presets
    if preset not in presets:
        raise InputError(f"Unknown preset {preset!r}: choose from {', '.join(presets)}.")
    return with_changes(presets[preset], changes)
