"""Augmentations against torchvision on fixed parameters; draws in range; masks that go along."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torchvision.transforms.functional as TF
from scipy import stats
from torch import Tensor

from scxr.augment import Augmentation, AugmentationParameters, apply, augment, draw, warp
from scxr.errors import InputError
from scxr.seeds import generator

Parameters = AugmentationParameters
BILINEAR = TF.InterpolationMode.BILINEAR


def noise(batch: int, size: int = 32) -> Tensor:
    return torch.rand(batch, 1, size, size, generator=generator(0, "pictures"))


def waves(size: int = 64) -> Tensor:
    """A picture without symmetry and without fine detail, so that resampling twice costs little."""
    axis = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    picture = 0.5 + 0.25 * torch.sin(5 * x + 2 * y) + 0.2 * torch.cos(7 * y - 3 * x * y)
    return picture[None, None]


def disc(size: int, x: float, y: float, radius: float) -> Tensor:
    """(1, 1, size, size) boolean; coordinates and radius as shares of the picture."""
    axis = (torch.arange(size) + 0.5) / size
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return (((columns - x) ** 2 + (rows - y) ** 2) < radius**2)[None, None]


def inner(images: Tensor, margin: int) -> Tensor:
    return images[..., margin:-margin, margin:-margin]


# --- geometry ----------------------------------------------------------------------------------


def test_identity_is_identity():
    images = noise(3)
    torch.testing.assert_close(apply(images, Parameters.identity(3), 32), images)


@pytest.mark.parametrize("angle", [-30.0, -7.5, 10.0, 90.0, 180.0])
def test_rotation_is_torchvisions(angle):
    images = noise(2)
    ours = apply(images, Parameters.identity(2, angle=angle), 32)
    theirs = TF.rotate(images, angle, interpolation=BILINEAR)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_quarter_turn_is_counter_clockwise():
    picture = torch.zeros(1, 1, 8, 8)
    picture[0, 0, 0, 7] = 1.0  # top right goes to top left
    turned = apply(picture, Parameters.identity(1, angle=90.0), 8)
    assert turned[0, 0, 0, 0].item() == pytest.approx(1, abs=1e-4)
    assert turned.sum().item() == pytest.approx(1, abs=1e-3)


def test_what_rotation_brings_in_is_black():
    turned = apply(torch.ones(1, 1, 32, 32), Parameters.identity(1, angle=45.0), 32)
    assert turned[0, 0, 0, 0] == 0
    assert turned[0, 0, 16, 16] == 1


def test_flip_is_torchvisions():
    images = noise(2)
    ours = apply(images, Parameters.identity(2, flip=True), 32)
    torch.testing.assert_close(ours, TF.hflip(images))


def test_crop_on_whole_pixels_is_slicing():
    # Columns 8 to 23 and rows 4 to 19 of 32, at their own size: nothing to interpolate.
    images = noise(2)
    parameters = Parameters.identity(2, centre_x=16 / 32, centre_y=12 / 32, width=0.5, height=0.5)
    torch.testing.assert_close(apply(images, parameters, 16), images[..., 4:20, 8:24])


def test_resized_crop_is_torchvisions_away_from_the_edge():
    # torchvision cuts first and repeats the edge; a camera would see what lies beyond it.
    images = noise(2, 64)
    parameters = Parameters.identity(2, centre_x=28 / 64, centre_y=33 / 64, width=0.5, height=0.75)
    ours = apply(images, parameters, 64)
    theirs = TF.resized_crop(images, 9, 12, 48, 32, [64, 64], BILINEAR, antialias=False)
    torch.testing.assert_close(inner(ours, 2), inner(theirs, 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("flip", [False, True])
def test_crop_rotation_and_flip_together_are_torchvisions(flip):
    # Turn the picture about the crop's centre, cut, stretch, mirror.
    picture, angle = waves(), 20.0
    parameters = Parameters.identity(
        1, centre_x=0.5, centre_y=0.4375, width=0.5, height=0.375, angle=angle, flip=flip
    )
    ours = apply(picture, parameters, 64)
    turned = TF.rotate(picture, angle, interpolation=BILINEAR, center=[32.0, 28.0])
    theirs = TF.resized_crop(turned, 16, 16, 24, 32, [64, 64], BILINEAR, antialias=False)
    theirs = TF.hflip(theirs) if flip else theirs
    torch.testing.assert_close(inner(ours, 3), inner(theirs, 3), atol=0.01, rtol=0)
    assert (inner(ours, 3) - inner(TF.hflip(theirs), 3)).abs().max() > 0.1


def test_every_image_has_its_own_draw():
    images = noise(8)
    settings = dataclasses.replace(Augmentation(), noise_std=0.0)
    parameters = draw(settings, 8, generator(0, "draw"))
    together = apply(images, parameters, 24)
    for i in range(8):
        alone = parameters.select(torch.tensor([i]))
        torch.testing.assert_close(
            apply(images[i : i + 1], alone, 24), together[i : i + 1], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize(("size", "view"), [(64, 64), (128, 64), (96, 64), (100, 32), (48, 64)])
def test_a_mask_goes_where_its_picture_goes(size, view):
    mask = disc(size, 0.4, 0.55, 0.2).expand(16, 1, size, size)
    settings = Augmentation(
        crop_scale=(0.5, 1.0), rotation=25, jitter_p=0.0, blur_p=0.0, noise_std=0.0
    )
    parameters = draw(settings, 16, generator(0, "draw"))
    moved = warp(mask, parameters, view)
    seen = apply(mask.float(), parameters, view) > 0.5
    assert moved.dtype == torch.bool
    assert moved.shape == (16, 1, view, view)
    overlap = (moved & seen).flatten(1).sum(1) / (moved | seen).flatten(1).sum(1)
    assert overlap.min() > 0.93


def test_a_mask_turns_and_flips_about_the_right_point():
    # The disc right of the centre goes to the left when mirrored, up when turned by 90 degrees.
    mask = disc(64, 0.75, 0.5, 0.1)
    mirrored = warp(mask, Parameters.identity(1, flip=True), 64)
    turned = warp(mask, Parameters.identity(1, angle=90.0), 64)
    assert torch.equal(mirrored, disc(64, 0.25, 0.5, 0.1))
    assert (turned ^ disc(64, 0.5, 0.25, 0.1)).sum() < 8


# --- resolution --------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "view"), [(128, 64), (128, 32), (96, 32), (256, 64)])
def test_detail_finer_than_the_view_is_averaged_away(size, view):
    # Stripes one pixel wide have no place in a view half as large: grey, not a false pattern.
    stripes = (torch.arange(size) % 2).float().expand(1, 1, size, size)
    seen = apply(stripes, Parameters.identity(1), view)
    assert seen.mean().item() == pytest.approx(0.5, abs=0.02)
    if size // view % 2 == 0:
        assert inner(seen, 1).std() < 0.01
    else:  # three pixels hold one stripe more of one kind than of the other
        assert inner(seen, 1).std() < 0.2


def test_a_small_crop_of_a_large_picture_keeps_its_detail():
    # A quarter of 256 pixels fills a view of 64 exactly: every pixel of the crop is there to see.
    images = noise(2, 256)
    parameters = Parameters.identity(2, centre_x=0.5, centre_y=0.5, width=0.25, height=0.25)
    torch.testing.assert_close(
        apply(images, parameters, 64), images[..., 96:160, 96:160], atol=1e-4, rtol=0
    )


# --- grey values -------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.3, 2.0])
def test_brightness_and_contrast_are_torchvisions(factor):
    images = noise(2)
    bright = apply(images, Parameters.identity(2, brightness=factor), 32)
    torch.testing.assert_close(bright, TF.adjust_brightness(images, factor), atol=1e-5, rtol=0)
    contrast = apply(images, Parameters.identity(2, contrast=factor), 32)
    torch.testing.assert_close(contrast, TF.adjust_contrast(images, factor), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
def test_blur_is_torchvisions(sigma):
    images = noise(2)
    ours = apply(images, Parameters.identity(2, sigma=sigma, blur_kernel=9), 32)
    theirs = TF.gaussian_blur(images, [9, 9], [sigma, sigma])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_blur_has_a_width_of_its_own_for_every_image():
    images = noise(1).expand(3, 1, 32, 32)
    parameters = dataclasses.replace(
        Parameters.identity(3, blur_kernel=7), sigma=torch.tensor([0.0, 0.5, 1.5])
    )
    blurred = apply(images, parameters, 32)
    torch.testing.assert_close(blurred[0], images[0])
    for i, sigma in ((1, 0.5), (2, 1.5)):
        expected = TF.gaussian_blur(images[i], [7, 7], [sigma, sigma])
        torch.testing.assert_close(blurred[i], expected, atol=1e-5, rtol=0)


def test_noise_has_the_asked_strength_and_differs_between_images():
    grey = torch.full((4, 1, 64, 64), 0.5)
    added = apply(grey, Parameters.identity(4, noise=0.05, noise_seed=7), 64) - grey
    # The standard error of a standard deviation from 4096 draws is about 1.1 % of it.
    for one in added:
        assert one.std().item() == pytest.approx(0.05, rel=0.06)
        assert abs(one.mean().item()) < 0.004
    correlation = torch.corrcoef(added.flatten(1)) - torch.eye(4)
    assert correlation.abs().max() < 0.08


def test_views_stay_in_range():
    settings = Augmentation(brightness=0.9, contrast=0.9, jitter_p=1.0, noise_std=0.3)
    views = augment(noise(16), settings, 24, generator(0, "views"))
    assert views.shape == (16, 1, 24, 24)
    assert views.min() == 0
    assert views.max() == 1


# --- draws -------------------------------------------------------------------------------------


def test_a_draw_can_be_replayed_and_a_step_drawn_again():
    images = noise(4)
    parameters = draw(Augmentation(), 4, generator(3, "views", 17))
    first = apply(images, parameters, 24)
    assert torch.equal(first, apply(images, parameters, 24))
    assert torch.equal(first, augment(images, Augmentation(), 24, generator(3, "views", 17)))
    assert not torch.equal(first, augment(images, Augmentation(), 24, generator(3, "views", 18)))


def test_drawing_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    augment(noise(2), Augmentation(), 16, generator(0, "views"))
    assert torch.equal(torch.get_rng_state(), before)


def uniform(values: Tensor, low: float, high: float) -> bool:
    return stats.kstest(values.numpy(), "uniform", args=(low, high - low)).pvalue > 1e-3


@pytest.fixture(scope="module")
def many() -> Parameters:
    settings = Augmentation(
        crop_scale=(0.2, 0.5),
        flip=0.3,
        rotation=12,
        brightness=0.4,
        contrast=0.2,
        jitter_p=0.8,
        blur_sigma=(0.1, 2.0),
        blur_p=0.25,
    )
    return draw(settings, 20_000, generator(0, "many"))


def test_crops_are_uniform_in_area_log_ratio_and_place(many):
    assert uniform(many.width * many.height, 0.2, 0.5)
    assert uniform((many.width / many.height).log(), math.log(3 / 4), math.log(4 / 3))
    assert uniform((many.centre_x - many.width / 2) / (1 - many.width), 0, 1)
    assert uniform((many.centre_y - many.height / 2) / (1 - many.height), 0, 1)


def test_the_rest_is_drawn_as_often_and_as_far_as_asked(many):
    # Five standard errors of a share from 20,000 draws are at most 0.018.
    assert many.flip.float().mean().item() == pytest.approx(0.3, abs=0.018)
    jittered, blurred = many.brightness != 1, many.sigma > 0
    assert jittered.float().mean().item() == pytest.approx(0.8, abs=0.018)
    assert torch.equal(jittered, many.contrast != 1)
    assert blurred.float().mean().item() == pytest.approx(0.25, abs=0.018)
    assert uniform(many.angle, -12, 12)
    assert uniform(many.brightness[jittered], 0.6, 1.4)
    assert uniform(many.contrast[jittered], 0.8, 1.2)
    assert uniform(many.sigma[blurred], 0.1, 2.0)


def test_draws_of_different_things_are_independent(many):
    columns = [many.width * many.height, many.width / many.height, many.angle, many.flip.float()]
    columns += [many.brightness, many.contrast, many.sigma, many.centre_x - 0.5, many.centre_y]
    correlation = torch.corrcoef(torch.stack(columns)) - torch.eye(len(columns))
    assert correlation.abs().max() < 0.05  # seven standard errors


@pytest.mark.parametrize("scale", [(0.05, 0.4), (0.4, 1.0), (1.0, 1.0)])
def test_crops_never_leave_the_picture(scale):
    many = draw(Augmentation(crop_scale=scale), 5000, generator(0, "crops"))
    for centre, size in ((many.centre_x, many.width), (many.centre_y, many.height)):
        assert (size > 0).all()
        assert (centre - size / 2).min() >= -1e-6
        assert (centre + size / 2).max() <= 1 + 1e-6


def test_strong_jitter_never_turns_grey_values_over():
    many = draw(Augmentation(brightness=1.5, contrast=1.5), 2000, generator(0, "strong"))
    assert many.brightness.min() >= 0
    assert many.contrast.min() >= 0


# --- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.9, 0.4)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
        ({"blur_sigma": (-1.0, 1.0)}, "blur_sigma"),
        ({"flip": 2.0}, "flip"),
        ({"jitter_p": -0.1}, "jitter_p"),
        ({"blur_kernel": 4}, "blur_kernel"),
        ({"blur_kernel": -3}, "blur_kernel"),
        ({"noise_std": -0.1}, "noise_std"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Augmentation(**changes)


def test_unknown_parameters_are_refused():
    with pytest.raises(InputError, match="No such augmentation parameter: zoom"):
        Parameters.identity(1, zoom=2.0)


@pytest.mark.parametrize("shape", [(1, 1, 32, 24), (1, 3, 32, 32), (1, 32, 32)])
def test_pictures_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="Expected square images"):
        apply(torch.zeros(shape), Parameters.identity(1), 16)
