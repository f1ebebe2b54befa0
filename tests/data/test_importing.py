"""Importing: raw values survive, bad files are set aside with a reason, kills cost nothing."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from scxr.data import importing
from scxr.data.decoding import Unusable, decode, fit, normalise
from scxr.data.importing import import_from, import_records
from scxr.data.sources import Box, Record, folder
from scxr.data.store import RadiographStore
from scxr.errors import InputError


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def ramp(depth: int = 256, height: int = 32, width: int = 64) -> np.ndarray:
    """Grey values that rise along the rows, from 0 to depth - 1."""
    return np.linspace(0, depth - 1, height * width).reshape(height, width)


def grey(seed: int = 0, height: int = 32, width: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def deep_png(samples: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG (H, W, channels) made by hand: Pillow cannot write these."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = samples.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def dicom(pixels: np.ndarray | None, **tags: Any) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    if pixels is not None:
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


# --- decoding ---------------------------------------------------------------------------------


def test_a_16_bit_ramp_keeps_its_order_and_range() -> None:
    values = ramp(4096).astype(np.uint16) + 1000  # like 12 bits of 16, with an offset
    raw = decode(encode(Image.fromarray(values)))
    np.testing.assert_array_equal(raw, values)
    picture = normalise(raw)
    assert picture.dtype == np.uint8 and (picture.min(), picture.max()) == (0, 255)
    assert (np.diff(picture.reshape(-1).astype(int)) >= 0).all()
    assert len(np.unique(picture)) == 256, "cutting to 8 bits first would leave far fewer steps"
    expected = np.rint((values - 1000.0) / 4095 * 255)
    np.testing.assert_array_equal(picture, expected)


def test_16_bit_colour_is_not_cut_to_8_bits() -> None:
    values = (ramp(256) + 512).astype(np.uint16)  # Pillow would keep the upper byte: 2 for all
    rgb = np.stack([values] * 3, axis=-1)
    raw = decode(deep_png(rgb, 2))
    np.testing.assert_allclose(raw, values, atol=1e-6)
    with_alpha = np.stack([values, np.full_like(values, 65535)], axis=-1)
    np.testing.assert_array_equal(decode(deep_png(with_alpha, 4)), values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", ">u2"])
def test_normalise_is_the_same_line_for_every_type(dtype: str) -> None:
    values = (ramp(200) + 30).astype(dtype)
    expected = (values.astype(float) - 30) / float(values.max() - 30) * 255
    np.testing.assert_allclose(normalise(values).astype(float), expected, atol=0.5 + 1e-4)


def test_signed_values_below_zero() -> None:
    assert normalise(np.array([[-1000, 0, 1000]], dtype=np.int16)).tolist() == [[0, 128, 255]]


def pictures_of(values: np.ndarray) -> dict[str, bytes]:
    image = Image.fromarray(values)
    opaque = Image.fromarray(np.full_like(values, 255))
    palette = image.convert("P")
    palette.putpalette([grey for value in range(256) for grey in [255 - value] * 3])
    palette.frombytes((255 - values).tobytes())
    return {
        "grey": encode(image),
        "RGB": encode(Image.merge("RGB", [image] * 3)),
        "RGBA": encode(Image.merge("RGBA", [image, image, image, opaque])),
        "grey and alpha": encode(Image.merge("LA", [image, opaque])),
        "palette that inverts": encode(palette),
        "TIFF": encode(image, "TIFF"),
        "compressed TIFF": encode(image, "TIFF", compression="tiff_lzw"),
        "BMP": encode(image, "BMP"),
        "16-bit TIFF, big end first": encode(Image.fromarray(values.astype(">u2")), "TIFF"),
        "32-bit integer TIFF": encode(Image.fromarray(values.astype(np.int32)), "TIFF"),
        "float TIFF": encode(Image.fromarray(values.astype(np.float32)), "TIFF"),
        "DICOM": dicom(values),
    }


@pytest.mark.parametrize("kind", sorted(pictures_of(grey())))
def test_every_kind_of_file_gives_the_same_grey_values(kind: str) -> None:
    values = grey()
    np.testing.assert_array_equal(decode(pictures_of(values)[kind]), values)


def test_cmyk_and_colour_become_luminance() -> None:
    red = Image.new("RGB", (32, 32), (255, 0, 0))
    assert np.unique(decode(encode(red))).tolist() == [76]  # 0.299 * 255
    cmyk = Image.fromarray(ramp().astype(np.uint8)).convert("CMYK")
    raw = decode(encode(cmyk, "JPEG", quality=95)).astype(int)
    assert np.abs(raw - ramp()).max() <= 6


def test_exif_orientation_is_applied() -> None:
    values = ramp().astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    raw = decode(encode(Image.fromarray(values), "PNG", exif=exif))
    np.testing.assert_array_equal(raw, values[::-1, ::-1])


def test_monochrome1_is_inverted() -> None:
    values = grey().astype(np.uint16) * 16
    bright = normalise(decode(dicom(values)))
    dark = normalise(decode(dicom(values, PhotometricInterpretation="MONOCHROME1")))
    np.testing.assert_allclose(bright.astype(int) + dark, 255, atol=1)


def test_rescale_then_window_are_applied() -> None:
    values = ramp(4096).astype(np.uint16)
    raw = decode(
        dicom(
            values, RescaleSlope="2", RescaleIntercept="-100", WindowCenter=4000, WindowWidth=2001
        )
    )
    rescaled = values * 2.0 - 100
    inside = (rescaled > 3000) & (rescaled < 4999)
    # The standard's linear window: (x - (centre - 0.5)) / (width - 1) + 0.5, DICOM PS3.3 C.11.2.1.2
    expected = np.clip((rescaled - 3999.5) / 2000 + 0.5, 0, 1)
    np.testing.assert_array_equal(raw == raw.min(), rescaled <= 2999.5)
    assert (np.diff(raw.reshape(-1)) >= 0).all()
    scaled = (raw - raw.min()) / (raw.max() - raw.min())
    np.testing.assert_allclose(scaled[inside], expected[inside], atol=2e-3)


def test_squash_fills_and_pad_keeps_the_aspect() -> None:
    values = np.full((40, 80), 200, dtype=np.uint8)
    assert (fit(values, 32, "squash") == 200).all()
    padded = fit(values, 32, "pad")
    assert (padded[8:24] == 200).all() and not padded[:8].any() and not padded[24:].any()


def test_resizing_is_lanczos() -> None:
    values = grey(3, 100, 70)
    expected = Image.fromarray(values).resize((32, 32), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(fit(values, 32), np.asarray(expected))


def huge_png() -> bytes:
    data = bytearray(deep_png(np.zeros((16, 16, 1)), 0))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def nan_tiff() -> bytes:
    values = ramp().astype(np.float32)
    values[3, 3] = np.nan
    return encode(Image.fromarray(values), "TIFF")


def frames(format: str) -> bytes:
    first, *others = (Image.fromarray(grey(seed)) for seed in range(3))
    return encode(first, format, save_all=True, append_images=others)


GOOD_PNG = encode(Image.fromarray(grey()))
GOOD_JPEG = encode(Image.fromarray(grey()), "JPEG")
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"Dear colleague, please find attached", "not an image"),
    "html": (b"<!DOCTYPE html><html>404</html>" * 30, "not an image"),
    "zip": (b"PK\x03\x04" + b"\0" * 60, "not an image"),
    "PNG cut in half": (GOOD_PNG[: len(GOOD_PNG) // 2], "truncated"),
    "PNG header only": (GOOD_PNG[:33], "truncated"),
    "PNG signature only": (GOOD_PNG[:8], "truncated"),
    "PNG with a wrong checksum": (GOOD_PNG[:20] + b"\xff" + GOOD_PNG[21:], "damaged"),
    "JPEG cut in half": (GOOD_JPEG[: len(GOOD_JPEG) // 2], "truncated"),
    "TIFF cut in half": (pictures_of(grey())["TIFF"][:100], "truncated"),
    "constant": (encode(Image.new("L", (32, 32), 7)), "same value \\(7\\)"),
    "constant behind alpha": (encode(Image.new("RGBA", (32, 32), (0, 0, 0, 9))), "same value"),
    "NaN": (nan_tiff(), "NaN"),
    "1 x N": (encode(Image.fromarray(grey(0, 1, 400))), "only 400 x 1"),
    "1-bit": (encode(Image.fromarray(grey() > 99)), "1-bit"),
    "decompression bomb": (huge_png(), "million pixels"),
    "animated GIF": (frames("GIF"), "3 pictures"),
    "multi-page TIFF": (frames("TIFF"), "3 pictures"),
    "DICOM without pixels": (dicom(None), "without pixels"),
    "multi-frame DICOM": (
        dicom(np.stack([grey(0), grey(1)]), NumberOfFrames=2),
        "2 pictures",
    ),
    "DICOM with too few pixels": (dicom(grey(), Rows=500), "cannot be decoded"),
    "DICOM that claims billions": (dicom(grey(), Rows=60000, Columns=60000), "million pixels"),
    "DICOM cut short": (dicom(grey())[:300], "DICOM"),
    "constant DICOM": (dicom(np.full((32, 32), 5, np.uint16)), "same value"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_bytes_are_unusable_with_a_reason(kind: str) -> None:
    data, reason = BAD[kind]
    with pytest.raises(Unusable, match=reason):
        normalise(decode(data))


# --- importing --------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder with 40 good files of several kinds and every bad one."""
    root = tmp_path / "disk"
    (root / "sub").mkdir(parents=True)
    for number in range(40):
        data = list(pictures_of(grey(number)).values())[number % 12]
        (root / ("sub" if number % 2 else "") / f"good{number:02d}.bin").write_bytes(data)
    for number, (data, _) in enumerate(BAD.values()):
        (root / f"bad{number:02d}.png").write_bytes(data)
    return root


def test_good_files_are_imported_and_bad_ones_named(disk: Path, tmp_path: Path) -> None:
    report = import_records(folder(disk), tmp_path / "store", size=32)
    assert report.imported == len(report.store) == 40
    assert sorted(entry["file"] for entry in report.quarantined) == [
        f"bad{number:02d}.png" for number in range(len(BAD))
    ]
    assert all(entry["reason"] for entry in report.quarantined)
    kept = pd.read_csv(report.store.path / "quarantine.csv")
    assert kept.to_dict("records") == report.quarantined
    assert report.store.aspect == "squash"
    report.store.verify()
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_the_stored_pixels_are_those_of_their_row(disk: Path, tmp_path: Path) -> None:
    store = import_records(folder(disk), tmp_path / "store", size=32).store
    for row, name in enumerate(store.table["image"]):
        expected = fit(normalise(decode((disk / name).read_bytes())), 32)
        np.testing.assert_array_equal(store.images[row], expected)


def test_parallel_and_serial_imports_are_the_same(disk: Path, tmp_path: Path) -> None:
    one = import_records(folder(disk), tmp_path / "one", size=32, workers=1)
    four = import_records(folder(disk), tmp_path / "four", size=32, workers=4)
    assert one.store.fingerprint == four.store.fingerprint
    assert one.quarantined == four.quarantined


def test_limit_takes_the_first_files_and_says_so(disk: Path, tmp_path: Path) -> None:
    good = (record for record in folder(disk) if "good" in record.image)
    report = import_records(good, tmp_path / "store", size=32, limit=7)
    assert report.imported == 7
    assert report.store.table["image"].tolist()[0] == "good00.bin"
    assert any("33 files beyond the limit of 7" in note for note in report.notes)


def test_nothing_to_import_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"None of 1 files.*a\.png: the file is empty"):
        import_records(folder(tmp_path / "disk"), tmp_path / "store")
    assert [file.name for file in tmp_path.iterdir()] == ["disk"]
    with pytest.raises(InputError, match="no image to import"):
        import_records([], tmp_path / "store")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "size is 4"),
        ({"aspect": "crop"}, "no aspect 'crop'.*squash, pad"),
        ({"workers": 0}, "workers is 0"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_senseless_options_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        import_records([], tmp_path / "store", **options)


def test_an_existing_store_is_refused_before_any_work(disk: Path, tmp_path: Path) -> None:
    first = import_from("folder", disk, tmp_path / "store", size=32)
    with pytest.raises(InputError, match="exists already"):
        import_from("folder", tmp_path / "no such folder", tmp_path / "store")
    again = import_from("folder", disk, tmp_path / "store", size=32, overwrite=True)
    assert again.store.fingerprint == first.store.fingerprint
    with pytest.raises(InputError, match="no source 'kaggle'"):
        import_from("kaggle", disk, tmp_path / "other")


def test_boxes_become_masks_at_the_stored_size(tmp_path: Path) -> None:
    Image.fromarray(grey(0, 64, 128)).save(tmp_path / "a.png")
    # In a frame twice as large as the file, as NIH boxes are for pictures that were scaled down.
    box = Box("Mass", 64, 32, 32, 16, frame_width=256, frame_height=128)
    record = Record("a", tmp_path / "a.png", patient="p", boxes=(box,))
    squash = import_records([record], tmp_path / "squash", size=32).store
    mask = squash.mask(0, "Mass")
    assert mask is not None
    expected = np.zeros((32, 32), bool)
    expected[8:12, 8:12] = True
    np.testing.assert_array_equal(mask, expected)
    assert squash.regions["kind"].tolist() == ["box"]
    padded = import_records([record], tmp_path / "pad", size=32, aspect="pad").store
    expected = np.zeros((32, 32), bool)
    expected[12:14, 8:12] = True
    np.testing.assert_array_equal(padded.mask(0, "Mass"), expected)


def test_equal_pictures_of_different_patients_are_reported(tmp_path: Path) -> None:
    records = []
    for name, patient in [("a", "1"), ("b", "2"), ("c", "1")]:
        (tmp_path / name).write_bytes(GOOD_PNG)
        records.append(Record(name, tmp_path / name, patient=patient))
    notes = import_records(records, tmp_path / "store", size=32).notes
    assert any(note.startswith("1 images that equal") and "another" in note for note in notes)
    assert any(note.startswith("1 images that equal") and "the same" in note for note in notes)


def test_archive_members_are_read_and_damage_is_told(tmp_path: Path) -> None:
    file = tmp_path / "0.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("good.png", GOOD_PNG)
        archive.writestr("bad.png", GOOD_PNG)
    data = bytearray(file.read_bytes())
    data[data.index(b"bad.png") + 60] ^= 0xFF
    file.write_bytes(data)
    records = [
        Record(name, file, patient="p", member=name) for name in ("good.png", "bad.png", "no.png")
    ]
    report = import_records(records, tmp_path / "store", size=32)
    assert report.store.table["image"].tolist() == ["good.png"]
    assert ["damaged in its archive" in entry["reason"] for entry in report.quarantined] == [
        True,
        True,
    ]


def test_files_that_vanish_or_grow_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(GOOD_PNG)
    (tmp_path / "b.png").write_bytes(GOOD_PNG + b"\0" * 5000)
    monkeypatch.setattr("scxr.data.sharding.MAX_BYTES", len(GOOD_PNG) + 10)
    names = ("a.png", "b.png", "c.png")
    records = [Record(name, tmp_path / name, patient="p") for name in names]
    report = import_records(records, tmp_path / "store", size=32)
    reasons = {entry["file"]: entry["reason"] for entry in report.quarantined}
    assert "larger than" in reasons["b.png"] and "cannot be read" in reasons["c.png"]
    assert report.imported == 1


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from scxr.data import sharding
    from scxr.data.importing import import_from

    calls = 0
    original = sharding.raw_pixels

    def until_killed(record):
        global calls
        calls += 1
        if calls > {limit}:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(record)

    sharding.raw_pixels = until_killed
    import_from("folder", {disk!r}, {out!r}, size=32, workers=1)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_import_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, out = tmp_path / "disk", tmp_path / "store"
    disk.mkdir()
    n = 3 * importing.SHARD + 5
    for number in range(n):
        (disk / f"{number:03d}.png").write_bytes(encode(Image.fromarray(grey(number))))
    limit = 2 * importing.SHARD + 3
    script = textwrap.dedent(KILLED.format(limit=limit, disk=str(disk), out=str(out)))
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not out.exists()

    read: list[str] = []
    from scxr.data import sharding

    original: Callable[[Record], np.ndarray] = sharding.raw_pixels

    def counted(record: Record) -> np.ndarray:
        read.append(record.image)
        return original(record)

    monkeypatch.setattr(sharding, "raw_pixels", counted)
    resumed = import_from("folder", disk, out, size=32)
    assert len(read) == n - 2 * importing.SHARD, "the two finished shards are not read again"
    whole = import_from("folder", disk, tmp_path / "whole", size=32)
    assert resumed.store.fingerprint == whole.store.fingerprint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk", "store", "whole"]


def test_shards_of_other_files_or_settings_are_not_reused(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(GOOD_PNG)
    record = Record("a", file, patient="p")
    out = tmp_path / "store"
    first = importing._shard_folder(out, [record], 32, "squash")
    (first / "000000.npz").write_bytes(b"finished")
    assert importing._shard_folder(out, [record], 32, "squash") == first
    assert (first / "000000.npz").exists()
    importing._shard_folder(out, [record], 64, "squash")
    assert not (first / "000000.npz").exists()
    (first / "000000.npz").write_bytes(b"finished")
    os.utime(file, ns=(time.time_ns(), time.time_ns() + 10**9))
    importing._shard_folder(out, [record], 64, "squash")
    assert not (first / "000000.npz").exists()


def test_no_source_may_run_code_from_a_file(tmp_path: Path) -> None:
    """A pickled array under an image's name is set aside, not unpickled."""
    np.save(tmp_path / "a.npy", np.array([{"evil": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not an image"):
        import_records(folder(tmp_path), tmp_path / "store")


# --- real radiographs -------------------------------------------------------------------------


def test_real_nih_pictures_with_their_table(real_cxr: Path, tmp_path: Path) -> None:
    labels = real_cxr / "labels.csv"
    report = import_from("folder", real_cxr / "nih64", tmp_path / "s", labels=labels, size=64)
    assert report.imported == 690 and report.quarantined == []
    assert any("176 rows of labels.csv without a file" in note for note in report.notes)
    table = report.store.table
    assert table["patient"].nunique() == 148
    assert table["view"].value_counts().to_dict() == {"PA": 403, "AP": 287}
    assert (table["findings"] == "No Finding").sum() == 327
    for row in (0, 100, 689):
        file = real_cxr / table["image"][row]
        expected = normalise(np.asarray(Image.open(file).convert("L")))
        np.testing.assert_array_equal(report.store.images[row], expected)


def test_real_files_of_every_kind_decode(real_cxr: Path, tmp_path: Path) -> None:
    report = import_from("folder", real_cxr / "fixtures", tmp_path / "s")
    assert report.imported == 9
    assert [entry["file"] for entry in report.quarantined] == ["fixtures.csv"]


def test_a_real_16_bit_file_equals_its_8_bit_original(real_cxr: Path) -> None:
    pictures = real_cxr / "fixtures"
    deep = decode((pictures / "derived_uint16_nih_00000001_000_1024.png").read_bytes())
    plain = decode((pictures / "nih_00000001_000_1024_L.png").read_bytes())
    assert deep.dtype == np.uint16 and deep.max() > 255
    np.testing.assert_array_equal(normalise(deep), normalise(plain))


def test_the_store_opens_without_the_importer(real_cxr: Path, tmp_path: Path) -> None:
    report = import_from("folder", real_cxr / "fixtures", tmp_path / "s", aspect="pad", size=128)
    store = RadiographStore.open(tmp_path / "s")
    assert store.fingerprint == report.store.fingerprint and store.aspect == "pad"
