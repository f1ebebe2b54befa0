"""Features are what the encoder says, computed once, and never those of another encoder."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from scxr.data import RadiographStore
from scxr.encoders import Encoder, build_encoder, resize
from scxr.errors import InputError
from scxr.evaluate.features import (
    PixelEncoder,
    extract,
    extract_stages,
    fingerprint,
    prepared,
)

ROWS = np.array([7, 3, 3, 40])


def direct(encoder: Encoder, store: RadiographStore, rows: np.ndarray) -> torch.Tensor:
    """The definition: float pictures in [0, 1], resized, through the frozen encoder."""
    with torch.no_grad():
        return encoder.eval()(resize(store.batch(rows).float() / 255, encoder.image_size))


def test_features_are_the_encoders_in_the_order_asked_for(
    encoder: Encoder, target: RadiographStore
) -> None:
    features = extract(encoder, target, ROWS)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, direct(encoder, target, ROWS), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features[1], features[2])


def test_pictures_are_resized_to_what_the_encoder_was_made_for(target: RadiographStore) -> None:
    small = build_encoder("resnet18", image_size=24, mean=0.5, std=0.25).eval()
    np.testing.assert_allclose(
        extract(small, target, ROWS, cache=False), direct(small, target, ROWS), rtol=1e-4, atol=1e-5
    )


def test_batch_norm_does_not_mix_the_images_of_a_batch(
    encoder: Encoder, target: RadiographStore
) -> None:
    rows = np.arange(9)
    one, all_at_once = (
        extract(encoder.train(), target, rows, batch_size=size, cache=False) for size in (1, 9)
    )
    np.testing.assert_allclose(one, all_at_once, rtol=1e-4, atol=1e-5)
    assert encoder.training  # and the caller's encoder is as it was


def tamper(folder: Path, value: float) -> None:
    """Overwrite every cached feature with a number no encoder would give."""
    for file in folder.rglob("*.npz"):
        with np.load(file) as shard:
            rows, features = shard["rows"], np.full_like(shard["features"], value)
        np.savez(file, rows=rows, features=features)


def test_what_is_cached_is_read_and_only_the_rest_is_computed(
    encoder: Encoder, target: RadiographStore, own_cache: Path
) -> None:
    fresh = extract(encoder, target, np.arange(6))
    tamper(own_cache, -1.0)
    mixed = extract(encoder, target, np.arange(3, 9))
    assert (mixed[:3] == -1).all()
    assert (mixed[3:] != -1).any(axis=1).all()
    np.testing.assert_array_equal(extract(encoder, target, np.arange(6), cache=False), fresh)


def test_another_weight_store_size_or_stage_is_another_entry(
    encoder: Encoder, target: RadiographStore, own_cache: Path
) -> None:
    extract(encoder, target, ROWS)
    tamper(own_cache, -1.0)
    assert (extract(encoder, target, ROWS) == -1).all()
    assert (extract(encoder, target, ROWS, stage="layer3") != -1).any()
    changed = prepared(encoder)
    changed.image_size = 40
    assert (extract(changed, target, ROWS) != -1).any()
    with torch.no_grad():
        encoder.trunk.layer4[1].conv2.weight[0, 0, 0, 0] += 0.1
    assert (extract(encoder, target, ROWS) != -1).any()


def test_every_weight_and_buffer_counts_in_the_fingerprint(encoder: Encoder) -> None:
    before = fingerprint(encoder)
    assert before == fingerprint(prepared(encoder))
    encoder.trunk.bn1.running_mean[0] += 1
    assert fingerprint(encoder) != before


def test_the_same_weights_with_another_normalisation_or_size_are_another_entry(
    target: RadiographStore, own_cache: Path
) -> None:
    about = {"image_size": 32, "mean": 0.5, "std": 0.25}
    first = build_encoder("resnet18", **about)
    extract(first, target, ROWS)
    tamper(own_cache, -1.0)
    for key, value in {"image_size": 48, "mean": 0.4, "std": 0.2}.items():
        other = build_encoder("resnet18", **{**about, key: value})
        for one, two in zip(first.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, two)
        assert (extract(other, target, ROWS) != -1).any(), key
    assert (extract(first, target, ROWS) == -1).all()
    pixels = PixelEncoder(32)
    extract(pixels, target, ROWS)
    tamper(own_cache, -2.0)
    assert (extract(PixelEncoder(31), target, ROWS) != -2).any()


def test_a_damaged_cache_file_is_computed_again(
    encoder: Encoder, target: RadiographStore, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = extract(encoder, target, ROWS)
    (file,) = own_cache.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(extract(encoder, target, ROWS), fresh)
    assert "computing again" in caplog.text
    assert not list(own_cache.rglob("*.part"))


def test_stages_side_by_side_and_as_maps(encoder: Encoder, target: RadiographStore) -> None:
    together = extract(encoder, target, ROWS, stage="all")
    single = [extract(encoder, target, ROWS, stage=f"layer{i}") for i in (1, 2, 3, 4)]
    assert [s.shape[1] for s in single] == [64, 128, 256, 512]
    np.testing.assert_allclose(together, np.concatenate(single, axis=1), rtol=1e-6)
    maps = extract(encoder, target, ROWS, stage="map")
    assert maps.shape == (4, 512, 1, 1)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), single[3], rtol=1e-4, atol=1e-6)
    third = extract(encoder, target, ROWS, stage="map:layer3")
    np.testing.assert_allclose(third.mean(axis=(2, 3)), single[2], rtol=1e-4, atol=1e-6)


def test_several_stages_take_one_pass(
    encoder: Encoder, target: RadiographStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [None, "layer2", "all", "map", "map:layer3"]
    single = {stage: extract(encoder, target, ROWS, stage=stage, cache=False) for stage in stages}
    seen: list[int] = []
    plain = Encoder.stages

    def counted(self: Encoder, images: torch.Tensor, **options: bool) -> list[torch.Tensor]:
        seen.append(len(images))
        return plain(self, images, **options)

    monkeypatch.setattr(Encoder, "stages", counted)
    together = extract_stages(encoder, target, ROWS, stages)
    assert seen == [3]  # one batch, and a picture asked for twice counts once
    assert list(together) == stages
    for stage in stages:
        np.testing.assert_allclose(together[stage], single[stage], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(extract(encoder, target, ROWS, stage="map"), together["map"])
    assert seen == [3]  # read from the cache
    more = extract_stages(encoder, target, np.r_[ROWS, 8], ["map", "layer4"])
    assert seen == [3, 4]  # layer4 was not there, and row 8 was not
    np.testing.assert_array_equal(more["map"][:4], together["map"])
    np.testing.assert_allclose(more["layer4"][:4], single[None], rtol=1e-5, atol=1e-6)


def test_large_pictures_go_through_in_smaller_batches(
    target: RadiographStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = PixelEncoder.forward

    def counted(self: PixelEncoder, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(PixelEncoder, "forward", counted)
    for size in (32, 518):
        extract(PixelEncoder(size), target, np.arange(30), cache=False)
    assert seen == [30, 15, 15]


def test_the_pixel_baseline_is_the_picture(target: RadiographStore) -> None:
    pixels = extract(PixelEncoder(32), target, ROWS)
    np.testing.assert_allclose(pixels, target.images[ROWS].reshape(4, -1) / 255, rtol=1e-6)
    assert extract(PixelEncoder(8), target, ROWS).shape == (4, 64)


@pytest.mark.parametrize("stage", ["layer5", "map:", "map:layer9", "layer4x"])
def test_an_unknown_stage_is_named(encoder: Encoder, target: RadiographStore, stage: str) -> None:
    with pytest.raises(InputError, match="Unknown stage"):
        extract(encoder, target, ROWS, stage=stage)


def test_what_cannot_be_extracted(encoder: Encoder, target: RadiographStore) -> None:
    with pytest.raises(InputError, match="no images"):
        extract(encoder, target, np.array([], dtype=int))
    with pytest.raises(InputError, match="no stages"):
        extract(PixelEncoder(), target, ROWS, stage="layer3")
    with torch.no_grad():
        encoder.trunk.conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="of 3 images are NaN"):
        extract(encoder, target, ROWS)
