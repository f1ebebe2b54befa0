"""What is packed for the page comes out as it went in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scxr.errors import InputError
from scxr.widgets import packing


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16))
def test_packed_maps_are_lossless(count, height, width, seed):
    maps = np.random.default_rng(seed).integers(0, 256, (count, height, width), dtype=np.uint8)
    assert np.array_equal(packing.unpack(packing.pack(maps), height, width), maps)


@pytest.mark.parametrize("side", [16, 21])
def test_a_sheet_holds_every_frame_in_a_cell_of_its_own(side):
    source = np.random.default_rng(0)
    small = source.integers(0, 256, (11, 4, 4), dtype=np.uint8)
    frames = packing.shrink(np.kron(small, np.ones((8, 8), np.uint8)), side)
    picture = np.asarray(Image.open(io.BytesIO(packing.sheet(frames))))
    cell = -(-side // packing.BLOCK) * packing.BLOCK
    for i, frame in enumerate(frames):
        y, x = i // packing.COLUMNS * cell, i % packing.COLUMNS * cell
        found = picture[y : y + side, x : x + side].astype(int)
        assert np.abs(found - frame).mean() < 4
    assert picture.ndim == 2


def test_floats_become_grey_values_and_other_numbers_are_refused():
    assert packing.as_uint8(np.array([[[0.0, 0.5, 1.0]]])).tolist() == [[[0, 128, 255]]]
    for wrong in (np.full((1, 2, 2), 1.5), np.full((1, 2, 2), np.nan), np.zeros((2, 2))):
        with pytest.raises(InputError):
            packing.as_uint8(wrong)


def test_shrinking_keeps_small_pictures_and_the_aspect_of_large_ones():
    small = np.zeros((1, 10, 12), np.uint8)
    assert packing.shrink(small, 12) is small
    assert packing.shrink(np.zeros((2, 100, 50), np.uint8), 20).shape == (2, 20, 10)
    half = np.zeros((1, 8, 8), bool)
    half[:, :, :4] = True
    assert packing.shrink_masks(half, 4)[0, 0].tolist() == [True, True, False, False]


def test_a_readers_picture_is_read_at_its_full_range():
    deep = np.linspace(1000, 3000, 64 * 64).reshape(64, 64).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    grey = packing.read_picture(file.getvalue(), 32, 32)
    assert grey.shape == (32, 32) and grey.dtype == np.uint8
    assert grey.min() <= 4 and grey.max() >= 251
    with pytest.raises(InputError, match="cannot be read as a picture"):
        packing.read_picture(b"no picture", 32, 32)
