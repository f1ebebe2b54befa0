"""Augmentations against kornia and torchvision on fixed parameters, and on any device and type."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as V
from kornia.augmentation import RandomGaussianNoise
from kornia.enhance import adjust_contrast_with_mean_subtraction
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import get_affine_matrix2d, hflip, warp_affine
from scipy import stats
from torch import Tensor

from scxr.augment import Augmentation, AugmentationParameters, apply, augment, draw, parts, warp
from scxr.errors import InputError
from scxr.seeds import generator
from scxr.threads import each

Parameters = AugmentationParameters
# Float32 coordinates of some 64 pixels are off by a few 1e-6 pixels, neighbouring grey values
# differ by up to 1: what two exact implementations may differ by.
ROUNDING = 1e-4
SIZE = 48


def noise(batch: int, size: int = SIZE) -> Tensor:
    return torch.rand(batch, 1, size, size, generator=generator(0, "pictures"))


def geometry(batch: int, seed: int = 0, **changes: float) -> Parameters:
    """Random geometry and nothing else."""
    settings = Augmentation(
        crop_scale=(0.2, 1.0), rotation=40.0, jitter_p=0.0, blur_p=0.0, noise_std=0.0
    )
    drawn = draw(settings, batch, generator(seed, "geometry"))
    return dataclasses.replace(drawn, **changes)


def through_kornia(images: Tensor, p: Parameters, size: int) -> Tensor:
    """Turn about the crop's centre, scale the crop to the view, then mirror: kornia's matrices.

    kornia counts pixels from their centres: a place x (as a share) is at x * H - 0.5.
    """
    height = images.shape[-1]
    centre = torch.stack([p.centre_x, p.centre_y], dim=1) * height - 0.5
    to_middle = (size - 1) / 2 - centre
    scale = size / height / torch.stack([p.width, p.height], dim=1)
    turn = get_affine_matrix2d(torch.zeros_like(centre), centre, torch.ones_like(centre), -p.angle)
    stretch = get_affine_matrix2d(to_middle, centre, scale, torch.zeros_like(p.angle))
    # This function of kornia's (not its others) turns clockwise on the screen.
    matrix = (stretch @ turn)[:, :2]
    views = warp_affine(images, matrix, (size, size), padding_mode="zeros", align_corners=True)
    return torch.where(p.flip[:, None, None, None], hflip(views), views)


@pytest.mark.parametrize("size", [SIZE, 40, 70])
def test_crop_rotation_and_flip_are_kornias_affine_warp(size):
    # Frame included: crops that are turned at the edge show black where there is no picture.
    images, p = noise(24), geometry(24)
    blocks = {part.block for part in parts(images, p, size)}
    assert blocks == {1}
    ours, theirs = apply(images, p, size), through_kornia(images, p, size)
    torch.testing.assert_close(ours, theirs, atol=ROUNDING, rtol=0)
    assert p.flip.any() and not p.flip.all()
    wrong = dataclasses.replace(p, angle=-p.angle)
    assert (apply(images, wrong, size) - theirs).abs().max() > 0.3


@pytest.mark.parametrize("angle", [-25.0, 8.0])
def test_rotation_is_torchvisions_affine(angle):
    images = noise(2)
    ours = apply(images, Parameters.identity(2, angle=angle), SIZE)
    theirs = V.affine(
        images, -angle, [0, 0], 1.0, [0.0, 0.0], interpolation=V.InterpolationMode.BILINEAR
    )
    torch.testing.assert_close(ours, theirs, atol=ROUNDING, rtol=0)


def test_a_turned_crop_at_the_frame_is_black_beyond_it_and_only_there():
    p = Parameters.identity(1, centre_x=0.25, centre_y=0.25, width=0.5, height=0.5, angle=30.0)
    view = apply(torch.ones(1, 1, 64, 64), p, 64)[0, 0]
    beyond = warp(torch.ones(1, 1, 64, 64, dtype=torch.bool), p, 64)[0, 0]
    assert view.min() == 0
    # Half a pixel of the picture fades into the black on either side of its edge.
    assert ((view > 0) & (view < 1)).float().mean() < 0.08
    assert torch.equal(view > 0.5, beyond)
    assert view[32:, 32:].min() > 1 - 1e-5  # the side that looks into the picture


# --- pictures that blocks do not fill -------------------------------------------------------------


@pytest.mark.parametrize(("height", "size"), [(100, 32), (101, 50), (127, 64), (130, 40), (97, 24)])
def test_blocks_that_do_not_fill_the_picture_do_not_shift_it(height, size):
    # A ramp goes through averaging unchanged, so that its view is the same ramp, wherever it is.
    axis = (torch.arange(height) + 0.5) / height
    for ramp in (axis.expand(height, height), axis[:, None].expand(height, height)):
        images = ramp.reshape(1, 1, height, height)
        assert parts(images, Parameters.identity(1), size)[0].block > 1
        view = apply(images, Parameters.identity(1), size)[0, 0]
        along = (torch.arange(size) + 0.5) / size
        expected = along.expand(size, size) if ramp[0, 0] != ramp[0, 1] else along[:, None]
        # Not the outermost: half a block there is beyond the picture.
        torch.testing.assert_close(
            view[2:-2, 2:-2], expected.expand(size, size)[2:-2, 2:-2], atol=2e-4, rtol=0
        )


@pytest.mark.parametrize(("height", "size"), [(128, 64), (100, 32), (130, 40)])
def test_the_last_pixels_of_a_picture_are_seen(height, size):
    images = torch.zeros(1, 1, height, height)
    images[..., -1] = 1
    view = apply(images, Parameters.identity(1), size)
    assert view[..., -1].min() > 0.2
    assert view[..., : size // 2].max() == 0


def test_blocks_are_avg_pool2d():
    images, p = noise(3, 96), Parameters.identity(3)
    torch.testing.assert_close(apply(images, p, 32), F.avg_pool2d(images, 3), atol=1e-5, rtol=0)


# --- grey values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.2, 0.7, 1.0, 1.8])
def test_brightness_and_contrast_are_torchvisions_and_kornias(factor):
    images = noise(4)
    bright = apply(images, Parameters.identity(4, brightness=factor), SIZE)
    torch.testing.assert_close(bright, V.adjust_brightness(images, factor), atol=1e-5, rtol=0)
    contrast = apply(images, Parameters.identity(4, contrast=factor), SIZE)
    torch.testing.assert_close(contrast, V.adjust_contrast(images, factor), atol=1e-5, rtol=0)
    theirs = adjust_contrast_with_mean_subtraction(images, factor)
    torch.testing.assert_close(contrast, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kernel", "sigma"), [(9, 0.4), (9, 2.0), (23, 0.1), (23, 1.3), (23, 2.0)])
def test_blur_is_torchvisions_and_kornias(kernel, sigma):
    images = noise(3)
    ours = apply(images, Parameters.identity(3, sigma=sigma, blur_kernel=kernel), SIZE)
    # Tails beyond four standard deviations are left out: 6e-5 of the weight.
    theirs = V.gaussian_blur(images, [kernel, kernel], [sigma, sigma])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    theirs = gaussian_blur2d(images, (kernel, kernel), (sigma, sigma), border_type="reflect")
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_noise_has_a_normal_distribution_as_kornias_has():
    grey = torch.full((8, 1, 128, 128), 0.5)
    ours = (apply(grey, Parameters.identity(8, noise=0.05, noise_seed=3), 128) - grey).flatten()
    torch.manual_seed(0)
    theirs = (RandomGaussianNoise(std=0.05, p=1.0)(grey) - grey).flatten()
    assert stats.kstest(ours.numpy(), "norm", args=(0, 0.05)).pvalue > 1e-3
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3
    n = len(ours)  # 131,072; five standard errors each
    assert abs(ours.mean()) < 5 * 0.05 / math.sqrt(n)
    assert ours.std().item() == pytest.approx(0.05, rel=5 / math.sqrt(2 * n))
    assert abs(stats.skew(ours.numpy())) < 5 * math.sqrt(6 / n)
    assert abs(stats.kurtosis(ours.numpy())) < 5 * math.sqrt(24 / n)
    neighbours = np.corrcoef(ours[:-1], ours[1:])[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(n)


def test_no_two_parts_of_a_batch_share_their_noise():
    grey = torch.full((200, 1, 96, 96), 0.5)
    p = Parameters.identity(200, noise=0.05)
    assert len({part.noise_seed for part in parts(grey, p, 96)}) == len(parts(grey, p, 96)) > 1
    added = (apply(grey, p, 96) - grey).flatten(1)
    correlation = torch.corrcoef(added) - torch.eye(200)
    assert correlation.abs().max() < 6 / 96  # six standard errors


# --- types, modes, threads ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floats_come_back_as_they_came(dtype):
    images = noise(6, 64)
    random = generator(1, "draw")
    p = draw(Augmentation(jitter_p=1.0, blur_p=1.0), 6, random)
    views = apply(images.to(dtype), p, 32)
    assert views.dtype == dtype
    exact = apply(images.to(dtype).float(), p, 32)
    torch.testing.assert_close(views, exact.to(dtype), atol=0, rtol=0)


def test_bytes_are_what_their_floats_are():
    pixels = (noise(5, 64) * 255).byte()
    p = draw(Augmentation(), 5, generator(1, "draw"))
    torch.testing.assert_close(apply(pixels, p, 32), apply(pixels / 255, p, 32), atol=0, rtol=0)


def test_autocast_and_inference_change_nothing():
    images, p = noise(6), draw(Augmentation(blur_p=1.0), 6, generator(2, "draw"))
    plain = apply(images, p, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(apply(images, p, 32), plain)
    with torch.inference_mode():
        assert torch.equal(apply(images, p, 32), plain)
    assert not apply(images.requires_grad_(), p, 32).requires_grad


def test_views_are_the_same_to_the_bit_for_any_number_of_threads():
    images = (noise(90, 128) * 255).byte()
    p = draw(Augmentation(crop_scale=(0.08, 1.0)), 90, generator(4, "draw"))
    assert len(parts(images, p, 64)) > 3
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(apply(images, p, 64))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_parts_are_each_image_once():
    images, p = noise(90, 128), geometry(90, seed=5)
    rows = torch.cat([part.rows for part in parts(images, p, 30)])
    assert rows.sort().values.tolist() == list(range(90))
    assert len({part.block for part in parts(images, p, 30)}) > 1


def test_a_thread_that_fails_says_so():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError):
            each(lambda part: 1 // part, [1, 0, 2])
        assert each(lambda part: torch.get_num_threads(), [0, 1, 2]) == [1, 1, 1]
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_the_same_views():
    images = noise(6, 64)
    p = draw(Augmentation(noise_std=0.0, blur_p=1.0), 6, generator(2, "draw"))
    # cuDNN's TF32 keeps ten bits of a blur's weights.
    torch.testing.assert_close(
        apply(images.cuda(), p, 32).cpu(), apply(images, p, 32), atol=2e-3, rtol=0
    )


# --- bad input ------------------------------------------------------------------------------------


def test_a_kernel_wider_than_the_view_is_refused():
    images = noise(2, 32)
    assert apply(images, Parameters.identity(2, sigma=0.5, blur_kernel=31), 16).shape[-1] == 16
    with pytest.raises(InputError, match=r"kernel of 33 pixels is too wide for views of 16.*31"):
        apply(images, Parameters.identity(2, sigma=0.5, blur_kernel=33), 16)
    assert apply(images, Parameters.identity(2, blur_kernel=33), 16).shape[-1] == 16  # no blur


@pytest.mark.parametrize(
    ("images", "draws", "size", "message"),
    [
        (torch.zeros(2, 1, 8, 8), 3, 8, "3 draws do not fit 2 images"),
        (torch.zeros(0, 1, 8, 8), 0, 8, "0 draws do not fit 0 images"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int64), 1, 8, "uint8 or floats"),
        (torch.zeros(1, 1, 8, 8), 1, 0, "must be at least 1 pixel"),
        (torch.zeros(1, 1, 8, 8, 8), 1, 8, "Expected square images"),
    ],
)
def test_what_cannot_become_a_view_is_refused(images, draws, size, message):
    with pytest.raises(InputError, match=message):
        apply(images, Parameters.identity(draws), size)


def test_one_image_and_one_pixel_are_enough():
    assert augment(noise(1), Augmentation(blur_kernel=1), 1, generator(0, "one")).shape[-1] == 1
    assert augment(torch.zeros(1, 1, 1, 1), Augmentation(), 8, generator(0, "one")).max() <= 1
