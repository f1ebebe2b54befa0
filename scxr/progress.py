"""Progress bars, in a terminal and in a notebook, that `TQDM_DISABLE=1` silences in both."""

from __future__ import annotations

import os
from typing import Any

from tqdm.auto import tqdm


def progress_bar(*arguments: Any, **options: Any) -> Any:
    """`tqdm.auto.tqdm`; the notebook's bar ignores TQDM_DISABLE unless it is told."""
    silent = os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
    return tqdm(*arguments, **({"disable": silent} | options))
