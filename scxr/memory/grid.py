"""Many counts at once, for a table or a widget in which everything can be changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

import pandas as pd

from scxr.memory.step import Step, fake_step
from scxr.methods import METHODS
from scxr.progress import progress_bar

LARGE, SMALL = 224, 64
BATCHES = {LARGE: (256, 128), SMALL: (2048,)}  # so that pictures outweigh the weights everywhere
STATIC = ("parameters", "gradients", "optimizer", "buffers", "update_peak")
GROWING = ("inputs", "activations", "peak")


def grid(
    methods: Iterable[str] = ("moco", "barlow", "dino", "spark"),
    backbones: Iterable[str] = ("resnet18", "resnet50"),
    sizes: Iterable[int] = (64, 128, 224),
    precisions: Iterable[str] = ("32-true", "bf16-mixed"),
) -> pd.DataFrame:
    """Memory of a step of every combination, with and without checkpointing, for any batch.

    Maps of a ResNet grow with the area of the picture (sizes are multiples of 32) and with the
    batch, all else with one of them or neither. Three counts tell these apart: two batches at the
    largest size, and one at the smallest.

    Returns:
        One row a combination of `method`, `backbone`, `size`, `precision` and `checkpointing`, with
        bytes: `parameters`, `gradients`, `optimizer`, `buffers`; `update_peak`, the highest level
        while the weights are updated; and for `inputs`, `activations` and `peak` (the highest level
        of the forward and backward pass) the part that is there with any batch, `<name>_fixed`,
        and the part that every image adds, `<name>_per_image`. `total` puts them together.
    """
    combinations = list(product(methods, backbones, precisions, (False, True)))
    updates: dict[tuple[str, str], Step] = {}
    rows = []
    for method, backbone, precision, checkpointing in progress_bar(combinations, desc="Counting"):
        preset = replace(
            METHODS[method].presets["full"], backbone=backbone, checkpointing=checkpointing
        )
        like = updates.get((method, backbone))
        steps = []
        for size, batch in ((size, b) for size, batches in BATCHES.items() for b in batches):
            settings = replace(preset, image_size=size, batch_size=batch)
            steps.append(fake_step(METHODS[method], settings, precision, like=like))
            like = updates.setdefault((method, backbone), steps[0])
        for size in sizes:
            rows.append(
                {
                    "method": method,
                    "backbone": backbone,
                    "size": size,
                    "precision": precision,
                    "checkpointing": checkpointing,
                    **{name: getattr(steps[0], name) for name in STATIC},
                    **_lines(*steps, size=size),
                }
            )
    return pd.DataFrame(rows)


def total(row: pd.Series, batch: int) -> float:
    """Bytes of a step with a batch: `MemoryCount.total_bytes` for a row of `grid`."""
    static = row["parameters"] + row["gradients"] + row["optimizer"] + row["buffers"]
    inputs, activations, peak = (
        row[f"{name}_fixed"] + batch * row[f"{name}_per_image"] for name in GROWING
    )
    return max(static + inputs + activations, peak, row["update_peak"])


def _lines(large: Step, half: Step, small: Step, *, size: int) -> dict[str, float]:
    """`<name>_fixed` and `<name>_per_image` at a size, from three counts."""
    (most, fewer), (many,) = BATCHES[LARGE], BATCHES[SMALL]
    lines = {}
    for name in GROWING:
        a, b, c = (getattr(step, name) for step in (large, half, small))
        at_large = (a - b) / (most - fewer)
        fixed = a - at_large * most
        at_small = (c - fixed) / many
        by_area = (at_large - at_small) / (LARGE**2 - SMALL**2)
        lines[f"{name}_fixed"] = round(fixed)
        lines[f"{name}_per_image"] = round(at_large - by_area * (LARGE**2 - size**2))
    return lines
