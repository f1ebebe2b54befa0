"""Outlines that lie in pictures of their own become regions of the store."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scxr.data import RadiographStore, importing
from scxr.data.importing import import_from
from scxr.data.joining import join_parts
from scxr.errors import InputError


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Two pictures, one wide; outlines beside them, one as bits, one as 0/1 at half the size."""
    disk = tmp_path / "disk"
    save(disk / "cxr" / "a.png", noise(0, 64, 64))
    save(disk / "cxr" / "b.png", noise(1, 32, 64))
    lung = np.zeros((64, 64), np.uint8)
    lung[16:48, 8:24] = 255
    save(disk / "masks" / "a_lung.png", lung, "1")
    heart = np.zeros((16, 32), np.uint8)
    heart[4:8, 16:24] = 1
    save(disk / "masks" / "b_heart.png", heart)
    thin = np.zeros((64, 64), np.uint8)
    thin[:, 33] = 255
    save(disk / "masks" / "a_tube.png", thin)
    (disk / "masks.csv").write_text(
        "image,structure,mask,source\n"
        "cxr/a.png,Left  Lung,masks/a_lung.png,x\n"
        "b,Heart,masks/b_heart.png,x\n"
        "cxr/a.png,Tube,masks/a_tube.png,x\n"
        "gone.png,Heart,masks/b_heart.png,x\n"
    )
    return disk


def test_outlines_become_regions_at_the_stored_size(disk: Path, tmp_path: Path) -> None:
    report = import_from("folder", disk, tmp_path / "s", masks=disk / "masks.csv", size=32)
    store = report.store
    assert store.table["image"].tolist() == ["cxr/a.png", "cxr/b.png"], "outlines are no images"
    assert not report.quarantined
    lung = np.zeros((32, 32), bool)
    lung[8:24, 4:12] = True
    np.testing.assert_array_equal(store.mask(0, "Left Lung"), lung)
    heart = np.zeros((32, 32), bool)
    heart[8:16, 16:24] = True  # squashed like its picture
    np.testing.assert_array_equal(store.mask(1, "Heart"), heart)
    tube = np.zeros((32, 32), bool)
    tube[:, 16] = True  # half a pixel wide, but not lost
    np.testing.assert_array_equal(store.mask(0, "Tube"), tube)
    assert store.mask(1, "Left Lung") is None
    assert store.regions["kind"].eq("mask").all()
    assert any("1 masks of masks.csv without a file" in note for note in report.notes)


def test_outlines_are_padded_like_their_pictures(disk: Path, tmp_path: Path) -> None:
    report = import_from(
        "folder", disk, tmp_path / "s", masks=disk / "masks.csv", size=32, aspect="pad"
    )
    heart = np.zeros((32, 32), bool)
    heart[8 + 4 : 8 + 8, 16:24] = True
    np.testing.assert_array_equal(report.store.mask(1, "Heart"), heart)


def test_outlines_come_in_parts_that_join(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "SHARD", 1)

    def made(disk: Path, part: str | None) -> Path:
        options = {"masks": disk / "masks.csv", "size": 32, "part": part}
        return import_from("folder", disk, tmp_path / "s", **options).store.path

    elsewhere = shutil.copytree(disk, tmp_path / "mount" / "data")
    parts = [made(disk, "1/2"), made(elsewhere, "2/2")]
    joined = join_parts(tmp_path / "joined", parts).store
    assert joined.fingerprint == RadiographStore.open(made(disk, None)).fingerprint
    assert set(joined.structures) == {"Left Lung", "Heart", "Tube"}
    save(disk / "masks" / "b_heart.png", np.full((90, 90), 255, np.uint8))
    other = import_from(
        "folder", disk, tmp_path / "t", masks=disk / "masks.csv", size=32, part="2/2"
    )
    with pytest.raises(InputError, match="import"):
        join_parts(tmp_path / "mixed", [parts[0], other.store.path])


def test_an_outline_comes_before_a_box_and_other_column_names_will_do(
    disk: Path, tmp_path: Path
) -> None:
    (disk / "boxes.csv").write_text(
        "image,label,x,y,w,h\na.png,Left Lung,0,0,32,32\nb.png,Left Lung,0,0,32,16\n"
    )
    (disk / "masks.csv").write_text("image,label,file\na.png,Left Lung,masks/a_lung.png\n")
    tables = {"masks": disk / "masks.csv", "boxes": disk / "boxes.csv"}
    store = import_from("folder", disk / "cxr", tmp_path / "s", size=32, **tables).store
    kinds = dict(zip(store.regions["row"], store.regions["kind"], strict=True))
    assert kinds == {0: "mask", 1: "box"}
    assert store.mask(0, "Left Lung").sum() == 16 * 8
    assert store.mask(1, "Left Lung").sum() == 16 * 16


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("cxr/a.png,,masks/a_lung.png", "without a name"),
        ("cxr/a.png,Lung,masks/none.png", "neither beside"),
        ("cxr/a.png,Lung,../masks/a_lung.png", "give a path below"),
        ("cxr/a.png,Lung,/etc/passwd", "give a path below"),
        ("cxr/a.png,Lung,masks.csv", r"masks.csv cannot be read \(it is no picture"),
    ],
)
def test_outlines_that_are_none_are_refused(
    disk: Path, tmp_path: Path, row: str, words: str
) -> None:
    (disk / "masks.csv").write_text(f"image,structure,mask\n{row}\n")
    with pytest.raises(InputError, match=words):
        import_from("folder", disk, tmp_path / "s", masks=disk / "masks.csv", size=32)
    (disk / "masks.csv").write_text("image,mask\na,b\n")
    with pytest.raises(InputError, match="lacks the columns structure"):
        import_from("folder", disk, tmp_path / "s", masks=disk / "masks.csv", size=32)


def test_the_real_masks_lie_where_they_were_drawn(real_cxr: Path, tmp_path: Path) -> None:
    store = import_from(
        "folder",
        real_cxr / "cxr256",
        tmp_path / "s",
        labels=real_cxr / "labels.csv",
        masks=real_cxr / "masks.csv",
        boxes=real_cxr / "boxes.csv",
        size=64,
    ).store
    table = pd.read_csv(real_cxr / "masks.csv")
    names = store.table["image"].tolist()
    rows = {Path(name).name: row for row, name in enumerate(names)}
    assert store.regions["kind"].eq("mask").sum() == len(table)
    for entry in table.iloc[::40].itertuples():
        drawn = Image.open(BytesIO((real_cxr / entry.mask).read_bytes())).convert("L")
        cover = np.asarray(drawn.resize((64, 64), Image.Resampling.BOX)) >= 128
        kept = store.mask(rows[Path(entry.image).name], entry.structure)
        np.testing.assert_array_equal(kept, cover)
