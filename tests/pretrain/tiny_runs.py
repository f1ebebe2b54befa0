"""What the tests of the loop share: tiny settings, a store that fails, runs compared to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scxr.data import RadiographStore, StoreWriter
from scxr.pretrain import pretrain
from scxr.runs import Run, read_tensors

SIZE, STEPS = 32, 6
TINY: dict[str, Any] = {"image_size": SIZE, "batch_size": 16, "steps": STEPS}
OWN: dict[str, dict[str, Any]] = {
    "moco": {"queue_size": 40, "projection": 16, "optimizer": "sgd", "variance_weight": 1.0},
    "barlow": {"projection": 32},
    "vicreg": {"projection": 32, "control": "rank", "control_every": 2, "target_rank": 60.0},
    "dino": {"prototypes": 32, "hidden": 32, "bottleneck": 16, "frozen_prototypes": 0.4},
    "spark": {"decoder_width": 32},
}
TERMS = {
    "moco": {"info_nce", "variance"},
    "barlow": {"invariance", "redundancy"},
    "vicreg": {"invariance", "variance", "covariance"},
    "dino": {"cross_entropy"},
    "spark": {"reconstruction"},
}
METHOD_NAMES = list(OWN)


def write_store(path: Path, n: int, *, value: int | None = None, width: int = SIZE) -> None:
    """Soft random pictures (or one grey value) that share nothing but their size."""
    rng = np.random.default_rng(11)
    coarse = rng.integers(0, 256, (n, 4, width // 8)).astype(np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)
    if value is not None:
        images = np.full_like(images, value)
    rows = [{"image": f"{i}.png", "patient": str(i)} for i in range(n)]
    with StoreWriter(path, SIZE, width, {"kind": "test"}) as writer:
        writer.add(images, rows)


class UnpluggedError(OSError):
    """The disk is gone."""


class Unplugged(RadiographStore):
    """A store whose disk goes away after some batches."""

    batches_left: int = 0
    reason: type[BaseException] = UnpluggedError

    def batch(self, rows: Any) -> torch.Tensor:
        if self.batches_left == 0:
            raise self.reason("unplugged")
        self.batches_left -= 1
        return super().batch(rows)


def unplugged(store: RadiographStore, steps: int, reason: type[BaseException] = UnpluggedError):
    """The same store, readable for the monitor's sample and `steps` batches."""
    broken = Unplugged.open(store.path)
    broken.batches_left, broken.reason = 1 + steps, reason
    return broken


def train(method: str, data: RadiographStore, out: Path | None, **options) -> Run:
    """A tiny run, by one thread: sums keep their order, here and in processes started here."""
    settings = {**TINY, **OWN[method], **options.pop("settings", {})}
    options = {"device": "cpu", "precision": "32-true", "checkpoint_every": 4, **options}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return pretrain(method, data, out, settings=settings, **options)
    finally:
        torch.set_num_threads(threads)


def interrupt(method: str, store: RadiographStore, out: Path, *, after: int, **options) -> None:
    with pytest.raises(UnpluggedError):
        train(method, unplugged(store, after), out, **options)


def content(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file's time, length and place on the disk: equal where nobody wrote."""
    return {
        str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.stat().st_size, f.stat().st_ino)
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


def log_rows(run: Run) -> list[dict[str, Any]]:
    """The log without the numbers that depend on the clock."""
    rows = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    clock = ("images_per_second", "waiting", "seconds")
    return [{k: v for k, v in row.items() if k not in clock} for row in rows]


def assert_same_run(run: Run, expected: Run) -> None:
    """Bit for bit: weights, log, snapshots, files."""
    assert sorted(content(run.path)) == sorted(content(expected.path)), sorted(content(run.path))
    for name in ("method.safetensors", "encoder.safetensors"):
        (mine, _), (theirs, _) = (read_tensors(r.path / name) for r in (run, expected))
        different = [k for k in theirs if not torch.equal(mine[k], theirs[k])]
        assert mine.keys() == theirs.keys()
        assert different == []
    assert log_rows(run) == log_rows(expected)
    for a, b in zip(run.snapshots(), expected.snapshots(), strict=True):
        assert a.step == b.step
        assert all(torch.equal(a.tensors[k], b.tensors[k]) for k in b.tensors)
