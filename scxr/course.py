"""What all six chapters share: the mode, the data, and runs that are trained once.

SCXR_MODE     quick (default: two CPU cores, minutes) or full (the published recipe, a GPU)
SCXR_DATA     store to pretrain on; the phantom's hospital A without it
SCXR_TARGET   labelled store to evaluate on; the phantom's hospital B without it
"""

from __future__ import annotations

import os
from typing import Any

from scxr.data import RadiographStore, open_data
from scxr.errors import InputError
from scxr.pretrain import pretrain
from scxr.runs import Run


def mode() -> str:
    """ "quick" or "full", from SCXR_MODE."""
    chosen = os.environ.get("SCXR_MODE", "quick")
    if chosen not in ("quick", "full"):
        raise InputError(f"SCXR_MODE is {chosen!r}: set it to quick or full.")
    return chosen


def pretraining_data() -> RadiographStore:
    """The unlabelled pool."""
    return open_data(os.environ.get("SCXR_DATA", "phantom"))


def target_data() -> RadiographStore:
    """Another hospital's radiographs, with labels."""
    return open_data(os.environ.get("SCXR_TARGET", "phantom:B"))


def trained(method: str, *, seed: int = 0, **settings: Any) -> Run:
    """The run of a method's preset with `settings` changed, trained if no chapter has done so.

    Runs are kept in the cache under a name made from all that went into them, so that chapter 5
    finds what chapter 3 trained, and a changed setting is a new run.
    """
    return pretrain(method, pretraining_data(), preset=mode(), settings=settings, seed=seed)
