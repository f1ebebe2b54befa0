"""Parts that several machines import join to the store that one import would have made."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scxr import cli
from scxr.data import RadiographStore, importing
from scxr.data.importing import ImportReport, import_from
from scxr.data.joining import join_parts
from scxr.data.planning import part_of
from scxr.errors import InputError

N = 11


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 32), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eleven pictures in shards of two: one broken, one repeated far away, boxes, stray rows."""
    monkeypatch.setattr(importing, "SHARD", 2)
    place = tmp_path / "disk"
    place.mkdir()
    rows, boxes = ["image,patient,findings,split"], ["image,finding,x,y,width,height"]
    for number in range(N):
        name = f"{number:02d}.png"
        (place / name).write_bytes(png(0 if number == 9 else number))
        rows.append(
            f"{name},{'' if number == 8 else number // 2},A|B,{['train', 'test'][number % 2]}"
        )
        if number % 3 == 0:
            boxes += [f"{name},{'ab'[number % 2]},4,{number},8,9", f"{name},late,0,0,3,3"]
    (place / "03.png").write_bytes(b"broken")
    rows.append("missing.png,1,A,train")
    boxes.append("nowhere.png,a,1,1,2,2")
    (place / "labels.csv").write_text("\n".join(rows))
    (place / "boxes.csv").write_text("\n".join(boxes))
    return place


def run(disk: Path, out: Path, part: str | None = None, **options: object) -> ImportReport:
    return import_from(
        "folder", disk, out, labels=disk / "labels.csv", boxes=disk / "boxes.csv",
        size=16, part=part, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def content(store: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(store.iterdir())}


@pytest.mark.parametrize("parts", [1, 3, 6])
def test_joined_parts_equal_one_import_in_every_byte(
    parts: int, disk: Path, tmp_path: Path
) -> None:
    whole = run(disk, tmp_path / "whole")
    made = [run(disk, tmp_path / "s", f"{k}/{parts}") for k in range(1, parts + 1)]
    folders = [report.store.path for report in made]
    assert folders[0].name == f"s.part-01-of-{parts:02d}"
    assert sum(report.imported for report in made) == whole.imported == N - 1
    joined = join_parts(tmp_path / "joined", folders[::-1])
    assert content(tmp_path / "joined") == content(tmp_path / "whole")
    assert joined.store.fingerprint == whole.store.fingerprint
    assert (joined.notes, joined.quarantined) == (whole.notes, whole.quarantined)
    assert joined.repeats == whole.repeats
    assert set(whole.store.structures) == {"a", "b", "late"}
    joined.store.verify()
    leftovers = {path.name for path in tmp_path.iterdir()}
    assert leftovers == {"disk", "whole", "joined", *(folder.name for folder in folders)}


def test_what_repeats_across_parts_is_found_when_they_join(disk: Path, tmp_path: Path) -> None:
    made = [run(disk, tmp_path / "s", f"{k}/2") for k in (1, 2)]
    assert all(report.repeats["equal"]["other_patient"] == 0 for report in made)
    joined = join_parts(tmp_path / "s", [report.store.path for report in made])
    assert joined.repeats["equal"]["other_patient"] == 1
    assert joined.repeats["equal"]["named"]["other_patient"] == [["00.png", "09.png"]]


def test_machines_may_keep_their_files_elsewhere(disk: Path, tmp_path: Path) -> None:
    first = run(disk, tmp_path / "s", "1/2").store.path
    elsewhere = tmp_path / "mount" / "data"
    shutil.copytree(disk, elsewhere)  # other path, other times
    second = run(elsewhere, tmp_path / "s", "2/2").store.path
    joined = join_parts(tmp_path / "joined", [first, second])
    assert joined.store.fingerprint == run(disk, tmp_path / "whole").store.fingerprint


def test_parts_of_archives(disk: Path, tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "pictures.tar.gz", "w:gz") as archive:
        for file in sorted(disk.glob("*.png"), reverse=True):
            archive.add(file, file.name)
    source = tmp_path / "pictures.tar.gz"
    whole = import_from("folder", source, tmp_path / "whole", size=16)
    made = [
        import_from("folder", source, tmp_path / "s", size=16, part=f"{k}/4").store.path
        for k in (1, 2, 3, 4)
    ]
    assert join_parts(tmp_path / "s", made).store.fingerprint == whole.store.fingerprint


Spoil = Callable[[Path, list[Path]], list[Path]]


def another_size(disk: Path, parts: list[Path]) -> list[Path]:
    shutil.rmtree(parts[1])
    import_from("folder", disk, disk.parent / "s", labels=disk / "labels.csv",
                boxes=disk / "boxes.csv", size=32, part="2/3")  # fmt: skip
    return parts


def another_label(disk: Path, parts: list[Path]) -> list[Path]:
    text = (disk / "labels.csv").read_text().replace("10.png,5,A|B", "10.png,5,A|C")
    (disk / "labels.csv").write_text(text)
    shutil.rmtree(parts[1])
    run(disk, disk.parent / "s", "2/3")
    return parts


def another_number(disk: Path, parts: list[Path]) -> list[Path]:
    return [parts[0], run(disk, disk.parent / "s", "2/4").store.path]


def flipped(disk: Path, parts: list[Path]) -> list[Path]:
    data = bytearray((parts[1] / "images.npy").read_bytes())
    data[-1] ^= 1
    (parts[1] / "images.npy").write_bytes(data)
    return parts


SPOILT: dict[str, tuple[Spoil, str]] = {
    "missing": (lambda disk, parts: parts[:1], r"Of 3 parts these are missing: 2, 3; .*--part 2/3"),
    "twice": (
        lambda disk, parts: [*parts, Path(shutil.copytree(parts[0], disk.parent / "copy"))],
        "are both part 1",
    ),
    "no part": (
        lambda disk, parts: [*parts, run(disk, disk.parent / "whole").store.path],
        "is no part of an import",
    ),
    "none": (lambda disk, parts: [], "no part to join"),
    "no store": (lambda disk, parts: [*parts, disk], "is not a store"),
    "other size": (another_size, "were not cut from the same images"),
    "other labels": (another_label, "were not cut from the same images"),
    "other number": (another_number, "is one of 4 parts, .* one of 3"),
    "damaged": (flipped, r"checksum of images\.npy differs"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_parts_that_do_not_fit_are_refused_in_one_sentence(
    name: str, disk: Path, tmp_path: Path
) -> None:
    parts = [run(disk, tmp_path / "s", f"{k}/3").store.path for k in (1, 2, 3)]
    spoil, words = SPOILT[name]
    given = spoil(disk, parts)
    with pytest.raises(InputError, match=words):
        join_parts(tmp_path / "joined", given)
    assert not (tmp_path / "joined").exists()


def test_an_existing_store_is_not_joined_over(disk: Path, tmp_path: Path) -> None:
    parts = [run(disk, tmp_path / "s", f"{k}/2").store.path for k in (1, 2)]
    run(disk, tmp_path / "s")
    with pytest.raises(InputError, match="exists already"):
        join_parts(tmp_path / "s", parts)
    assert join_parts(tmp_path / "s", parts, overwrite=True).imported == N - 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "1/0", "-1/4", "a/b", "1/2/3", ""])
def test_parts_that_do_not_exist(text: str, disk: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="write 3/16"):
        run(disk, tmp_path / "s", text)


def test_more_parts_than_shards(disk: Path, tmp_path: Path) -> None:
    assert part_of(" 3 / 16 ") == (3, 16)
    with pytest.raises(InputError, match="11 images are too few for 7 parts; take at most 6"):
        run(disk, tmp_path / "s", "1/7")


def test_the_shell_imports_parts_joins_them_and_tells_what_was_noted(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: object) -> dict:  # type: ignore[type-arg]
        cli.main([str(argument) for argument in (*arguments, "--json")])
        return dict(json.loads(capsys.readouterr().out))

    options = ("--labels", disk / "labels.csv", "--boxes", disk / "boxes.csv", "--size", 16)
    given = ("data", "import", "folder", disk, "--out", tmp_path / "s", *options)
    parts = [call(*given, "--part", f"{k}/2")["store"] for k in (1, 2)]
    joined = call("data", "join", tmp_path / "s", *parts)
    assert joined["imported"] == N - 1 and len(joined["quarantined"]) == 1
    told = call("data", "info", tmp_path / "s")
    assert told["notes"] == joined["notes"] and told["repeats"] == joined["repeats"]
    assert any("without a file (for example missing.png)" in note for note in told["notes"])
    assert any("boxes of boxes.csv without a file" in note for note in told["notes"])
    assert call("data", "verify", tmp_path / "s")["intact"] is True
    assert len(RadiographStore.open(tmp_path / "s")) == N - 1
    with pytest.raises(SystemExit) as left:
        call("data", "join", tmp_path / "t", parts[0])
    assert left.value.code == 2 and "missing: 2" in capsys.readouterr().err
