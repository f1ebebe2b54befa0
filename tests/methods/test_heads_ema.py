"""Projection heads and moving averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scxr.methods import ema
from scxr.methods.heads import mlp


def kinds(module: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in module]


def test_mlp_ends_bare():
    assert kinds(mlp(4, 8, 2, norm=False)) == ["Linear", "ReLU", "Linear"]
    assert kinds(mlp(4, 8, 8, 2, norm=True)) == [
        *("Linear", "BatchNorm1d", "ReLU"),
        *("Linear", "BatchNorm1d", "ReLU"),
        "Linear",
    ]


def test_mlp_has_no_bias_that_a_norm_would_take_off():
    head = mlp(4, 8, 8, 2, norm=True)
    assert [layer.bias is not None for layer in head if isinstance(layer, nn.Linear)] == [
        False,
        False,
        True,
    ]
    plain = mlp(4, 8, 2, norm=False)
    assert all(layer.bias is not None for layer in plain if isinstance(layer, nn.Linear))


def test_ema_by_hand():
    average, source = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        average.weight.fill_(1)
        average.bias.fill_(2)
        source.weight.fill_(5)
        source.bias.fill_(10)
    ema.update(average, source, 0.9)  # 0.9 * 1 + 0.1 * 5 and 0.9 * 2 + 0.1 * 10
    assert average.weight.item() == pytest.approx(1.4)
    assert average.bias.item() == pytest.approx(2.8)
    assert (source.weight.item(), source.bias.item()) == (5, 10)


def test_ema_forgets_geometrically():
    average, source = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        average.weight.fill_(1)
        source.weight.fill_(0)
    for _ in range(20):
        ema.update(average, source, 0.9)
    assert average.weight.item() == pytest.approx(0.9**20, rel=1e-5)


def test_ema_leaves_buffers_alone():
    average, source = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    source.running_mean.fill_(7)
    ema.update(average, source, 0.0)
    assert average.running_mean.tolist() == [0, 0]


def test_frozen_copy_shares_nothing():
    source = nn.Linear(3, 3)
    copy = ema.frozen_copy(source)
    assert torch.equal(copy.weight, source.weight)
    assert copy.weight.data_ptr() != source.weight.data_ptr()
    assert not any(p.requires_grad for p in copy.parameters())
    assert all(p.requires_grad for p in source.parameters())


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0), (1 / 3, 0.925)]
)
def test_cosine_momentum(progress, expected):
    # cos(pi / 3) = 1/2: a quarter of the way from 0.9 to 1.
    assert ema.cosine_momentum(0.9, progress) == pytest.approx(expected)
