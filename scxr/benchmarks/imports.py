"""What importing costs, and what opening a store costs.

Import: files that this module makes (phantoms scaled up, with the noise of a detector, so that PNG
decoding costs what it costs) go through `scxr.data.importing` and, in turn, through the loop that
one would write with Pillow: open, normalise the raw values, resize with Lanczos, save the array.
One process each; the loop uses one core, the import as many threads as it is given.

Opening: a store of 1,000 to 112,120 images (sparse files, so no disk is needed) is opened by a
fresh process, which says how long it took and by how much its resident memory grew.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from scxr.data.importing import import_from
from scxr.data.phantom import generate
from scxr.data.store import StoreWriter
from scxr.seeds import seed_for

KINDS = {  # side in pixels, bits, noise as a share of the range, how many times `images`
    "1024 px, 8-bit PNG": (1024, 8, 0.01, 8),
    "3000 px, 16-bit PNG": (3000, 16, 0.004, 1),
}
COUNTS = (1_000, 10_000, 112_120)
SIZE = 256

OPENING = """
import json, sys, time
from scxr.data.store import RadiographStore

def resident():
    pages = open("/proc/self/statm").read().split()[1]
    return int(pages) * __import__("resource").getpagesize()

before, start = resident(), time.perf_counter()
store = RadiographStore.open(sys.argv[1])
opened = time.perf_counter() - start
grown = resident() - before
store.batch([0, len(store) // 2, len(store) - 1])
print(json.dumps({"ms": 1e3 * opened, "bytes": grown, "with_a_batch": resident() - before}))
"""


def run(
    images: int = 12,
    repeats: int = 3,
    workers: int | None = 2,
    counts: Sequence[int] = COUNTS,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Rows of the benchmark.

    Args:
        images: 16-bit files; there are eight times as many of the small 8-bit ones.
        repeats: interleaved repeats; speeds are medians over them.
        workers: threads of the import; None takes all cores.
        counts: sizes of the stores that are opened.
        folder: where the files go for the while; a temporary one without it.

    Returns:
        Rows with `kind`, `ours` and `pillow` (images/s), `ratio` (median of the ratios within a
        repeat), `ours_cpu_ms` and `pillow_cpu_ms` (processor time an image, which other work on
        the machine does not change); and rows with `kind`, `open_ms`, `rss_mb` (opening alone) and
        `rss_batch_mb` (with three images gathered). Memory is None where there is no /proc.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        rows = [
            _compare(kind, Path(place), images, repeats, workers, number)
            for number, kind in enumerate(KINDS)
        ]
        return rows + [_opening(Path(place), n) for n in counts]


def radiograph(number: int, side: int, bits: int, noise: float) -> np.ndarray:
    """(side, side) uint8 or uint16: a phantom scaled up, with detector noise.

    16-bit pictures use 12 of the bits, as most detectors do.
    """
    phantom = generate([number], size=256, masks=False).images[0]
    scaled = Image.fromarray(phantom).resize((side, side), Image.Resampling.BICUBIC)
    random = np.random.default_rng(seed_for(0, "benchmark", "radiograph", number))
    signal = np.asarray(scaled, dtype=np.float32) / 255
    signal += random.normal(0, noise, signal.shape).astype(np.float32)
    top, dtype = (255, np.uint8) if bits == 8 else (4095, np.uint16)
    return np.clip(0.04 * top + signal * 0.9 * top, 0, top).astype(dtype)


def plain_loop(files: Sequence[Path], out: Path, size: int = SIZE) -> None:
    """Open, normalise, resize, save: the import that one writes first."""
    out.mkdir()
    for file in files:
        raw = np.asarray(Image.open(file), dtype=np.float32)
        grey = (raw - raw.min()) / (raw.max() - raw.min()) * 255
        picture = Image.fromarray(grey.astype(np.uint8))
        small = picture.resize((size, size), Image.Resampling.LANCZOS)
        np.save(out / f"{file.stem}.npy", np.asarray(small))


def _compare(
    kind: str, place: Path, images: int, repeats: int, workers: int | None, number: int
) -> dict[str, Any]:
    side, bits, noise, times = KINDS[kind]
    images *= times
    folder = place / f"files-{number}"
    folder.mkdir()
    files = [folder / f"{index:04d}.png" for index in range(images)]
    for index, file in enumerate(files):
        Image.fromarray(radiograph(index, side, bits, noise)).save(file)
    ours, plain = [], []
    for repeat in range(repeats):
        store, loop = place / f"store-{number}-{repeat}", place / f"plain-{number}-{repeat}"
        ours.append(_clocked(import_from, "folder", folder, store, workers=workers))
        plain.append(_clocked(plain_loop, files, loop))
    return {
        "kind": kind,
        "ours": images / statistics.median(wall for wall, _ in ours),
        "pillow": images / statistics.median(wall for wall, _ in plain),
        "ratio": statistics.median(b / a for (a, _), (b, _) in zip(ours, plain, strict=True)),
        "ours_cpu_ms": 1e3 * statistics.median(cpu for _, cpu in ours) / images,
        "pillow_cpu_ms": 1e3 * statistics.median(cpu for _, cpu in plain) / images,
    }


def _clocked(work: Callable[..., object], *arguments: Any, **options: Any) -> tuple[float, float]:
    """Seconds on the wall and of processor time (all threads)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(*arguments, **options)
    return time.perf_counter() - wall, time.process_time() - cpu


def _opening(place: Path, n: int) -> dict[str, Any]:
    path = sparse_store(place / f"sparse-{n}", n)
    done = subprocess.run(
        [sys.executable, "-c", OPENING, str(path)], capture_output=True, text=True, check=False
    )
    said = json.loads(done.stdout) if done.returncode == 0 else {}
    return {
        "kind": f"open {n:,} images of {SIZE} px",
        "open_ms": said.get("ms"),
        "rss_mb": said["bytes"] / 1e6 if said else None,
        "rss_batch_mb": said["with_a_batch"] / 1e6 if said else None,
    }


def sparse_store(path: Path, n: int, size: int = SIZE) -> Path:
    """A store of `n` black images of which one is on the disk: the rest is a hole in the file."""
    row = {"image": "0", "patient": "0"}
    with StoreWriter(path, size, size, {"kind": "sparse"}) as writer:
        writer.add(np.zeros((1, size, size), np.uint8), [row])
    table = pd.read_parquet(path / "table.parquet")
    table.iloc[np.zeros(n, dtype=int)].to_parquet(path / "table.parquet", index=False)
    with (path / "images.npy").open("r+b") as file:
        shape = {"descr": "|u1", "fortran_order": False, "shape": (n, size, size)}
        np.lib.format.write_array_header_1_0(file, shape)
        file.truncate(file.tell() + n * size * size)
    header = json.loads((path / "store.json").read_text(encoding="utf-8"))
    (path / "store.json").write_text(json.dumps(header | {"n": n}), encoding="utf-8")
    return path
