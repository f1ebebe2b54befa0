"""Views a second: our pipeline beside those of other libraries, and ours stage by stage."""

from __future__ import annotations

import itertools
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scxr import transforms
from scxr.augment import Augmentation, Part, affine, draw, parts
from scxr.benchmarks.pipelines import PIPELINES, SETTINGS, Task
from scxr.data import RadiographStore, open_data, phantom_store
from scxr.errors import InputError
from scxr.progress import progress_bar
from scxr.seeds import generator
from scxr.threads import each

logger = logging.getLogger(__name__)
BASELINE = "Pillow + torchvision"
STAGES = ("to float", "crop, rotation, flip", "brightness, contrast", "blur", "noise")


def run(
    sizes: Sequence[int] = (64, 224),
    store: str | Path | None = None,
    *,
    views: int = 2,
    seconds: float = 3.0,
    repeats: int = 3,
    batch_size: int = 64,
) -> list[dict[str, Any]]:
    """Measure every pipeline at every size, in turns, so that what else runs disturbs all alike.

    All use as many cores as torch does: `torch.set_num_threads`, or OMP_NUM_THREADS outside.

    Args:
        sizes: of the views, pixels.
        store: where the images come from; None for phantoms of twice 64 px and of 256 px, as views
            of 64 and of 224 px are usually cut.
        views: of each image.
        seconds: that one measurement takes, at least.
        repeats: measurements of every pipeline.
        batch_size: images.

    Returns:
        One row a pipeline and size: pipeline, size, views_per_second (median of the repeats),
        ratio (to Pillow + torchvision), slowest, fastest, threads. A library that is not installed
        has no row, and is named in the log.
    """
    for name, value in {"views": views, "repeats": repeats, "batch_size": batch_size}.items():
        if value < 1:
            raise InputError(f"{name} is {value}, but must be at least 1.")
    rows = []
    for size in sizes:
        task = Task(images_for(size, store), size, views, batch_size, torch.get_num_threads())
        speeds = _in_turns(task, seconds, repeats)
        baseline = statistics.median(speeds[BASELINE])
        for name, found in speeds.items():
            median = statistics.median(found)
            rows.append(
                {
                    "pipeline": name,
                    "size": size,
                    "views_per_second": round(median, 1),
                    "ratio": round(median / baseline, 2),
                    "slowest": round(min(found), 1),
                    "fastest": round(max(found), 1),
                    "threads": task.threads,
                }
            )
    return rows


def stages(
    size: int = 64,
    store: RadiographStore | None = None,
    settings: Augmentation = SETTINGS,
    *,
    batch: int = 128,
    repeats: int = 5,
) -> list[dict[str, Any]]:
    """Where the time of our pipeline goes: one view of each image of a batch, stage by stage.

    Every part of the batch goes through all stages, as in `scxr.augment.apply`, on one core.

    Returns:
        One row a stage: stage, size, microseconds (of one core, a view; the fastest of the
        repeats), share (of their sum).
    """
    store = store or images_for(size)
    random = generator(0, "benchmark", "stages")
    rows = torch.randint(len(store), (batch,), generator=random).sort().values
    images, p = store.batch(rows), draw(settings, batch, random)
    maps, todo = affine(p), parts(images, p, size)

    def compute(part: Part) -> list[float]:
        rows, source = part.rows, torch.Generator().manual_seed(part.noise_seed)
        steps: list[Callable[[Tensor], Tensor]] = [
            lambda pixels: transforms.to_float(pixels[rows]),
            lambda picture: transforms.resample(picture, maps[rows], size, part.block),
            lambda view: transforms.jitter(view, p.brightness[rows], p.contrast[rows]),
            lambda view: transforms.blur(view, p.sigma[rows], p.blur_kernel),
            lambda view: transforms.add_noise(view, p.noise[rows], source),
        ]
        values, times = images, [time.perf_counter()]
        for step in steps:
            values = step(values)
            times.append(time.perf_counter())
        return [after - before for before, after in itertools.pairwise(times)]

    # What else the machine does disturbs some parts of some repeats: the fastest of each counts.
    runs = [each(compute, todo) for _ in range(repeats)]
    fastest = [
        [min(times) for times in zip(*part, strict=True)] for part in zip(*runs, strict=True)
    ]
    seconds = {
        "gather": min(_seconds(lambda: store.batch(rows)) for _ in range(repeats)),
        "draw": min(_seconds(lambda: draw(settings, batch, random)) for _ in range(repeats)),
        **dict(zip(STAGES, map(sum, zip(*fastest, strict=True)), strict=True)),
    }
    total = sum(seconds.values())
    return [
        {
            "stage": name,
            "size": size,
            "microseconds": round(value / batch * 1e6, 2),
            "share": round(value / total, 3),
        }
        for name, value in seconds.items()
    ]


def images_for(size: int, store: str | Path | None = None) -> RadiographStore:
    """`store`, or a phantom that views of `size` pixels are well cut from."""
    if size < 1:
        raise InputError(f"The size of the views is {size}, but must be at least 1 pixel.")
    if store is not None:
        return open_data(store)
    return phantom_store(n=512, size=128 if size <= 64 else 256)


def _in_turns(task: Task, seconds: float, repeats: int) -> dict[str, list[float]]:
    speeds: dict[str, list[float]] = {}
    missing: set[str] = set()
    bar = progress_bar(total=repeats * len(PIPELINES), desc=f"{task.size} px", unit="measurement")
    with bar:
        for _ in range(repeats):
            for name, pipeline in PIPELINES.items():
                try:
                    if name not in missing:
                        speed = _views_per_second(pipeline(task), seconds, 2 * task.threads)
                        speeds.setdefault(name, []).append(speed)
                except ImportError as error:
                    missing.add(name)
                    logger.warning("%s is left out: %s.", name, error)
                bar.update()
    return speeds


def _views_per_second(batches: Iterator[int], seconds: float, warmup: int) -> float:
    """Steady speed. The batches that worker processes hold ready by the time the clock starts are
    let pass first."""
    for _ in range(max(1, warmup)):
        next(batches)
    started, views = time.perf_counter(), 0
    while views == 0 or time.perf_counter() - started < seconds:
        views += next(batches)
    speed = views / (time.perf_counter() - started)
    batches.close()  # type: ignore[attr-defined]  # ends threads and worker processes
    return speed


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
