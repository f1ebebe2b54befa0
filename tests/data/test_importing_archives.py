"""Archives: read as they are, whatever they claim; what is damaged is named, the rest imports."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scxr.data import importing, sharding
from scxr.data.decoding import Unusable
from scxr.data.importing import import_from, import_records
from scxr.data.planning import in_reading_order
from scxr.data.sources import Record, archives
from scxr.data.sources.archives import list_archive, read_members
from scxr.errors import InputError


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, files: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


PICTURES = {f"images/{number:03d}.png": png(number) for number in range(9)}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    place = tmp_path / "disk"
    place.mkdir()
    return place


def plain_store(tmp_path: Path, pictures: dict[str, bytes]) -> str:
    """The fingerprint of an import of the unpacked files, with the archive's names."""
    place = tmp_path / "unpacked"
    for name, content in pictures.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return import_from("folder", place, tmp_path / "plain", size=16).store.fingerprint


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar", ".zip"])
@pytest.mark.parametrize("workers", [1, 3])
def test_an_archive_imports_like_its_files(
    suffix: str, workers: int, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "SHARD", 2)
    if suffix == ".zip":
        with zipfile.ZipFile(disk / "a.zip", "w") as archive:
            for name, content in PICTURES.items():
                archive.writestr(name, content)
    else:
        tar(disk / f"a{suffix}", dict(PICTURES), "w" if suffix == ".tar" else "w:gz")
    report = import_from("folder", disk, tmp_path / "store", size=16, workers=workers)
    assert report.quarantined == []
    table = report.store.table
    assert table["image"].tolist() == [f"a/{name}" for name in PICTURES]
    unpacked = {f"a/{name}": content for name, content in PICTURES.items()}
    assert report.store.fingerprint == plain_store(tmp_path, unpacked)
    assert [path.name for path in disk.iterdir()] == [f"a{suffix}"], "nothing is unpacked"


def test_a_table_may_name_the_members_in_any_order(disk: Path, tmp_path: Path) -> None:
    """A tar is read in its own order, and each row keeps its own picture."""
    tar(disk / "b.tar.gz", dict(PICTURES))
    names = [f"{number:03d}.png" for number in (7, 2, 5, 0)]
    rows = "image,patient\n" + "".join(f"{name},p{name[:3]}\n" for name in names)
    (disk / "labels.csv").write_text(rows)
    report = import_from(
        "folder", disk, tmp_path / "store", labels=disk / "labels.csv", size=16, aspect="pad"
    )
    table = report.store.table
    assert table["image"].tolist() == sorted(names)
    assert table["patient"].tolist() == ["p000", "p002", "p005", "p007"]
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    for name in names:
        (unpacked / name).write_bytes(PICTURES[f"images/{name}"])
    plain = import_from("folder", unpacked, tmp_path / "plain", size=16, aspect="pad").store
    np.testing.assert_array_equal(report.store.images, plain.images)


def test_reading_order_moves_only_what_has_to_move(disk: Path) -> None:
    a, b = tar(disk / "a.tar", dict(PICTURES), "w"), tar(disk / "b.tar", dict(PICTURES), "w")
    members = list(PICTURES)
    order = [
        Record("1", disk / "x.png"),
        Record("2", a, member=members[5]),
        Record("3", disk / "y.png"),
        Record("4", b, member=members[1]),
        Record("5", a, member=members[2]),
    ]
    assert "".join(record.image for record in in_reading_order(order)) == "15234"


def test_a_tar_is_passed_through_once_however_many_shards(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "SHARD", 2)
    tar(disk / "a.tar.gz", dict(PICTURES))
    passes: list[int] = []

    def counted(path: Path, wanted: list[str]):  # type: ignore[no-untyped-def]
        passes.append(len(wanted))
        return read_members(path, wanted)

    monkeypatch.setattr(sharding, "read_members", counted)
    import_from("folder", disk, tmp_path / "store", size=16, workers=2)
    assert passes == [len(PICTURES)]


def test_nih_as_distributed(disk: Path, tmp_path: Path) -> None:
    """Twelve .tar.gz files beside the table, one of them cut short by a broken download."""
    rows = ["Image Index,Finding Labels,Patient ID,View Position"]
    for number in range(1, 13):
        names = [f"{number:08d}_{follow:03d}.png" for follow in range(3)]
        files = {f"images/{name}": png(number * 10 + i) for i, name in enumerate(names)}
        archive = tar(disk / f"images_{number:03d}.tar.gz", dict(files))
        if number == 4:
            with gzip.open(archive) as file:
                inside = file.read()
            # Cut in the middle of the third file: the first two are whole.
            cut = inside.index(names[2].encode()) + 700
            archive.write_bytes(gzip.compress(inside[:cut])[:-8])
        rows += [f"{name},No Finding,{number},PA" for name in names]
    (disk / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows))
    report = import_from("nih", disk, tmp_path / "store", size=16)
    assert report.imported == 35
    assert [entry["file"] for entry in report.quarantined] == ["images_004.tar.gz"]
    assert "cut short after 2 files" in report.quarantined[0]["reason"]
    assert any("without a file (for example 00000004_002.png)" in note for note in report.notes)
    assert report.store.table["patient"].tolist() == [
        str(number) for number in range(1, 13) for _ in range(2 if number == 4 else 3)
    ]


BAD_MEMBERS = {
    "../escape.png": "leads out",
    "/etc/passwd.png": "leads out",
    "a/../../b.png": "leads out",
    "C:\\windows.png": "leads out",
    "..\\up.png": "leads out",
    "inner.zip": "within an archive",
    "inner.tar.gz": "within an archive",
}


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
def test_unsafe_members_are_set_aside_and_nothing_is_written(
    kind: str, disk: Path, tmp_path: Path
) -> None:
    files = {**dict.fromkeys(BAD_MEMBERS, png(1)), "good.png": png(0)}
    path = disk / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            link = zipfile.ZipInfo("link.png")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
    else:
        extra = {
            "link.png": special("link.png", tarfile.SYMTYPE, "/etc/passwd"),
            "hard.png": special("hard.png", tarfile.LNKTYPE, "good.png"),
            "device.png": special("device.png", tarfile.CHRTYPE),
            "pipe.png": special("pipe.png", tarfile.FIFOTYPE),
        }
        tar(path, {**files, **extra}, "w" if kind == "tar" else "w:gz")
    before = sorted(tmp_path.rglob("*"))
    report = import_from("folder", disk, tmp_path / "store", size=16)
    assert report.store.table["image"].tolist() == ["a/good.png"]
    reasons = {entry["file"].removeprefix(f"a.{kind}/"): entry for entry in report.quarantined}
    for name, reason in BAD_MEMBERS.items():
        assert reason in reasons[name]["reason"], name
    links = [name for name in reasons if name not in BAD_MEMBERS]
    assert all("not followed" in reasons[name]["reason"] for name in links)
    assert len(links) == (1 if kind == "zip" else 4)
    after = [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "store" not in path.parents]
    assert after == sorted([*before, tmp_path / "store"])


def test_a_name_that_comes_twice_counts_once(disk: Path, tmp_path: Path) -> None:
    with tarfile.open(disk / "a.tar", "w") as archive:
        for seed in (1, 2):
            info = tarfile.TarInfo("same.png")
            info.size = len(png(seed))
            archive.addfile(info, io.BytesIO(png(seed)))
    report = import_from("folder", disk, tmp_path / "store", size=16)
    (disk / "only.png").write_bytes(png(1))
    (disk / "a.tar").unlink()
    first = import_from("folder", disk, tmp_path / "first", size=16).store
    np.testing.assert_array_equal(report.store.images, first.images)
    assert "several files of this name" in report.quarantined[0]["reason"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_bombs_are_refused_before_they_unpack(
    kind: str, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SLACK", 100_000)
    (disk / "good.png").write_bytes(png(0))
    zeros = bytes(20_000_000)
    if kind == "zip":
        with zipfile.ZipFile(disk / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb.png", zeros)
    else:
        tar(disk / "bomb.tar.gz", {"bomb.png": zeros})
    report = import_from("folder", disk, tmp_path / "store", size=16)
    assert report.imported == 1
    assert report.quarantined[0]["file"] == f"bomb.{kind}"
    assert "unpacks to more than 100 times" in report.quarantined[0]["reason"]


def test_a_member_that_claims_too_much_is_refused(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 5000)
    tar(disk / "a.tar.gz", {"big.png": png(1) + b"\0" * 6000, "good.png": png(0)})
    report = import_from("folder", disk, tmp_path / "store", size=16)
    assert report.imported == 1 and "larger than" in report.quarantined[0]["reason"]


def test_a_huge_header_is_not_read_into_memory(disk: Path) -> None:
    """An extended header may claim any size; memory for it is not given."""
    info = special("x", tarfile.XHDTYPE)
    info.size = (8 << 30) - 1
    (disk / "a.tar").write_bytes(tarfile.TarInfo("first.png").tobuf() + info.tobuf() + bytes(2048))
    listing = list_archive(disk / "a.tar")
    assert "damaged" in listing.problem and "8589934592 bytes" in listing.problem


def test_encrypted_zips_are_told(disk: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(disk / "a.zip", "w") as archive:
        archive.writestr("secret.png", png(1))
        archive.writestr("open.png", png(0))
    data = bytearray((disk / "a.zip").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1  # the flag of encryption, in both headers
    (disk / "a.zip").write_bytes(data)
    report = import_from("folder", disk, tmp_path / "store", size=16)
    assert report.store.table["image"].tolist() == ["a/open.png"]
    assert "encrypted" in report.quarantined[0]["reason"]


def damaged_archives() -> dict[str, tuple[str, bytes]]:
    """name -> (file name, bytes); each has at least one whole picture first, or none at all."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in PICTURES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    plain = buffer.getvalue()
    packed = gzip.compress(plain)
    second = plain.index(b"images/003.png")
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0x40
    return {
        "cut tar": ("a.tar", plain[: second + 600]),
        "cut in a header": ("a.tar", plain[: second + 100]),
        "damaged header": ("a.tar", plain[: second + 3] + b"\xff\xff\xff" + plain[second + 6 :]),
        "cut gzip": ("a.tar.gz", packed[: len(packed) * 2 // 3]),
        "without checksum": ("a.tar.gz", packed[:-4]),
        "wrong checksum": ("a.tar.gz", packed[:-8] + b"\0" * 8),
        "flipped bit": ("a.tar.gz", bytes(flipped)),
        "no gzip": ("a.tar.gz", b"this is a page that says: log in to download"),
        "empty": ("a.tar.gz", b""),
        "empty zip": ("a.zip", b""),
        "cut zip": ("a.zip", b"PK\x03\x04" + b"\0" * 50),
    }


@pytest.mark.parametrize("name", damaged_archives())
def test_damaged_archives_are_named_and_the_rest_imports(
    name: str, disk: Path, tmp_path: Path
) -> None:
    file, data = damaged_archives()[name]
    (disk / file).write_bytes(data)
    (disk / "z.png").write_bytes(png(99))
    report = import_from("folder", disk, tmp_path / "store", size=16)
    assert report.quarantined[-1]["file"] == file or report.quarantined[0]["file"] == file
    reasons = [entry["reason"] for entry in report.quarantined if entry["file"] == file]
    assert len(reasons) == 1 and ("damaged" in reasons[0] or "cannot be read" in reasons[0])
    images = report.store.table["image"].tolist()
    assert images[-1] == "z.png"
    whole = [f"a/{member}" for member in PICTURES]
    assert images[:-1] == whole[: len(images) - 1], "what comes before the damage is imported"
    if name in ("cut tar", "damaged header", "cut in a header"):
        assert len(images) - 1 in (2, 3)
    if name == "without checksum":
        assert len(images) - 1 >= len(whole) - 1


def test_gzip_in_several_pieces_and_with_padding(disk: Path, tmp_path: Path) -> None:
    tar(disk / "a.tar", dict(PICTURES), "w")
    inside = (disk / "a.tar").read_bytes()
    (disk / "a.tar").unlink()
    pieces = gzip.compress(inside[:3333]) + gzip.compress(inside[3333:]) + b"\0" * 512
    (disk / "a.tar.gz").write_bytes(pieces)
    report = import_from("folder", disk, tmp_path / "store", size=16)
    assert report.imported == len(PICTURES) and report.quarantined == []


def test_an_archive_that_changes_between_listing_and_reading(disk: Path, tmp_path: Path) -> None:
    """Listed, then replaced by a broken one: every picture in it gets a reason."""
    path = tar(disk / "a.tar.gz", dict(PICTURES))
    records = [Record(name, path, patient="p", member=name) for name in PICTURES]
    (disk / "z.png").write_bytes(png(5))
    records.append(Record("z.png", disk / "z.png", patient="z"))
    list_archive(path)
    path.write_bytes(path.read_bytes()[:200])
    report = import_records(records, tmp_path / "store", size=16)
    assert report.store.table["image"].tolist() == ["z.png"]
    assert len(report.quarantined) == len(PICTURES)
    assert all("damaged in its archive" in entry["reason"] for entry in report.quarantined)
    with pytest.raises(Unusable, match="damaged in its archive"):
        list(read_members(path, list(PICTURES)))


def test_readers_wait_for_decoders(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds a few shards of files: reading stops while nothing is decoded."""
    monkeypatch.setattr(importing, "SHARD", 1)
    pictures = {f"{number:03d}.png": png(number) for number in range(40)}
    tar(disk / "a.tar", dict(pictures), "w")
    gate, most, read = threading.Event(), 0, 0
    decode = sharding.decode

    def slow(data: bytes) -> np.ndarray:
        nonlocal most
        if not gate.wait(0.3):  # the first picture holds the line up: the reader could run ahead
            most = read
            gate.set()
        return decode(data)

    def counted(path: Path, wanted: list[str]):  # type: ignore[no-untyped-def]
        nonlocal read
        for item in read_members(path, wanted):
            read += 1
            yield item

    monkeypatch.setattr(sharding, "decode", slow)
    monkeypatch.setattr(sharding, "read_members", counted)
    report = import_from("folder", disk, tmp_path / "store", size=16, workers=1)
    assert report.imported == 40
    assert most <= 5, f"{most} of 40 files were read while the first was decoded"


def test_names_that_are_no_text_are_set_aside(disk: Path, tmp_path: Path) -> None:
    tar(disk / "a.tar", {"bad\udcff.png": png(1), "good.png": png(0)}, "w")
    report = import_from("folder", disk, tmp_path / "store", size=16)
    assert report.store.table["image"].tolist() == ["a/good.png"]
    assert "not text" in report.quarantined[0]["reason"]
    assert (tmp_path / "store" / "quarantine.csv").read_text().count("not text") == 1


def test_an_archive_may_be_the_path_itself(disk: Path, tmp_path: Path) -> None:
    path = tar(disk / "a.tar.gz", dict(PICTURES))
    assert import_from("folder", path, tmp_path / "store", size=16).imported == len(PICTURES)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"no image file .* a\.tar\.gz: the archive is damaged"):
        import_from("folder", path, tmp_path / "other", size=16)
