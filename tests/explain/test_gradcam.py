"""Grad-CAM against its closed form, on exactly what the probe saw."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from scxr.data import RadiographStore
from scxr.encoders import Encoder, build_encoder, freeze, resize
from scxr.errors import InputError
from scxr.evaluate.features import PixelEncoder, extract
from scxr.evaluate.heads import Classifier, LinearHead, l2_normalise
from scxr.explain.gradcam import METHODS, class_activation_maps, raw_maps

ROWS = np.array([4, 9, 30])


@pytest.fixture
def head() -> LinearHead:
    """Any direction at all: the closed form holds for every one."""
    return LinearHead(np.random.default_rng(0).normal(size=512), 0.3)


@pytest.fixture
def wide() -> Encoder:
    """An encoder whose last map is 4 x 4, for pictures of 64 px."""
    made = build_encoder("resnet18", image_size=64, mean=0.5, std=0.25, stem="no-maxpool")
    return freeze(made)


def test_the_last_stage_has_a_closed_form(
    wide: Encoder, target: RadiographStore, head: LinearHead
) -> None:
    """score = w . f / |f|, so its gradient with respect to f is (w - (w . u) u) / |f|."""
    images = target.batch(ROWS)
    maps = extract(wide, target, ROWS, stage="map", cache=False).astype(np.float64)
    pooled = maps.mean(axis=(2, 3))
    unit = l2_normalise(pooled)
    along = (unit @ head.weights)[:, None] * unit
    gradient = (head.weights - along) / np.linalg.norm(pooled, axis=1, keepdims=True)
    expected = np.einsum("nk,nkhw->nhw", gradient, maps) / np.prod(maps.shape[2:])
    found = raw_maps(wide, head, images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    # A score that does not change when all features grow alike has as much against as for it.
    np.testing.assert_allclose(found.mean(axis=(1, 2)), 0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("stage", ["layer1", "layer2", "layer3"])
def test_an_earlier_stage_by_automatic_differentiation(
    wide: Encoder, target: RadiographStore, head: LinearHead, stage: str
) -> None:
    images = target.batch(ROWS)
    seen = torch.nn.functional.interpolate(
        images.float() / 255, (64, 64), mode="bilinear", antialias=True
    )
    kept = {}
    hook = getattr(wide.trunk, stage).register_forward_hook(
        lambda module, inputs, output: kept.update(map=output) or output.retain_grad()
    )
    score = Classifier(wide, head)(seen.requires_grad_(True)).sum()
    hook.remove()
    score.backward()
    channels = kept["map"].grad.mean(dim=(2, 3), keepdim=True)
    expected = (channels * kept["map"]).sum(dim=1).detach().numpy()
    found = raw_maps(wide, head, images, stage, method="grad-cam")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_centring_puts_the_zero_of_every_stage_where_the_last_one_has_it(
    wide: Encoder, target: RadiographStore, head: LinearHead
) -> None:
    images = target.batch(ROWS)
    for stage in ("layer3", "layer4"):
        plain = raw_maps(wide, head, images, stage, method="grad-cam")
        expected = plain - plain.mean(axis=(1, 2), keepdims=True)
        found = raw_maps(wide, head, images, stage)
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(plain).max())
    np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max())


def test_a_stage_that_speaks_against_the_finding_everywhere_still_has_a_map(
    wide: Encoder, target: RadiographStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Feature 0 grows with all of layer3 and the head is against it: no position speaks for it."""
    with torch.no_grad():
        first, second = wide.trunk.layer4
        first.bn2.weight.zero_()
        second.bn2.weight.zero_()
        first.downsample[0].weight.zero_()
        first.downsample[0].weight[0] = 1.0
        first.downsample[1].bias[1] = 1.0
    images, head = target.batch(ROWS), LinearHead(-np.eye(512)[0], 0.0)
    assert (raw_maps(wide, head, images, "layer3", method="grad-cam") < 0).all()
    plain = class_activation_maps(wide, head, images, "layer3", method="grad-cam")
    assert (plain == 0).all() and "grad-cam at layer3 is zero everywhere for 3" in caplog.text
    assert (class_activation_maps(wide, head, images, "layer3").max(axis=(1, 2)) == 1).all()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_maps_every_stage(
    wide: Encoder, target: RadiographStore, head: LinearHead, method: str
) -> None:
    maps = class_activation_maps(wide, head, target.batch(ROWS), "layer2", method=method)
    assert maps.shape == (3, 32, 32) and np.isfinite(maps).all()
    assert maps.min() >= 0 and maps.max() <= 1


def test_layer_cam_by_automatic_differentiation(
    wide: Encoder, target: RadiographStore, head: LinearHead
) -> None:
    images = target.batch(ROWS)
    seen = resize(images.float() / 255, 64)
    with torch.no_grad():
        early = wide.stages(seen)[2]
    leaf = early.clone().requires_grad_(True)
    late = Classifier(wide, head).judge(wide.trunk.layer4(leaf).mean(dim=(2, 3)))
    (gradient,) = torch.autograd.grad(late.sum(), leaf)
    expected = (gradient.clamp(min=0) * early).sum(dim=1).numpy()
    found = raw_maps(wide, head, images, "layer3", method="layer-cam")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_maps_cover_the_picture_and_peak_at_one(
    wide: Encoder, target: RadiographStore, head: LinearHead
) -> None:
    images = target.batch(ROWS)
    maps = class_activation_maps(wide, head, images, "layer3")
    assert maps.shape == (3, 32, 32)
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1)
    raw = raw_maps(wide, head, images, "layer3")
    row, column = np.unravel_index(raw[0].argmax(), raw[0].shape)
    peak = np.unravel_index(maps[0].argmax(), (32, 32))
    cell = 32 / raw.shape[1]
    assert (peak[0] // cell, peak[1] // cell) == (row, column)
    floats = class_activation_maps(wide, head, images.float() / 255, "layer3", batch_size=2)
    np.testing.assert_allclose(maps, floats, atol=1e-3)


def test_the_encoder_is_explained_in_evaluation_mode_and_left_as_it_was(
    wide: Encoder, target: RadiographStore, head: LinearHead
) -> None:
    images = target.batch(ROWS)
    expected = class_activation_maps(wide, head, images)
    before = wide.trunk.bn1.running_mean.clone()
    wide.train()
    np.testing.assert_array_equal(class_activation_maps(wide, head, images), expected)
    assert wide.training
    assert torch.equal(wide.trunk.bn1.running_mean, before)
    assert all(p.grad is None for p in wide.parameters())
    assert not wide.trunk.layer4._forward_hooks


def test_a_fine_tuned_classifier_brings_its_head(
    wide: Encoder, target: RadiographStore, head: LinearHead
) -> None:
    images = target.batch(ROWS)
    from_probe = class_activation_maps(wide, head, images)
    np.testing.assert_allclose(
        class_activation_maps(Classifier(wide, head), None, images), from_probe, atol=1e-5
    )
    weights_alone = class_activation_maps(wide, head.weights, images)
    np.testing.assert_allclose(weights_alone, from_probe, atol=1e-5)  # a bias moves no gradient
    with pytest.raises(InputError, match="brings its own head"):
        class_activation_maps(Classifier(wide, head), head, images)


def test_a_map_of_nothing_is_said_to_be_nothing(
    wide: Encoder, target: RadiographStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        maps = class_activation_maps(wide, LinearHead(np.zeros(512), 1.0), target.batch(ROWS))
    assert (maps == 0).all()
    assert "zero everywhere for 3 of 3" in caplog.text


def test_what_cannot_be_explained(wide: Encoder, target: RadiographStore, head: LinearHead) -> None:
    images = target.batch(ROWS)
    with pytest.raises(InputError, match="Unknown stage 'layer5'"):
        class_activation_maps(wide, head, images, "layer5")
    with pytest.raises(InputError, match="Unknown method 'saliency': choose from centred"):
        class_activation_maps(wide, head, images, method="saliency")
    with pytest.raises(InputError, match="no stages to look into"):
        class_activation_maps(PixelEncoder(), head, images)
    with pytest.raises(InputError, match="head for 100 features"):
        class_activation_maps(wide, np.ones(100), images)
    with pytest.raises(InputError, match="no score to explain"):
        class_activation_maps(wide, None, images)
    with pytest.raises(InputError, match="no pictures"):
        class_activation_maps(wide, head, images[:0])
