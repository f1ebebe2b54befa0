"""Shared fixtures: small stores made on the spot, and real radiographs where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_cxr() -> Path:
    """Folder of real radiographs: `SCXR_REAL_CXR`, or `shared/data/real-cxr` beside the clone."""
    folder = Path(os.environ.get("SCXR_REAL_CXR", ROOT.parent / "shared" / "data" / "real-cxr"))
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"no real radiographs at {folder}; set SCXR_REAL_CXR to run this test")
    return folder
