"""The masked ResNet is the ordinary one on what is visible, and blind to the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from scxr.encoders import build_encoder
from scxr.methods.sparse import masked_batch_norm, sparse_stages, visible_at


def norms(seed: int = 0) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    return norm, copy.deepcopy(norm)


def assert_same_statistics(a: nn.BatchNorm2d, b: nn.BatchNorm2d) -> None:
    torch.testing.assert_close(a.running_mean, b.running_mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(a.running_var, b.running_var, atol=1e-6, rtol=1e-5)
    assert a.num_batches_tracked == b.num_batches_tracked


def test_masked_batch_norm_is_batch_norm_when_all_is_visible(normal):
    ours, torchs = norms()
    everything = torch.ones(4, 1, 5, 5)
    for step in range(3):
        x = (3 * normal(4, 3, 5, 5, name=f"x{step}") + 1).requires_grad_()
        mine, theirs = masked_batch_norm(ours, x, everything), torchs(x)
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
        weights = normal(4, 3, 5, 5, name="weights")
        for a, b in zip(
            torch.autograd.grad((mine * weights).sum(), (x, ours.weight, ours.bias)),
            torch.autograd.grad((theirs * weights).sum(), (x, torchs.weight, torchs.bias)),
            strict=True,
        ):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        assert_same_statistics(ours, torchs)
    ours.eval(), torchs.eval()
    x = normal(4, 3, 5, 5, name="eval")
    torch.testing.assert_close(
        masked_batch_norm(ours, x, everything), torchs(x), atol=1e-5, rtol=1e-5
    )
    assert_same_statistics(ours, torchs)


def test_masked_batch_norm_is_batch_norm_of_the_visible_values(normal):
    ours, torchs = norms()
    x = normal(4, 3, 6, 6)
    visible = (torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    mine = masked_batch_norm(ours, x * visible, visible)
    where = visible[:, 0].bool()
    values = x.permute(0, 2, 3, 1)[where]  # (visible positions, 3)
    theirs = torchs(values[:, :, None, None])[:, :, 0, 0]
    torch.testing.assert_close(mine.permute(0, 2, 3, 1)[where], theirs, atol=1e-5, rtol=1e-5)
    assert (mine * (1 - visible)).abs().max() == 0  # the bias must not light masked positions up
    assert_same_statistics(ours, torchs)


def test_visibility_spreads_over_whole_patches():
    visible = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    spread = visible_at(visible, torch.zeros(1, 1, 6, 6))
    assert spread.shape == (1, 1, 6, 6)
    assert spread[0, 0, :3, :3].min() == 1
    assert spread[0, 0, :3, 3:].max() == 0


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("training", [True, False])
def test_everything_visible_is_the_ordinary_network(pictures, backbone, training):
    ours = build_encoder(backbone, image_size=32, mean=0.5, std=0.25, seed=1).train(training)
    dense = copy.deepcopy(ours)
    images = pictures(3, 64)
    for mine, theirs in zip(
        sparse_stages(ours, images, torch.ones(3, 1, 2, 2)), dense.stages(images), strict=True
    ):
        # Twelve positions at the deepest stage: batch norm enlarges what rounding leaves.
        torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=1e-3)
    for a, b in zip(ours.modules(), dense.modules(), strict=True):
        if isinstance(a, nn.BatchNorm2d):
            torch.testing.assert_close(a.running_mean, b.running_mean, atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(a.running_var, b.running_var, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_a_hidden_half_is_as_good_as_cut_off(encoder, pictures, training):
    # Masked positions are zero under every kernel, as padding is: hiding the right half must be
    # the ordinary network on the left half alone.
    dense = copy.deepcopy(encoder).train(training)
    encoder.train(training)
    images = pictures(4, 64)
    visible = torch.tensor([1.0, 0.0]).expand(4, 1, 2, 2)
    for mine, theirs in zip(
        sparse_stages(encoder, images, visible), dense.stages(images[..., :32]), strict=True
    ):
        width = theirs.shape[-1]
        torch.testing.assert_close(mine[..., :width], theirs, atol=2e-4, rtol=1e-3)
        assert mine[..., width:].abs().max() == 0


@pytest.mark.parametrize("training", [True, False])
def test_masked_pixels_change_nothing_at_all(encoder, pictures, training):
    encoder.train(training)
    visible = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).expand(2, 1, 2, 2)
    images, other = pictures(2, 64), pictures(2, 64, name="other")
    shown = visible_at(visible, images)
    mixed = images * shown + other * (1 - shown)
    first = sparse_stages(encoder, images, visible)
    second = sparse_stages(encoder, mixed, visible)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
