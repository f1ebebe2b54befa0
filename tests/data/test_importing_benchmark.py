"""The benchmark measures what it says: the same files, the same pictures, on both roads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scxr.benchmarks import imports
from scxr.data.importing import import_from


def test_both_roads_make_the_same_pictures(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number, (bits, noise) in enumerate([(8, 0.01), (16, 0.004)]):
        pixels = imports.radiograph(number, 300, bits, noise)
        assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert pixels.max() <= (255 if bits == 8 else 4095)
        Image.fromarray(pixels).save(files / f"{number}.png")
    imports.plain_loop(sorted(files.iterdir()), tmp_path / "plain", 64)
    store = import_from("folder", files, tmp_path / "store", size=64).store
    for row in range(2):
        plain = np.load(tmp_path / "plain" / f"{row}.npy").astype(int)
        # The loop cuts where the import rounds.
        assert np.abs(store.images[row] - plain).max() <= 2


def test_rows_of_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"64 px": (64, 8, 0.01, 2), "90 px, deep": (90, 16, 0.004, 1)}
    monkeypatch.setattr(imports, "KINDS", small)
    rows = imports.run(images=1, repeats=1, workers=1, counts=(50,), folder=tmp_path)
    assert [row["kind"] for row in rows] == [*imports.KINDS, "open 50 images of 256 px"]
    for row in rows[:2]:
        assert row["ratio"] > 0 and row["ours"] > 0 and row["pillow"] > 0
        assert row["ours_cpu_ms"] > 0 and row["pillow_cpu_ms"] > 0
    assert rows[2]["open_ms"] > 0
    assert list(tmp_path.iterdir()) == [], "nothing stays behind"
