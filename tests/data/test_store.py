"""The store: what was written comes back, half a store never exists, damage is told."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from scxr.benchmarks.imports import OPENING, sparse_store
from scxr.data.store import RadiographStore, StoreWriter, has_finding
from scxr.errors import InputError

N, H, W = 11, 18, 21


def rows(n: int, start: int = 0) -> list[dict[str, object]]:
    return [
        {"image": f"{i}.png", "patient": f"p{i // 3}", "findings": "A|b", "age": 40 + i}
        for i in range(start, start + n)
    ]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, H, W), dtype=np.uint8)


@pytest.fixture
def regions() -> np.ndarray:
    masks = np.random.default_rng(1).random((N, H, W)) < 0.4
    masks[4] = False
    return masks


@pytest.fixture
def store(tmp_path: Path, pixels: np.ndarray, regions: np.ndarray) -> RadiographStore:
    with StoreWriter(tmp_path / "store", H, W, {"kind": "test"}, capacity=N) as writer:
        writer.add(pixels[:6], rows(6), {"lung": regions[:6]})
        writer.add(pixels[6:], rows(N - 6, 6), {"lung": regions[6:]})
    return RadiographStore.open(tmp_path / "store")


def test_pixels_and_table_come_back(store: RadiographStore, pixels: np.ndarray) -> None:
    assert store.shape == (N, H, W) and len(store) == N
    assert isinstance(store.images, np.memmap)
    np.testing.assert_array_equal(store.images, pixels)
    assert list(store.table.columns) == ["image", "patient", "view", "findings", "hospital", "age"]
    assert store.table["image"].tolist() == [f"{i}.png" for i in range(N)]
    assert store.table["view"].tolist() == [""] * N
    assert store.table["age"].tolist() == [40 + i for i in range(N)]
    assert store.source == {"kind": "test"} and store.aspect == "native"


def test_mean_and_std_are_those_of_the_pixels(store: RadiographStore, pixels: np.ndarray) -> None:
    assert store.mean == pytest.approx((pixels / 255).mean(), rel=1e-12)
    assert store.std == pytest.approx((pixels / 255).std(), rel=1e-12)


def test_batch_gathers_any_rows_and_copies(store: RadiographStore, pixels: np.ndarray) -> None:
    batch = store.batch([3, 0, -1, 3])
    assert batch.shape == (4, 1, H, W) and batch.dtype == torch.uint8
    np.testing.assert_array_equal(batch[:, 0].numpy(), pixels[[3, 0, -1, 3]])
    batch.zero_()
    np.testing.assert_array_equal(store.images, pixels)
    chosen = np.arange(N) % 2 == 1
    np.testing.assert_array_equal(store.batch(chosen)[:, 0].numpy(), pixels[chosen])
    with pytest.raises(IndexError):
        store.batch([N])


def test_masks_are_sparse_and_exact(store: RadiographStore, regions: np.ndarray) -> None:
    assert store.has_masks and store.structures == ["lung"]
    assert store.mask(4, "lung") is None
    np.testing.assert_array_equal(store.mask(9, "lung"), regions[9])
    np.testing.assert_array_equal(store.masks([9, 4, 0, -1], "lung"), regions[[9, 4, 0, -1]])
    assert len(store.regions) == N - 1 and set(store.regions["kind"]) == {"mask"}
    with pytest.raises(InputError, match=r"no regions of 'heart'.*lung"):
        store.mask(0, "heart")


def test_structures_without_a_single_region(tmp_path: Path, pixels: np.ndarray) -> None:
    empty = np.zeros((N, H, W), dtype=bool)
    with StoreWriter(tmp_path / "s", H, W, {}) as writer:
        writer.add(pixels, rows(N), {"mass": empty})
    store = RadiographStore.open(tmp_path / "s")
    assert not store.has_masks and store.structures == ["mass"]
    assert store.mask(0, "mass") is None
    assert not store.masks([0, 1], "mass").any()
    assert len(store.regions) == 0


def test_fingerprint_follows_content(tmp_path: Path, pixels: np.ndarray) -> None:
    def write(name: str, images: np.ndarray, table: list[dict[str, object]]) -> str:
        with StoreWriter(tmp_path / name, H, W, {"name": name}) as writer:
            writer.add(images, table)
        return RadiographStore.open(tmp_path / name).fingerprint

    first = write("a", pixels, rows(N))
    assert write("b", pixels, rows(N)) == first
    changed = pixels.copy()
    changed[5, 5, 5] ^= 1
    assert write("c", changed, rows(N)) != first
    assert write("d", pixels, rows(N, 1)) != first


def test_a_pickled_store_opens_its_files_again(store: RadiographStore, pixels: np.ndarray) -> None:
    data = pickle.dumps(store)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).images, pixels)


def test_missing_texts_become_empty(tmp_path: Path, pixels: np.ndarray) -> None:
    with StoreWriter(tmp_path / "s", H, W, {}) as writer:
        table = pd.DataFrame(rows(N)).assign(view=None, note=[None] * 10 + ["x"])
        writer.add(pixels, table)
    table = RadiographStore.open(tmp_path / "s").table
    assert table["view"].tolist() == [""] * N
    assert table["note"].tolist() == [""] * 10 + ["x"]


def test_has_finding_matches_whole_names_in_any_case() -> None:
    column = pd.Series(["Mass|Nodule", "mass", "Massive", "", None, " Nodule | MASS"])
    assert has_finding(column, "Mass").tolist() == [True, True, False, False, False, True]
    assert has_finding(column[:0], "Mass").tolist() == []


@pytest.mark.parametrize("name", ["images.npy", "table.parquet", "masks.npy", "regions.parquet"])
def test_verify_finds_a_flipped_bit_in_every_file(store: RadiographStore, name: str) -> None:
    store.verify()
    file = store.path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    with pytest.raises(InputError, match=f"checksum of {name}"):
        store.verify()


def test_verify_finds_a_missing_file(store: RadiographStore) -> None:
    (store.path / "masks.npy").unlink()
    with pytest.raises(InputError, match=r"lacks masks\.npy"):
        store.verify()


def test_a_shortened_images_file_is_refused_when_opened(store: RadiographStore) -> None:
    os.truncate(store.path / "images.npy", 1000)
    with pytest.raises(InputError, match=r"images\.npy"):
        RadiographStore.open(store.path)


def edit_header(folder: Path, **changes: object) -> None:
    file = folder / "store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_newer_version_is_refused_with_advice(store: RadiographStore) -> None:
    edit_header(store.path, version=2)
    with pytest.raises(InputError, match=r"format version 2.*update scxr"):
        RadiographStore.open(store.path)


def test_a_header_that_disagrees_with_the_pixels_is_refused(store: RadiographStore) -> None:
    edit_header(store.path, n=N + 1)
    with pytest.raises(InputError, match="damaged"):
        RadiographStore.open(store.path)


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store at"):
        RadiographStore.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no store\.json.*scxr data import"):
        RadiographStore.open(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(InputError, match=r"store\.json cannot be read"):
        RadiographStore.open(tmp_path)
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(InputError, match="does not describe"):
        RadiographStore.open(tmp_path)


def test_an_existing_store_is_kept_unless_asked(store: RadiographStore, pixels: np.ndarray) -> None:
    before = store.fingerprint
    with pytest.raises(InputError, match="exists already"):
        StoreWriter(store.path, H, W, {})
    with StoreWriter(store.path, H, W, {}, overwrite=True) as writer:
        writer.add(255 - pixels, rows(N))
        assert RadiographStore.open(store.path).fingerprint == before
    np.testing.assert_array_equal(RadiographStore.open(store.path).images, 255 - pixels)
    assert [file.name for file in store.path.parent.iterdir()] == ["store"]


def test_a_folder_that_is_no_store_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(InputError, match="not a store"):
        StoreWriter(tmp_path / "thesis", H, W, {}, overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        StoreWriter(tmp_path / "file", H, W, {})


def test_an_exception_while_writing_leaves_nothing(tmp_path: Path, pixels: np.ndarray) -> None:
    with (
        pytest.raises(RuntimeError, match="power"),
        StoreWriter(tmp_path / "s", H, W, {}) as writer,
    ):
        writer.add(pixels, rows(N))
        raise RuntimeError("power")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="No image was added"),
        StoreWriter(tmp_path / "s", H, W, {}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_rows_and_images_have_to_agree(tmp_path: Path, pixels: np.ndarray) -> None:
    writer = StoreWriter(tmp_path / "s", H, W, {})
    with pytest.raises(ValueError, match="11 images but 3 table rows"):
        writer.add(pixels, rows(3))
    with pytest.raises(ValueError, match="uint8"):
        writer.add(pixels.astype(np.float32), rows(N))
    with pytest.raises(ValueError, match="lack patient"):
        writer.add(pixels, [{"image": str(i)} for i in range(N)])
    writer.discard()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_writer_leaves_no_store_and_is_cleaned_up(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    target = tmp_path / "s"
    script = f"""
        import os, signal, numpy as np
        from scxr.data.store import StoreWriter
        writer = StoreWriter({str(target)!r}, {H}, {W}, {{}})
        writer.add(np.zeros((3, {H}, {W}), np.uint8), [{{"image": "a", "patient": "p"}}] * 3)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1, "the unfinished files should be there"
    with StoreWriter(target, H, W, {}) as writer:
        writer.add(pixels, rows(N))
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("step", ["between", "after"])
def test_a_kill_while_replacing_leaves_one_whole_store(
    step: str, tmp_path: Path, pixels: np.ndarray
) -> None:
    """Killed around the two renames that put the new store into the place of the old one."""
    target = tmp_path / "s"
    with StoreWriter(target, H, W, {"made": "first"}) as writer:
        writer.add(pixels, rows(N))
    first = writer.finish().fingerprint
    script = f"""
        import os, signal, numpy as np
        from pathlib import Path
        from scxr.data.store import StoreWriter
        renames, original = [], Path.rename

        def until_killed(self, target):
            result = original(self, target)
            renames.append(target)
            if len(renames) == {["between", "after"].index(step) + 1}:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        Path.rename = until_killed
        with StoreWriter({str(target)!r}, {H}, {W}, {{"made": "second"}}, overwrite=True) as writer:
            writer.add(np.zeros((3, {H}, {W}), np.uint8), [{{"image": "a", "patient": "p"}}] * 3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -signal.SIGKILL
    kept = [path for path in tmp_path.iterdir() if (path / "store.json").is_file()]
    stores = {RadiographStore.open(path).fingerprint: path for path in kept}
    for store in kept:
        RadiographStore.open(store).verify()
    assert target.exists() == (step != "between")
    if step == "between":
        assert first in stores, "the old store is still somewhere"
    if step == "after":
        assert RadiographStore.open(target).source == {"made": "second"}
    with StoreWriter(target, H, W, {}, overwrite=True) as writer:
        writer.add(pixels, rows(N))
    writer.finish().verify()
    with StoreWriter(target, H, W, {}, overwrite=True) as writer:
        writer.add(pixels, rows(N))
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


def test_a_store_appended_to_another_keeps_pixels_rows_and_regions(
    store: RadiographStore, tmp_path: Path, pixels: np.ndarray
) -> None:
    other = {"heart": np.ones((N, H, W), dtype=bool)}
    with StoreWriter(tmp_path / "both", H, W, {}) as writer:
        writer.add(pixels[::-1], rows(N), other)
        writer.add_store(store)
    both = writer.finish()
    np.testing.assert_array_equal(both.images, np.concatenate([pixels[::-1], pixels]))
    assert both.table["image"].tolist() == store.table["image"].tolist() * 2
    for structure in store.structures:
        for row in range(N):
            here, there = both.mask(N + row, structure), store.mask(row, structure)
            assert (here is None) == (there is None)
            if there is not None:
                np.testing.assert_array_equal(here, there)
    heart = both.masks(range(N), "heart")
    assert heart.all()
    both.verify()
    with pytest.raises(ValueError, match="expected images of"):
        StoreWriter(tmp_path / "wrong", H + 1, W, {}).add_store(store)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_opening_112120_images_takes_no_memory(tmp_path: Path) -> None:
    """7.35 GB as a sparse file, opened by a fresh process: resident memory stays where it was."""
    store = sparse_store(tmp_path / "s", 112_120)
    done = subprocess.run(
        [sys.executable, "-c", OPENING, str(store)], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert said["bytes"] < 5e6, "opening"
    assert said["with_a_batch"] < 50e6, "opening and gathering three images"
    assert RadiographStore.open(store).shape == (112_120, 256, 256)
