"""What an import says besides its images: repeats, patients on two sides, boxes, resumption."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scxr.cli.data import Info
from scxr.data import importing, sharding
from scxr.data.decoding import decode, fit, normalise
from scxr.data.episodes import split_of
from scxr.data.importing import import_from, import_records, leftovers
from scxr.data.phantom import generate
from scxr.data.remarks import read_remarks, sentences
from scxr.data.sources import Record, chestmnist
from scxr.data.sources.chestmnist import FILES, RECORD
from scxr.errors import InputError


def encode(pixels: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def noise(seed: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def sides() -> tuple[str, str, str]:
    """Two patients of the training side and one that is held out."""
    names = [str(number) for number in range(40)]
    train = [name for name in names if split_of(name) == "train"]
    return train[0], train[1], next(name for name in names if split_of(name) == "val")


def record(folder: Path, name: str, data: bytes, patient: str, **extra: str) -> Record:
    (folder / name).write_bytes(data)
    return Record(name, folder / name, patient=patient, extra=extra)


# --- repeats and splits -------------------------------------------------------------------------


def test_equal_images_on_both_sides_of_the_split_are_counted(tmp_path: Path) -> None:
    first, second, held_out = sides()
    given = [(0, first), (0, first), (0, second), (0, held_out), (1, held_out)]
    records = [
        record(tmp_path, f"{number}.png", encode(noise(seed)), patient)
        for number, (seed, patient) in enumerate(given)
    ]
    report = import_records(records, tmp_path / "store", size=32)
    equal = report.repeats["equal"]
    assert (equal["same_patient"], equal["other_patient"], equal["across_split"]) == (1, 2, 1)
    assert equal["named"]["across_split"] == [["0.png", "3.png"]]
    assert report.repeats["nearly_equal"]["other_patient"] == 0
    assert any(
        note.startswith("1 images that equal an earlier image of a patient on the other side")
        and "0.png and 3.png" in note
        for note in report.notes
    )
    assert sentences(read_remarks(report.store.path)) == report.notes


@pytest.mark.parametrize("column", ["split", "Split", "subset", "part"])
def test_patients_on_several_sides_of_the_tables_own_split(column: str, tmp_path: Path) -> None:
    given = [("p", "train"), ("p", "Test"), ("q", "train"), ("q", "training"), ("r", "")]
    given += [("s", "val"), ("s", "dev"), ("t", "validation"), ("t", "test")]
    records = [
        record(tmp_path, f"{number}.png", encode(noise(number)), patient, **{column: side})
        for number, (patient, side) in enumerate(given)
    ]
    report = import_records(records, tmp_path / "store", size=32)
    own = read_remarks(report.store.path)["own_split"]
    assert own == {"column": column, "patients_on_several_sides": 2, "named": ["p", "t"]}
    assert report.notes[0].startswith("2 patients are on several sides of the table's own column")


def test_a_column_called_part_may_mean_something_else(tmp_path: Path) -> None:
    records = [
        record(tmp_path, f"{part}.png", encode(noise(number)), "p", part=part)
        for number, part in enumerate(["chest", "abdomen"])
    ]
    report = import_records(records, tmp_path / "store", size=32)
    assert read_remarks(report.store.path)["own_split"]["patients_on_several_sides"] == 0


def test_equal_images_on_several_sides_of_the_tables_own_split(tmp_path: Path) -> None:
    records = [
        record(tmp_path, f"{side}.png", encode(noise(0)), side, split=side)
        for side in ("train", "test")
    ]
    report = import_records(records, tmp_path / "store", size=32)
    assert report.repeats["equal"]["across_own_split"] == 1


def test_pictures_stored_once_more_are_found_and_others_are_not(tmp_path: Path) -> None:
    phantoms = generate(range(60), size=128, masks=False)
    first, _, held_out = sides()
    records = []
    for number, pixels in enumerate(phantoms.images):
        records.append(record(tmp_path, f"{number}.png", encode(pixels), f"patient-{number}"))
    records[0] = record(tmp_path, "0.png", encode(phantoms.images[0]), first)
    originals = import_records(records, tmp_path / "originals", size=128)
    assert (
        sum(originals.repeats["nearly_equal"][key] for key in ("same_patient", "other_patient"))
        == 0
    )
    for number in range(10):
        data = encode(phantoms.images[number], "JPEG", quality=90)
        owner = held_out if number == 0 else "somebody"
        records.append(record(tmp_path, f"{number}.jpg", data, owner))
    report = import_records(records, tmp_path / "store", size=128)
    near = report.repeats["nearly_equal"]
    assert near["other_patient"] >= 8, "at this quality nearly all keep their hash"
    assert near["across_split"] >= 1
    for original, copy in near["named"]["other_patient"]:
        assert Path(original).stem == Path(copy).stem


# --- boxes of a table ---------------------------------------------------------------------------


def test_boxes_in_pixels_of_the_file_become_regions(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "sub").mkdir(parents=True)
    (disk / "wide.png").write_bytes(encode(np.repeat(noise(1, 64), 2, axis=1)))  # 128 x 64
    (disk / "sub" / "b.png").write_bytes(encode(noise(2, 32)))
    table = disk / "boxes.tsv"
    table.write_text(
        "image\tfinding\tx\ty\twidth\theight\n"
        "wide.png\tMass\t64\t16\t32\t8\n"
        "sub/b.png\tMass\t0\t0\t4\t4\n"
        "b\tEffusion\t28.5\t28.5\t10\t10\n"
        "gone.png\tMass\t0\t0\t4\t4\n"
    )
    report = import_from("folder", disk, tmp_path / "s", boxes=table, size=32)
    assert report.store.table["image"].tolist() == ["sub/b.png", "wide.png"]
    assert report.quarantined == [], "the table of boxes is no image"
    expected = np.zeros((32, 32), dtype=bool)
    expected[8:12, 16:24] = True  # x 64 to 96 of 128, y 16 to 24 of 64
    np.testing.assert_array_equal(report.store.mask(1, "Mass"), expected)
    expected = np.zeros((32, 32), dtype=bool)
    expected[28:, 28:] = True
    np.testing.assert_array_equal(report.store.mask(0, "Effusion"), expected)
    assert report.store.mask(1, "Effusion") is None
    assert report.store.regions["kind"].eq("box").all()
    assert any(
        "1 boxes of boxes.tsv without a file (for example gone.png)" in n for n in report.notes
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.png,Mass,1,2,x,4", "not four numbers"),
        ("a.png,Mass,1,2,,4", "not four numbers"),
        ("a.png,Mass,1,2,-3,4", "width and height above 0"),
        ("a.png,Mass,nan,2,3,4", "not four numbers"),
        ("a.png,,1,2,3,4", "without a finding"),
    ],
)
def test_boxes_that_are_none_are_refused(row: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(noise(0)))
    table = tmp_path / "boxes.csv"
    table.write_text(f"image,finding,x,y,width,height\n{row}\n")
    with pytest.raises(InputError, match=words):
        import_from("folder", tmp_path, tmp_path / "s", boxes=table, size=32)
    table.write_text("image,x,y\na.png,1,2\n")
    with pytest.raises(InputError, match="lacks the columns finding, width, height"):
        import_from("folder", tmp_path, tmp_path / "s", boxes=table, size=32)


def test_options_of_another_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The source nih takes no boxes, columns"):
        import_from("nih", tmp_path, tmp_path / "s", boxes=Path("b"), columns={"image": "x"})


# --- ChestMNIST ---------------------------------------------------------------------------------


def mnist(path: Path, n: int = 70) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for number, part in enumerate(("train", "val", "test")):
        images = np.random.default_rng(number).integers(0, 256, (n, 28, 28), dtype=np.uint8)
        images[:, 0, :2] = 0, 255  # the whole range, so that normalising changes nothing
        arrays |= {f"{part}_images": images, f"{part}_labels": np.zeros((n, 14), np.uint8)}
    np.savez_compressed(path, **arrays)
    return arrays


def test_chestmnist_is_read_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = mnist(tmp_path / "chestmnist.npz")
    loaded: list[str] = []
    original = np.lib.npyio.NpzFile.__getitem__

    def watched(self: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
        loaded.append(key)
        return original(self, key)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", watched)
    report = import_from("chestmnist", tmp_path, tmp_path / "s", size=28, workers=3)
    assert not any(key.startswith(("train_i", "val_i", "test_i")) for key in loaded)
    expected = np.concatenate([arrays[f"{part}_images"] for part in ("train", "val", "test")])
    np.testing.assert_array_equal(report.store.images, expected)
    assert any("flatters scores" in note for note in sentences(read_remarks(report.store.path)))


def test_chestmnist_with_a_damaged_array_imports_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "chestmnist.npz"
    mnist(file)
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("val_images.npy")
    data = bytearray(file.read_bytes())
    place = info.header_offset + info.compress_size // 2
    data[place : place + 40] = bytes(40)
    file.write_bytes(data)
    report = import_from("chestmnist", file, tmp_path / "s", size=28)
    assert report.imported >= 140
    assert report.quarantined and all(
        "val_images cannot be read" in entry["reason"] for entry in report.quarantined
    )
    assert set(report.store.table["part"]) >= {"train", "test"}


def test_chestmnist_downloads_only_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ChestMNIST of 100 px; choose of 28, 64, 128, 224"):
        chestmnist(tmp_path, download=100)
    medmnist = pytest.importorskip(
        "medmnist", reason="the published checksums are compared with it"
    )
    told = medmnist.INFO["chestmnist"]
    for size, (name, md5) in FILES.items():
        suffix = "" if size == 28 else f"_{size}"
        assert told[f"MD5{suffix}"] == md5
        assert told[f"url{suffix}"] == f"{RECORD}/files/{name}?download=1"


# --- killed and resumed -------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("packed", [False, True])
def test_a_process_killed_at_any_moment_is_continued(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "SHARD", 4)
    disk, out = tmp_path / "disk", tmp_path / "store"
    disk.mkdir()
    for number in range(60):
        (disk / f"{number:03d}.png").write_bytes(encode(noise(number, 128)))
    if packed:
        pack(disk)
    script = textwrap.dedent(f"""
        import time
        from scxr.data import importing, sharding
        importing.SHARD = 4
        normalise = sharding.normalise
        sharding.normalise = lambda raw: (time.sleep(0.01), normalise(raw))[1]
        importing.import_from("folder", {str(disk)!r}, {str(out)!r}, size=32, workers=2)
    """)
    shards = tmp_path / ".store.shards"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    wanted = random.Random(packed).randint(2, 8)
    while process.poll() is None and len(list(shards.glob("*.npz"))) < wanted:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was killed before it was done"
    assert not out.exists()
    before = {file.name: file.stat().st_mtime_ns for file in shards.glob("*.npz")}
    assert wanted <= len(before) < 15
    assert leftovers(out) == shards
    with pytest.raises(InputError, match="was interrupted; give it again to go on"):
        Info(out)()

    after: dict[str, int] = {}
    original = importing.load_shard

    def noted(file: Path) -> sharding.Shard:
        after[file.name] = file.stat().st_mtime_ns
        return original(file)

    monkeypatch.setattr(importing, "load_shard", noted)
    resumed = import_from("folder", disk, out, size=32)
    assert {name: after[name] for name in before} == before, "finished shards are not done again"
    assert resumed.resumed == 4 * len(before)
    whole = import_from("folder", disk, tmp_path / "whole", size=32)
    assert resumed.store.fingerprint == whole.store.fingerprint
    assert (resumed.notes, whole.resumed) == (whole.notes, 0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk", "store", "whole"]
    assert leftovers(out) is None
    shards.mkdir()
    assert "left its finished shards in" in Info(out)().text


def pack(disk: Path) -> None:
    import tarfile

    with tarfile.open(disk / "all.tar.gz", "w:gz", compresslevel=1) as archive:
        for file in sorted(disk.glob("*.png")):
            archive.add(file, file.name)
            file.unlink()


def test_a_shard_that_a_power_cut_emptied_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for number in range(3):
        (disk / f"{number}.png").write_bytes(encode(noise(number)))
    monkeypatch.setattr(importing, "StoreWriter", None)  # stop once the shards are there
    with pytest.raises(TypeError):
        import_from("folder", disk, tmp_path / "s", size=32)
    monkeypatch.undo()
    (tmp_path / ".s.shards" / "000000.npz").write_bytes(b"")
    report = import_from("folder", disk, tmp_path / "s", size=32)
    assert (report.imported, report.resumed) == (3, 0)


# --- the 16-bit trap ----------------------------------------------------------------------------


@pytest.mark.parametrize("low", [0, 100, 30_000])
def test_raw_values_are_normalised_before_they_are_quantised(low: int) -> None:
    """A picture that uses 300 of 65,536 values keeps 256 greys; cut first, it would keep 2."""
    values = np.linspace(low, low + 300, 64 * 64).reshape(64, 64).astype(np.uint16)
    assert len(np.unique(values >> 8)) <= 3
    kept = normalise(decode(encode(values)))
    assert len(np.unique(kept)) == 256
    exact = (values.astype(float) - low) / 300 * 255
    assert np.abs(kept - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("shape", [(100, 100), (97, 133), (300, 200), (40, 50)])
def test_resizing_is_that_of_pillow_within_one_grey_level(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = Image.fromarray(pixels).resize((48, 48), Image.Resampling.LANCZOS)
    difference = fit(pixels, 48).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


def test_a_deep_picture_imports_like_its_shallow_copy(tmp_path: Path) -> None:
    """The same radiograph at 8 and at 16 bits: squash or pad, the store tells which."""
    pixels = noise(0, 100)[:, :80]
    (tmp_path / "deep.png").write_bytes(encode(pixels.astype(np.uint16) * 16 + 4096))
    (tmp_path / "flat.png").write_bytes(encode(pixels))
    for aspect in ("squash", "pad"):
        records = [Record(n, tmp_path / n, patient=n) for n in ("deep.png", "flat.png")]
        store = import_records(records, tmp_path / aspect, size=40, aspect=aspect).store
        assert store.aspect == aspect
        np.testing.assert_array_equal(store.images[0], store.images[1])
        bars = store.images[0][:, [0, 1, 2, 3, 36, 37, 38, 39]]
        assert bool((bars == 0).all()) is (aspect == "pad")
