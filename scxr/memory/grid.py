"""Many counts at once, for a table or a widget in which everything can be changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from scxr.memory.step import Step, fake_step
from scxr.methods import METHODS
from scxr.progress import progress_bar

BATCH = 256  # at the largest size; more of smaller pictures, so that they outweigh the weights
STATIC = ("parameters", "gradients", "optimizer", "buffers", "update_peak")
GROWING = ("inputs", "activations", "peak")
SHIPPED = Path(__file__).with_name("grid.csv")


def shipped_grid() -> pd.DataFrame:
    """`grid()` as it was counted for this version, read from a file that comes with the package.

    Counting takes a minute or more, reading no time. `python -m scxr.memory` counts anew and
    writes the file.
    """
    return pd.read_csv(SHIPPED)


def grid(
    methods: Iterable[str] = tuple(METHODS),
    backbones: Iterable[str] = ("resnet18", "resnet50"),
    sizes: Sequence[int] = (64, 128, 224),
    precisions: Iterable[str] = ("32-true", "bf16-mixed"),
) -> pd.DataFrame:
    """Memory of a step of every combination, with and without checkpointing, for any batch.

    Memory is linear in the batch. Two batches at the largest size tell what an image adds from
    what is there anyway, which no size changes; one batch at every other size does the rest.

    Returns:
        One row a combination of `method`, `backbone`, `size`, `precision` and `checkpointing`, with
        bytes: `parameters`, `gradients`, `optimizer`, `buffers`; `update_peak`, the highest level
        while the weights are updated, without the inputs; and for `inputs`, `activations` and
        `peak` (the highest level of the forward and backward pass) the part that is there with any
        batch, `<name>_fixed`, and the part that every image adds, `<name>_per_image`. `total` puts
        them together.
    """
    combinations = list(product(methods, backbones, precisions, (False, True)))
    batches = {size: BATCH * (max(sizes) // size) ** 2 for size in sizes}
    updates: dict[tuple[str, str], Step] = {}
    rows = []
    for method, backbone, precision, checkpointing in progress_bar(combinations, desc="Counting"):
        preset = replace(
            METHODS[method].presets["full"], backbone=backbone, checkpointing=checkpointing
        )
        counts = {}
        for size, batch in [(max(sizes), BATCH // 2), *batches.items()]:
            settings = replace(preset, image_size=size, batch_size=batch)
            like = updates.get((method, backbone))
            step = fake_step(METHODS[method], settings, precision, like=like)
            updates.setdefault((method, backbone), step)
            counts[size, batch] = step
        half, whole = (counts[max(sizes), batch] for batch in (BATCH // 2, BATCH))
        for size, batch in batches.items():
            rows.append(
                {
                    "method": method,
                    "backbone": backbone,
                    "size": size,
                    "precision": precision,
                    "checkpointing": checkpointing,
                    **{name: getattr(whole, name) for name in STATIC},
                    **_lines(half, whole, counts[size, batch], batch),
                }
            )
    return pd.DataFrame(rows)


def total(row: pd.Series, batch: int) -> float:
    """Bytes of a step with a batch: `MemoryCount.total_bytes` for a row of `grid`."""
    static = row["parameters"] + row["gradients"] + row["optimizer"] + row["buffers"]
    inputs, activations, peak = (
        row[f"{name}_fixed"] + batch * row[f"{name}_per_image"] for name in GROWING
    )
    return max(static + inputs + activations, peak, row["update_peak"] + inputs)


def _lines(half: Step, whole: Step, step: Step, batch: int) -> dict[str, int]:
    """`<name>_fixed` from two batches of one size, `<name>_per_image` from the batch of a step."""
    lines = {}
    for name in GROWING:
        fixed = 2 * getattr(half, name) - getattr(whole, name)
        lines[f"{name}_fixed"] = fixed
        lines[f"{name}_per_image"] = round((getattr(step, name) - fixed) / batch)
    return lines
