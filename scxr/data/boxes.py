"""Annotated rectangles as filled masks at the size of the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scxr.data.decoding import placement
from scxr.data.sharding import Shard
from scxr.data.sources import Box, Record


def box_masks(records: Sequence[Record], shard: Shard, aspect: str) -> dict[str, np.ndarray]:
    """Structure -> (n, size, size) bool for the n pictures of a shard and their records."""
    size = shard.images.shape[-1]
    masks: dict[str, np.ndarray] = defaultdict(
        lambda: np.zeros((len(records), size, size), dtype=bool)
    )
    for position, record in enumerate(records):
        for box in record.boxes:
            width, height = (int(side) for side in shard.sizes[position])
            if box.frame_width == 0:  # the box is in pixels of the file
                box = replace(box, frame_width=width, frame_height=height)
            rows, columns = _rectangle(box, placement(width, height, size, aspect), size)
            masks[box.structure][position, rows, columns] = True
    return dict(masks)


def _rectangle(box: Box, place: tuple[int, int, int, int], size: int) -> tuple[slice, slice]:
    """Every pixel that the box touches, at least one where it lies within the picture at all."""
    left, top, width, height = place
    across, down = width / box.frame_width, height / box.frame_height

    def span(start: float, end: float) -> slice:
        return slice(max(0, int(np.floor(start))), min(size, max(0, int(np.ceil(end)))))

    columns = span(left + box.left * across, left + (box.left + box.width) * across)
    rows = span(top + box.top * down, top + (box.top + box.height) * down)
    return rows, columns
