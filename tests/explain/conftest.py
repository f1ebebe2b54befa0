"""A small labelled store of phantoms, an untrained encoder, and a cache of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from scxr.data import RadiographStore
from scxr.data.episodes import count_findings
from scxr.data.phantom import write_store
from scxr.encoders import Encoder, build_encoder, freeze


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> RadiographStore:
    """400 phantoms of hospital B, 32 px."""
    return write_store(tmp_path_factory.mktemp("explain") / "target", 400, size=32, hospital="B")


@pytest.fixture(scope="session")
def findings(target: RadiographStore) -> list[str]:
    """The two findings with most held-out images."""
    counts = count_findings(target.table).sort_values("val", ascending=False).head(2)
    assert counts["val"].min() >= 3
    return list(counts["finding"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features are cached below the test's own folder."""
    monkeypatch.setenv("SCXR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def encoder(target: RadiographStore) -> Encoder:
    """An untrained ResNet-18 for pictures of 32 px."""
    return freeze(build_encoder("resnet18", image_size=32, mean=target.mean, std=target.std))
