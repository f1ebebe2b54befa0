"""Annotated rectangles and outlines as masks at the size of the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from scxr.data.decoding import FORMATS, placement, quiet
from scxr.data.sharding import Shard
from scxr.data.sources import Box, Record
from scxr.data.sources.archives import read_member
from scxr.data.sources.records import MaskFile
from scxr.errors import InputError, first_line


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


def outline_masks(records: Sequence[Record], shard: Shard, aspect: str) -> dict[str, np.ndarray]:
    """The same for outlines: structure -> (n, size, size) bool, several files of one united.

    A pixel belongs to the region where at least half of it is covered; a region that is too thin
    for that keeps the pixels that it covers most.

    Raises:
        InputError: a file that cannot be read as a picture.
    """
    size = shard.images.shape[-1]
    masks: dict[str, np.ndarray] = defaultdict(
        lambda: np.zeros((len(records), size, size), dtype=bool)
    )
    for position, record in enumerate(records):
        width, height = (int(side) for side in shard.sizes[position])
        for outline in record.masks:
            place = placement(width, height, size, aspect)
            masks[outline.structure][position] |= _outline(outline, place, size)
    return dict(masks)


def _outline(outline: MaskFile, place: tuple[int, int, int, int], size: int) -> np.ndarray:
    left, top, width, height = place
    path = outline.path
    try:
        data = read_member(path, outline.member) if outline.member else path.read_bytes()
        with quiet():
            drawn = np.asarray(Image.open(BytesIO(data), formats=FORMATS).convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)  # its text has an address in memory
        reason = "it is no picture of a known kind" if unknown else first_line(error)
        raise InputError(
            f"The mask {outline.member or path} cannot be read ({reason}): repair it, or take its "
            "row out of the table of masks."
        ) from error
    # Half of what is there, 127 of 255 or 0 of 0/1, tells inside from outside.
    inside = Image.fromarray(np.uint8(255) * (drawn > drawn.max() / 2))
    cover = np.asarray(inside.resize((width, height), Image.Resampling.BOX))
    kept = cover >= 128
    if not kept.any() and cover.any():
        kept = cover == cover.max()
    canvas = np.zeros((size, size), dtype=bool)
    canvas[top : top + height, left : left + width] = kept
    return canvas


def _rectangle(box: Box, place: tuple[int, int, int, int], size: int) -> tuple[slice, slice]:
    """Every pixel that the box touches, at least one where it lies within the picture at all."""
    left, top, width, height = place
    across, down = width / box.frame_width, height / box.frame_height

    def span(start: float, end: float) -> slice:
        return slice(max(0, int(np.floor(start))), min(size, max(0, int(np.ceil(end)))))

    columns = span(left + box.left * across, left + (box.left + box.width) * across)
    rows = span(top + box.top * down, top + (box.top + box.height) * down)
    return rows, columns
