"""120 odd files in one folder: each is imported or set aside with its reason, in silence."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import malformed
import numpy as np
import pytest
from malformed import cases, dicom, encode, grey

from scxr.data.decoding import Unusable, decode, fit, normalise
from scxr.data.importing import ImportReport, import_from

CASES = cases()
SIZE = 16
# What only a file system can do; made in `odd_places`.
PLACES: dict[str, str | None] = {
    "dangling.png": "No such file",
    "loop.png": "cannot be read|pipe, socket",
    "outside.png": None,
    "pipe.png": "a pipe, socket or device",
    "pipe": "a pipe, socket or device",
    "memory.png": "cannot be read|empty",
    "forbidden.png": "Permission denied",
    "folder.png/inside.png": None,
    "not\\udcff text.png": "not text in UTF-8",
    "notes.txt": "a table, not an image",
}


def odd_places(root: Path, outside: Path) -> None:
    """Links, pipes, folders with a picture's name, names that are no text."""
    outside.write_bytes(encode(grey(200)))
    (root / "dangling.png").symlink_to(root / "nowhere.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "outside.png").symlink_to(outside)
    os.mkfifo(root / "pipe.png")
    os.mkfifo(root / "pipe")
    # Opens, but every read fails: what a broken disk does, for any user.
    (root / "memory.png").symlink_to("/proc/self/mem")
    (root / "forbidden.png").write_bytes(encode(grey(201)))
    (root / "forbidden.png").chmod(0)
    (root / "folder.png").mkdir()
    (root / "folder.png" / "inside.png").write_bytes(encode(grey(202)))
    (root / "away").mkdir()
    (root / "away.png").symlink_to(root / "away", target_is_directory=True)
    Path(os.fsdecode(os.fsencode(root) + b"/not\xff text.png")).write_bytes(encode(grey(203)))
    (root / "notes.txt").write_text("Mass in the left lung?")


@dataclass(frozen=True)
class Imported:
    """The folder, what the import said, and what else was said meanwhile."""

    root: Path
    report: ImportReport
    warned: list[str]
    logged: list[logging.LogRecord]

    @property
    def reasons(self) -> dict[str, str]:
        return {entry["file"]: entry["reason"] for entry in self.report.quarantined}


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    if not hasattr(os, "mkfifo") or not Path("/proc/self/mem").exists():
        pytest.fail("these files are made for Linux, where the tests run")
    base = tmp_path_factory.mktemp("malformed")
    root = base / "disk"
    root.mkdir()
    for name, (data, _) in CASES.items():
        (root / name).write_bytes(data)
    odd_places(root, base / "elsewhere.png")
    listener = _Listener()
    logging.getLogger().addHandler(listener)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            report = import_from("folder", root, base / "store", size=SIZE, workers=4)
    finally:
        logging.getLogger().removeHandler(listener)
    return Imported(root, report, [str(w.message) for w in warned], listener.records)


def test_there_are_many() -> None:
    bad = [name for name, (_, reason) in CASES.items() if reason]
    assert len(CASES) > 115 and len(bad) > 70


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_imported_or_set_aside_with_its_reason(name: str, imported: Imported) -> None:
    _, expected = CASES[name]
    check(name, expected, imported)


@pytest.mark.parametrize("name", PLACES)
def test_a_place_is_read_or_set_aside_with_its_reason(name: str, imported: Imported) -> None:
    expected = PLACES[name]
    if name == "forbidden.png" and os.access(imported.root / name, os.R_OK):
        expected = None  # nothing is forbidden to root
    check(name, expected, imported)


def check(name: str, expected: str | None, imported: Imported) -> None:
    stored = name in set(imported.report.store.table["image"])
    reason = imported.reasons.get(name, "")
    assert stored == (expected is None), reason
    if expected is not None:
        assert re.search(expected, reason)
        assert len(reason) < 200 and "\n" not in reason and "Traceback" not in reason


def test_nothing_else_is_imported_or_set_aside(imported: Imported) -> None:
    stored = imported.report.store.table["image"].tolist()
    assert set(stored) | set(imported.reasons) == set(CASES) | set(PLACES)
    assert len(stored) == imported.report.imported == len(set(stored))
    imported.report.store.verify()


def test_good_files_beside_bad_ones_keep_their_pixels(imported: Imported) -> None:
    store = imported.report.store
    for row, name in enumerate(store.table["image"]):
        alone = fit(normalise(decode((imported.root / name).read_bytes())), SIZE)
        np.testing.assert_array_equal(store.images[row], alone)


def test_an_import_is_silent_but_for_its_summary(imported: Imported) -> None:
    assert imported.warned == []
    assert {record.name.split(".")[0] for record in imported.logged} <= {"scxr"}
    assert len(imported.logged) < 6
    assert not any(record.exc_info for record in imported.logged)


def test_the_command_line_says_it_in_a_few_lines(imported: Imported, tmp_path: Path) -> None:
    command = ["data", "import", "folder", str(imported.root), "--out", str(tmp_path / "store")]
    script = f"from scxr.cli import main; main({[*command, '--size', str(SIZE)]!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    lines = [line for line in re.split(r"[\r\n]", done.stderr) if line and "image/s" not in line]
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    assert any(f"{len(imported.reasons)} files were set aside" in line for line in lines)
    assert len(lines) < 10


# --- values -----------------------------------------------------------------------------------

TWELVE = (grey(60).astype(np.uint16) * 16) & 0xFFF
RGB = np.stack([grey(63), grey(64), grey(65)], axis=-1)
LUMINANCE = np.array([0.299, 0.587, 0.114])
VALUES: dict[str, np.ndarray] = {
    "jpeg 2000 inside.dcm": grey(83),
    "run lengths.dcm": grey(82),
    "deflated.dcm": grey(81),
    "implicit.dcm": TWELVE + 5,
    "big end first.dcm": TWELVE + 6,
    "no preamble.dcm": grey(69),
    "more pixels than rows.dcm": grey(76)[:-2],
    "12 bits in 16.dcm": TWELVE,
    "10 bits, garbage above.dcm": TWELVE >> 2,
    "signed.dcm": grey(61).astype(np.int16) - 1000,
    "float pixels.dcm": malformed.floats(80),
    "monochrome 1.dcm": grey(79).max() - grey(79),
    "colour.dcm": np.rint(RGB @ LUMINANCE),
    "window width 0.dcm": TWELVE + 1,
    "window that is no number.dcm": TWELVE + 1,
    "window without a width.dcm": TWELVE + 3,
    "window beside the values.dcm": TWELVE + 4,
    "16 bits.png": grey(6).astype(np.uint16) * 200,
    "32-bit integers.tif": grey(35).astype(np.int32) - 1000,
    "floats.tif": malformed.floats(36),
    "last byte missing.png": grey(0),
    "too many lines.png": grey(8),
    "rgba in 16 bits.png": grey(9).astype(np.float64) * 200,
}


@pytest.mark.parametrize("name", VALUES)
def test_an_odd_file_that_is_imported_has_the_right_values(name: str) -> None:
    np.testing.assert_allclose(decode(CASES[name][0]), VALUES[name], atol=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_flipped_bytes_decodes_or_is_unusable(seed: int) -> None:
    """Whatever the damage: a picture or `Unusable`, never another error."""
    stream = np.random.default_rng(seed)
    sources = [encode(grey(1)), encode(grey(1), "JPEG"), encode(grey(1), "TIFF"), dicom(grey(1))]
    for source in sources:
        for _ in range(5):
            data = bytearray(source)
            for position in stream.integers(0, len(data), stream.integers(1, 9)):
                data[position] = stream.integers(0, 256)
            try:
                picture = normalise(decode(bytes(data[: stream.integers(1, len(data) + 1)])))
            except Unusable:
                continue
            assert picture.dtype == np.uint8 and picture.ndim == 2


def test_silence_ends_with_the_last_of_many_readers() -> None:
    """Filters belong to the process: readers that overlap must leave them as they were."""
    data = CASES["character set unknown.dcm"][0]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(decode, [data] * 200))
        assert warnings.filters == before and warned == []
        warnings.warn("heard", UserWarning, stacklevel=1)
    assert [str(w.message) for w in warned] == ["heard"]
