"""Offer a chapter's notebook, executed as it is on GitHub, beside its script.

The theme puts an `.ipynb` into the download menu of pages that were written in Markdown only
(`header_buttons/launch.py`); a page whose source is a percent script would offer the `.py` alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

BEFORE_THE_THEME = 400  # the theme's listeners have 500


def offer(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Sphinx's `html-page-context`: copy the notebook and name it to the theme."""
    notebook = Path(app.srcdir, page).with_suffix(".ipynb")
    if not notebook.is_file():
        return
    copy = Path(app.outdir, "_sources", page).with_suffix(".ipynb")
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(notebook, copy)
    context["ipynb_source"] = f"{page}.ipynb"


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", offer, priority=BEFORE_THE_THEME)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
