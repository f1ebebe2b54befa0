"""Where stores, runs and features go that nobody named."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$SCXR_CACHE`, or `.scxr` in the current folder."""
    return Path(os.environ.get("SCXR_CACHE", ".scxr"))
