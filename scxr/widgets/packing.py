"""How pictures, maps and numbers travel to the front end: small, and whole without a network.

Grey pictures go as one JPEG sheet (the browser decodes it once); maps whose values are read and
coloured go losslessly, as zlib over horizontal differences; numbers go as float32.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image

from scxr.data.decoding import Unusable, decode, normalise
from scxr.errors import InputError

BLOCK = 8
"""Cells of a sheet are whole JPEG blocks, so that neighbouring frames never bleed into another."""
COLUMNS = 8
QUALITY = 82


def as_uint8(images: np.ndarray, name: str = "images") -> np.ndarray:
    """(n, H, W) pictures as uint8; floats are read as [0, 1].

    Raises:
        InputError: not three axes, no picture at all, or values that are no picture.
    """
    array = np.array(images)  # a copy: what is shown must not change under the reader
    if array.ndim != 3 or len(array) == 0:
        raise InputError(f"{name} must be (n, H, W) with n > 0, got {array.shape}.")
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float32)
    if not np.isfinite(values).all() or values.min() < -1e-6 or values.max() > 1 + 1e-6:
        raise InputError(f"{name} must be uint8, or floats in [0, 1].")
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def read_picture(data: bytes, height: int, width: int) -> np.ndarray:
    """A reader's file (PNG, JPEG, TIFF or DICOM) as (height, width) uint8, as an import reads it.

    Raises:
        InputError: the bytes are no picture that can be used.
    """
    try:
        picture = normalise(decode(data))
    except Unusable as error:
        raise InputError(f"This file cannot be read as a picture: {error}.") from error
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    return np.array(resized)


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """(n, H, W) uint8 with the longer side at most `size` pixels; smaller pictures stay."""
    height, width = images.shape[1:]
    scale = size / max(height, width)
    if scale >= 1:
        return images
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = [Image.fromarray(i).resize(target, Image.Resampling.LANCZOS) for i in images]
    return np.stack([np.asarray(i) for i in resized])


def shrink_masks(masks: np.ndarray, size: int) -> np.ndarray:
    """(n, H, W) bool, shrunk as `shrink` does: a pixel stays where half of it or more was set."""
    return shrink(masks.astype(np.uint8) * 255, size) >= 128


def sheet(frames: np.ndarray, quality: int = QUALITY) -> bytes:
    """One greyscale JPEG with frame i at column i % 8, row i // 8, in cells of whole blocks.

    Args:
        frames: (n, h, w) uint8.
        quality: JPEG quality; 82 leaves errors of about two grey values in a radiograph.
    """
    count, height, width = frames.shape
    cell_h, cell_w = _whole_blocks(height), _whole_blocks(width)
    rows = -(-count // COLUMNS)
    padding = ((0, 0), (0, cell_h - height), (0, cell_w - width))
    cells = np.zeros((rows * COLUMNS, cell_h, cell_w), np.uint8)
    cells[:count] = np.pad(frames, padding, mode="edge")
    grid = cells.reshape(rows, COLUMNS, cell_h, cell_w).swapaxes(1, 2)
    out = io.BytesIO()
    picture = Image.fromarray(grid.reshape(rows * cell_h, COLUMNS * cell_w))
    picture.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()


def pack(maps: np.ndarray) -> bytes:
    """(n, h, w) uint8 or bool, lossless: zlib over each row's differences modulo 256."""
    values = np.ascontiguousarray(maps).astype(np.uint8)
    return zlib.compress(np.diff(values, axis=-1, prepend=np.uint8(0)).tobytes(), 9)


def unpack(data: bytes, height: int, width: int) -> np.ndarray:
    """The inverse of `pack`: (n, h, w) uint8."""
    flat = np.frombuffer(zlib.decompress(data), np.uint8)
    return np.cumsum(flat.reshape(-1, height, width), axis=-1, dtype=np.uint8)


def floats(values: np.ndarray) -> bytes:
    """Little-endian float32, as a JavaScript Float32Array reads it."""
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def _whole_blocks(length: int) -> int:
    return -(-length // BLOCK) * BLOCK
