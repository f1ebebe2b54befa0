"""SparK: the loss on paper, the masks, and what each form may see of a hidden patch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.methods.spark import (
    Densify,
    SparK,
    SparKSettings,
    masked_patch_mse,
    patch_statistics,
    random_mask,
)
from scxr.seeds import generator

# --- the loss ----------------------------------------------------------------------------------


def test_patch_statistics_by_hand():
    # Left patch 0, 0, 2, 2: mean 1, unbiased variance 4 / 3. Right patch constant 5.
    image = torch.tensor([[[[0.0, 2.0, 5.0, 5.0], [0.0, 2.0, 5.0, 5.0]]]])
    mean, std = patch_statistics(image, 2)
    torch.testing.assert_close(mean[0, 0, 0], torch.tensor([1.0, 1.0, 5.0, 5.0]))
    expected = torch.tensor([4 / 3 + 1e-6, 4 / 3 + 1e-6, 1e-6, 1e-6]).sqrt()
    torch.testing.assert_close(std[0, 0, 0], expected)


def test_masked_patch_mse_by_hand():
    # The scaled left patch is -/+ sqrt(3)/2; predicting 0 costs 3/4 a pixel, predicting the
    # target costs nothing, predicting 1 too much costs 1. Nobody asks about the right patch.
    image = torch.tensor([[[[0.0, 2.0, 5.0, 9.0], [0.0, 2.0, 7.0, 5.0]]]])
    mask = torch.tensor([[[True, False]]])
    zero = torch.zeros(1, 1, 2, 4)
    assert masked_patch_mse(zero, image, mask, 2).item() == pytest.approx(0.75, abs=1e-5)
    target = torch.full((1, 1, 2, 4), 3**0.5 / 2)
    target[..., 0] *= -1
    assert masked_patch_mse(target, image, mask, 2).item() == pytest.approx(0, abs=1e-6)
    assert masked_patch_mse(target + 1, image, mask, 2).item() == pytest.approx(1, abs=1e-4)


def test_loss_agrees_with_patches_cut_out_one_by_one(normal, pictures):
    # MAE's own formulation: (image, patch, pixel) rows, torch's unbiased variance.
    images, prediction = pictures(3, 32), normal(3, 1, 32, 32).requires_grad_()
    mask = random_mask(3, 4, 0.6, generator(0, "mask"))

    def rows(x: torch.Tensor) -> torch.Tensor:
        return F.unfold(x, 8, stride=8).transpose(1, 2)

    target = rows(images)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    error = (rows(prediction) - target).pow(2).mean(-1)
    theirs = (error * mask.flatten(1)).sum() / mask.sum()
    ours = masked_patch_mse(prediction, images, mask, 8)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    (mine,), (other,) = (torch.autograd.grad(loss, prediction) for loss in (ours, theirs))
    torch.testing.assert_close(mine, other, atol=1e-7, rtol=1e-4)


def test_predicting_nothing_costs_about_one(pictures):
    images = pictures(8, 64)
    mask = random_mask(8, 8, 0.6, generator(0, "mask"))
    loss = masked_patch_mse(torch.zeros_like(images), images, mask, 8).item()
    assert loss == pytest.approx(63 / 64, abs=1e-3)  # biased over unbiased variance


def test_loss_does_not_look_at_what_was_visible(normal, pictures):
    images, prediction = pictures(2, 32), normal(2, 1, 32, 32)
    mask = random_mask(2, 4, 0.5, generator(0, "mask"))
    hidden = F.interpolate(mask[:, None].float(), scale_factor=8.0)
    elsewhere = prediction + 100 * (1 - hidden)
    repainted = images * hidden + 0.3 * (1 - hidden)
    loss = masked_patch_mse(prediction, images, mask, 8)
    assert torch.equal(masked_patch_mse(elsewhere, images, mask, 8), loss)
    assert torch.equal(masked_patch_mse(prediction, repainted, mask, 8), loss)


# --- masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grid", "ratio", "count"), [(7, 0.6, 29), (8, 0.6, 38), (4, 0.75, 12), (2, 0.5, 2)]
)
def test_masks_hide_the_same_number_of_patches_of_every_image(grid, ratio, count):
    mask = random_mask(32, grid, ratio, generator(0, "mask"))
    assert mask.shape == (32, grid, grid)
    assert mask.dtype == torch.bool
    assert mask.flatten(1).sum(dim=1).tolist() == [count] * 32


def test_masks_differ_between_images_and_cover_evenly():
    mask = random_mask(4000, 7, 0.6, generator(0, "mask")).float()
    assert len(mask.flatten(1).unique(dim=0)) > 3990
    # Each patch is hidden with p = 29/49; five standard errors of 4000 draws are 0.039.
    assert (mask.mean(dim=0) - 29 / 49).abs().max() < 0.039


def test_masks_are_replayed_by_their_generator():
    first = random_mask(4, 7, 0.6, generator(5, "mask"))
    assert torch.equal(first, random_mask(4, 7, 0.6, generator(5, "mask")))
    assert not torch.equal(first, random_mask(4, 7, 0.6, generator(6, "mask")))


# --- the method --------------------------------------------------------------------------------


def small(**changes) -> SparKSettings:
    defaults = {"image_size": 64, "patch_size": 32, "batch_size": 2, "decoder_width": 32}
    return SparKSettings(**{**defaults, **changes})


@pytest.fixture
def hidden_corner():
    mask = torch.zeros(2, 2, 2, dtype=torch.bool)
    mask[:, 0, 1] = mask[:, 1, 0] = True
    return mask


def spread(mask: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(mask[:, None].float(), (size, size))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["sparse", "input"])
def test_hidden_pixels_do_not_leak_into_the_prediction(
    encoder, pictures, hidden_corner, form, training
):
    spark = SparK(encoder, small(form=form)).train(training)
    images, other = pictures(2, 64), pictures(2, 64, name="other")
    hidden = spread(hidden_corner, 64)
    changed = images * (1 - hidden) + other * hidden
    assert torch.equal(spark.predict(images, hidden_corner), spark.predict(changed, hidden_corner))


@pytest.mark.parametrize(("form", "bleeds"), [("sparse", False), ("input", True)])
def test_visible_pixels_bleed_into_hidden_positions_only_in_the_input_form(
    encoder, pictures, hidden_corner, form, bleeds
):
    spark = SparK(encoder, small(form=form)).eval()
    seen: list[torch.Tensor] = []
    spark.decoder.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    images, other = pictures(2, 64), pictures(2, 64, name="other")
    hidden = spread(hidden_corner, 64)
    spark.predict(images, hidden_corner)
    spark.predict(images * hidden + other * (1 - hidden), hidden_corner)  # other visible pixels
    for before, after in zip(seen[:4], seen[4:], strict=True):
        at_hidden = spread(hidden_corner, before.shape[-1])
        assert (((before - after) * at_hidden).abs().max() > 0).item() == bleeds
        assert ((before - after) * (1 - at_hidden)).abs().max() > 0


def test_sparse_decoder_meets_mask_tokens_where_patches_are_hidden(
    encoder, pictures, hidden_corner
):
    spark = SparK(encoder, small(form="sparse")).eval()
    seen: list[torch.Tensor] = []
    spark.decoder.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    spark.predict(pictures(2, 64), hidden_corner)
    assert len(seen) == len(spark.densify) == 4
    for features, token in zip(seen, (d.mask_token for d in spark.densify), strict=True):
        at_hidden = spread(hidden_corner, features.shape[-1])[:, 0].bool()
        values = features.permute(0, 2, 3, 1)[at_hidden]
        assert torch.equal(values, token.flatten().expand_as(values))


@pytest.mark.parametrize("form", ["sparse", "input"])
def test_every_trained_weight_has_a_gradient(encoder, pictures, form):
    spark = SparK(encoder, small(form=form))
    views = spark.views(pictures(2, 64), generator(0, "views"))
    loss = spark(views)["reconstruction"]
    expected = masked_patch_mse(spark.predict(*views), views[0], views[1], 32)
    # Batch norm in training mode gives the same output twice, whatever its running statistics.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    loss.backward()
    without = [name for name, p in spark.named_parameters() if p.grad is None]
    assert without == []


def test_views_are_one_picture_and_its_mask(encoder, pictures):
    spark = SparK(encoder, small())
    view, mask = spark.views(pictures(2, 96), generator(0, "views"))
    assert view.shape == (2, 1, 64, 64)
    assert mask.shape == (2, 2, 2)
    again = spark.views(pictures(2, 96), generator(0, "views"))
    assert torch.equal(view, again[0])
    assert torch.equal(mask, again[1])


@pytest.mark.parametrize("stem", ["imagenet", "no-maxpool"])
def test_prediction_has_the_size_of_the_picture(pictures, stem):
    encoder = build_encoder("resnet18", image_size=32, mean=0.5, std=0.25, stem=stem)
    spark = SparK(encoder, small(image_size=32, patch_size=8, stem=stem)).eval()
    mask = random_mask(2, 4, 0.6, generator(0, "mask"))
    assert spark.predict(pictures(2, 32), mask).shape == (2, 1, 32, 32)


def test_snapshot_is_reproducible_and_leaves_no_trace(encoder, pictures):
    spark = SparK(encoder, small())
    before = {k: v.clone() for k, v in spark.state_dict().items()}
    first, second = spark.snapshot(pictures(2, 64)), spark.snapshot(pictures(2, 64))
    assert first.keys() == {"images", "mask", "prediction"}
    assert first["images"].shape == first["prediction"].shape == (2, 64, 64)
    assert first["mask"].shape == (2, 2, 2)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.equal(v, before[k]) for k, v in spark.state_dict().items())
    assert spark.training
    assert spark.encoder.trunk.layer1.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 24}, "patch_size 24 does not divide image_size 64"),
        ({"form": "dense"}, "choose input or sparse"),
        ({"form": "sparse", "patch_size": 16}, "no multiple of 32"),
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"mask_ratio": 0.2}, "mask_ratio"),  # 0.2 of four patches is none
    ],
)
def test_settings_that_do_not_fit_are_refused(encoder, changes, message):
    with pytest.raises(InputError, match=message):
        SparK(encoder, small(**changes))


def test_densify_normalises_what_is_visible_and_fills_the_rest(normal):
    fill = Densify(3)
    visible = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).expand(4, 1, 2, 2)
    at = torch.nn.functional.interpolate(visible, (4, 4)).bool().expand(4, 3, 4, 4)
    dense = fill(5 + 2 * normal(4, 3, 4, 4), visible)
    for channel in range(3):
        seen = dense[:, channel][at[:, channel]]
        assert seen.mean().item() == pytest.approx(0.0, abs=1e-4)
        assert seen.std(correction=0).item() == pytest.approx(1.0, abs=1e-3)
        hidden = dense[:, channel][~at[:, channel]]
        assert torch.equal(hidden, fill.mask_token[channel].expand_as(hidden))
    assert fill.mask_token.ndim == 1, "weight decay spares vectors, and has to spare the tokens"
