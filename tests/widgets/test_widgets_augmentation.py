"""The augmentation widget shows what scxr.augment computes, on paper and with a kernel."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from widget_examples import SETTINGS, SIZE

from scxr.augment import Augmentation, AugmentationParameters, apply, draw, warp
from scxr.data.phantom import generate
from scxr.errors import InputError
from scxr.seeds import generator
from scxr.widgets import AugmentationWidget, lattice
from scxr.widgets.base import PAGE_LIMIT
from scxr.widgets.packing import BLOCK, COLUMNS, unpack


def computed(images, image: int, parameters: AugmentationParameters) -> np.ndarray:
    """(SIZE, SIZE) uint8 straight from scxr.augment.apply."""
    picture = torch.from_numpy(images[image]).float()[None, None] / 255
    return np.rint(apply(picture, parameters, SIZE)[0, 0].numpy() * 255).astype(np.uint8)


def cells(sheet: bytes) -> np.ndarray:
    """All frames of a sheet of SIZE x SIZE frames."""
    picture = np.asarray(Image.open(io.BytesIO(sheet)))
    assert SIZE % BLOCK == 0
    grid = picture.reshape(-1, SIZE, COLUMNS, SIZE).swapaxes(1, 2)
    return grid.reshape(-1, SIZE, SIZE)


def test_every_frame_in_the_page_is_what_apply_computes(augmentation, chests):
    views = cells(augmentation.views)
    masks = unpack(augmentation.view_masks, SIZE, SIZE)
    assert {f["image"] for f in augmentation.frames} == {0, 1}
    for index, frame in enumerate(augmentation.frames):
        if "values" in frame:
            parameters = augmentation.parameters(frame["values"])
        else:
            source = generator(0, "pair", frame["image"], frame["pair"])
            both = draw(SETTINGS, 1, source), draw(SETTINGS, 1, source)
            parameters = both["ab".index(frame["side"])]
        truth = computed(chests["images"], frame["image"], parameters)
        assert np.abs(views[index].astype(int) - truth).mean() < 6  # JPEG of a noisy picture
        label = chests["labels"][frame["image"]]
        mask = torch.from_numpy(chests["masks"][label][frame["image"]])[None, None]
        assert np.array_equal(masks[frame["mask"]], warp(mask, parameters, SIZE)[0, 0].numpy())


def test_the_first_frame_is_the_untouched_picture(augmentation, chests):
    first = augmentation.frames[0]
    assert first["values"] == lattice.neutral(lattice.controls(SETTINGS))
    assert first["left"] == pytest.approx(1.0)
    assert first["corners"] == [[0, 0], [1, 0], [1, 1], [0, 1]]
    label = chests["labels"][0]
    assert first["covers"] == pytest.approx(chests["masks"][label][0].mean(), rel=0.02)


def test_stops_lie_inside_the_recipe_and_hold_the_neutral_position():
    for control in lattice.controls(SETTINGS):
        assert control.neutral in control.stops
        assert list(control.stops) == sorted(control.stops)
    by_key = {c.key: c.stops for c in lattice.controls(SETTINGS)}
    assert by_key["area"][0] == SETTINGS.crop_scale[0]
    assert by_key["angle"] == (-10.0, -5.0, 0.0, 5.0, 10.0)
    assert max(by_key["sigma"]) == SETTINGS.blur_sigma[1]


def test_a_recipe_without_some_augmentations_has_no_stops_for_them():
    plain = Augmentation(rotation=0, flip=0, brightness=0, contrast=0, blur_p=0, noise_std=0)
    by_key = {c.key: c.stops for c in lattice.controls(plain)}
    for key in ("angle", "flip", "brightness", "contrast", "sigma", "noise"):
        assert len(by_key[key]) == 1


def test_how_much_of_a_finding_is_left_is_counted_in_its_own_area():
    image = np.full((1, 64, 64), 100, np.uint8)
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 24:40, 8:24] = True  # 16 x 16; a crop of the left half's width 32 keeps all of it
    image[mask] = 150
    widget = AugmentationWidget(image, {"mass": mask}, ["mass"], SETTINGS, pairs=0)
    values = lattice.neutral(lattice.controls(SETTINGS)) | {"area": 0.25}

    def left(across: float, down: float) -> float:
        return widget.view(0, widget.parameters(values | {"across": across, "down": down}))[0][
            "left"
        ]

    assert left(0.0, 0.5) == pytest.approx(1.0, abs=0.02)
    assert left(1.0, 0.5) == 0.0
    # The crop spans columns 16 to 48, so half of the finding's columns (16 to 24) are inside.
    assert left(0.5, 0.5) == 0.5


def test_the_untouched_picture_shows_a_whole_finding_whatever_the_size_of_the_views():
    mask = np.zeros((1, 90, 90), bool)
    mask[0, 31:36, 40:43] = True  # three pixels across: coarse views miss or double a column
    for size in (16, 40, 64):
        images = np.where(mask, 200, 100).astype(np.uint8)
        widget = AugmentationWidget(images, {"mass": mask}, ["mass"], SETTINGS, size=size, pairs=0)
        assert widget.frames[0]["left"] == 1.0


def test_contrast_to_noise_is_none_without_a_finding_and_falls_with_noise(augmentation):
    neutral = lattice.neutral(lattice.controls(SETTINGS))
    clear = augmentation.view(0, augmentation.parameters(neutral))[0]["stands_out"]
    noisy = augmentation.view(0, augmentation.parameters(neutral | {"noise": 0.3}))[0]["stands_out"]
    assert noisy < clear
    blank = AugmentationWidget(np.zeros((1, 32, 32), np.uint8), None, ["No Finding"], pairs=0)
    assert blank.frames[0]["stands_out"] is None and blank.frames[0]["left"] is None


def test_several_findings_of_a_label_are_shown_together():
    masks = {"a": np.zeros((1, 32, 32), bool), "b": np.zeros((1, 32, 32), bool)}
    masks["a"][0, :4, :4], masks["b"][0, 20:, 20:] = True, True
    widget = AugmentationWidget(np.zeros((1, 32, 32), np.uint8), masks, ["a|b|c"], pairs=0)
    shown = unpack(widget.regions, 32, 32)[0].astype(bool)
    assert np.array_equal(shown, masks["a"][0] | masks["b"][0])


def test_the_kernel_answers_any_setting_with_what_apply_computes(augmentation, chests, ask):
    values = {"area": 0.37, "across": 0.2, "down": 0.9, "angle": 23.0, "flip": 1}
    values |= {"brightness": 1.31, "contrast": 0.64, "sigma": 3.3, "noise": 0.07}
    answer, (view, mask) = ask(
        augmentation, {"type": "view", "id": 7, "image": 1, "values": values}
    )
    side = np.sqrt(0.37)
    parameters = AugmentationParameters.identity(
        1,
        centre_x=side / 2 + (1 - side) * 0.2,
        centre_y=side / 2 + (1 - side) * 0.9,
        width=side,
        height=side,
        angle=23.0,
        flip=True,
        brightness=1.31,
        contrast=0.64,
        sigma=3.3,
        noise=0.07,
    )
    parameters = replace(parameters, noise_seed=0, blur_kernel=21)
    truth = computed(chests["images"], 1, parameters)
    assert answer["type"] == "view" and answer["id"] == 7
    assert np.array_equal(np.frombuffer(view, np.uint8).reshape(SIZE, SIZE), truth)
    finding = torch.from_numpy(chests["masks"]["hiatal hernia"][1])[None, None]
    moved = warp(finding, parameters, SIZE)[0, 0].numpy()
    assert np.array_equal(np.frombuffer(mask, np.uint8).reshape(SIZE, SIZE) > 0, moved)
    share = moved.mean() * 0.37 / chests["masks"]["hiatal hernia"][1].mean()
    assert answer["views"][0]["left"] == pytest.approx(share, rel=0.05)


def test_the_kernel_draws_the_same_pair_for_the_same_numbers(augmentation, chests, ask):
    answer, buffers = ask(augmentation, {"type": "pair", "id": 1, "image": 0, "pair": 41})
    source = generator(0, "pair", 0, 41)
    for side in range(2):
        parameters = draw(SETTINGS, 1, source)
        shown = np.frombuffer(buffers[2 * side], np.uint8).reshape(SIZE, SIZE)
        assert np.array_equal(shown, computed(chests["images"], 0, parameters))
        assert answer["views"][side]["drawn"]["angle"] == pytest.approx(
            float(parameters.angle), abs=1e-3
        )


def test_the_kernel_takes_a_picture_of_the_readers_own(augmentation, ask):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    added, (small,) = ask(augmentation, {"type": "add", "id": 1}, file.getvalue())
    assert added["image"] == 2
    neutral = lattice.neutral(lattice.controls(SETTINGS))
    answer, (view, _) = ask(
        augmentation, {"type": "view", "id": 2, "image": 2, "values": neutral | {"flip": 1}}
    )
    assert answer["views"][0]["left"] is None
    shown = np.frombuffer(view, np.uint8).reshape(SIZE, SIZE).astype(int)
    original = np.frombuffer(small, np.uint8).reshape(SIZE, SIZE).astype(int)
    assert np.abs(shown - original[:, ::-1]).max() <= 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"type": "view", "image": 9, "values": {}}, "There is no image 9"),
        ({"type": "view", "image": 0, "values": {"area": 1.0}}, "must lie between"),
        ({"type": "view", "image": 0, "values": {"area": 0.0}}, "must lie between"),
        ({"type": "dance", "image": 0}, "does not know the request"),
    ],
)
def test_a_request_that_cannot_be_met_is_answered_with_a_sentence(
    augmentation, ask, content, sentence
):
    answer, _ = ask(augmentation, content | {"id": 3})
    assert answer["type"] == "error" and answer["id"] == 3
    assert sentence in answer["message"]


def test_what_does_not_fit_together_is_refused(chests):
    images, masks, labels = chests["images"], chests["masks"], chests["labels"]
    with pytest.raises(InputError, match="square"):
        AugmentationWidget(images[:, :, :40])
    with pytest.raises(InputError, match="1 labels"):
        AugmentationWidget(images, masks, labels[:1])
    with pytest.raises(InputError, match="mask of 'pulmonary mass'"):
        AugmentationWidget(images, {"pulmonary mass": masks["pulmonary mass"][:1]}, labels)


def test_four_radiographs_with_strong_noise_stay_under_the_page_limit(real_cxr):
    files = sorted((real_cxr / "cxr256").glob("*.png"))[:4]
    images = np.stack([np.asarray(Image.open(f).convert("L")) for f in files])
    strong = Augmentation((0.08, 1.0), brightness=0.8, contrast=0.8, noise_std=0.1)
    widget = AugmentationWidget(images, None, ["", "", "", ""], strong)
    assert widget.page_bytes() < PAGE_LIMIT


def test_four_images_of_a_chapter_stay_under_the_page_limit():
    pictures = generate(range(4), size=128, hospital="B", seed=0).images
    strong = Augmentation((0.08, 1.0), brightness=0.8, contrast=0.8, noise_std=0.1)
    assert AugmentationWidget(pictures, settings=strong).page_bytes() < PAGE_LIMIT


def test_it_tells_its_reasons_in_words(augmentation):
    words = augmentation.describe()
    assert "quantum noise" in words and "pulmonary mass" in words
    bundle, _ = augmentation._repr_mimebundle_()
    assert bundle["text/plain"] == words
