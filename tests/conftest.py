"""Shared fixtures: small stores made on the spot, and real radiographs where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from browser import chromium  # noqa: F401  (a fixture)

from scxr.data import RadiographStore
from scxr.data.episodes import count_findings
from scxr.data.phantom import write_store
from scxr.encoders import Encoder, build_encoder, freeze

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_cxr() -> Path:
    """Folder of real radiographs: `SCXR_REAL_CXR`, or `shared/data/real-cxr` beside the clone."""
    folder = Path(os.environ.get("SCXR_REAL_CXR", ROOT.parent / "shared" / "data" / "real-cxr"))
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"no real radiographs at {folder}; set SCXR_REAL_CXR to run this test")
    return folder


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> RadiographStore:
    """400 phantoms of hospital B, 32 px."""
    return write_store(tmp_path_factory.mktemp("phantoms") / "target", 400, size=32, hospital="B")


@pytest.fixture(scope="session")
def findings(target: RadiographStore) -> list[str]:
    """The two findings with most held-out images."""
    counts = count_findings(target.table).sort_values("val", ascending=False).head(2)
    assert counts["val"].min() >= 3
    return list(counts["finding"])


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features are cached below the test's own folder."""
    monkeypatch.setenv("SCXR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def encoder(target: RadiographStore) -> Encoder:
    """An untrained ResNet-18 for pictures of 32 px."""
    return freeze(build_encoder("resnet18", image_size=32, mean=target.mean, std=target.std))
