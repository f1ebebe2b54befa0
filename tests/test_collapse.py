"""The collapse numbers against closed forms, and what each of them cannot see."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scxr.collapse import (
    ALIKE,
    Monitor,
    effective_rank,
    mean_cosine,
    measure,
    rankme,
    spectrum,
)
from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.seeds import generator


def normal(n: int, d: int, name: str = "x") -> Tensor:
    return torch.randn(n, d, generator=generator(0, "test", name), dtype=torch.float64)


def cross(d: int) -> Tensor:
    """(2d, d): plus and minus every axis. Mean 0, all singular values sqrt(2)."""
    return torch.cat([torch.eye(d), -torch.eye(d)]).double()


# --- closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 16])
def test_isotropic_features_use_every_direction(d):
    x = cross(d)
    torch.testing.assert_close(spectrum(x), torch.full((d,), math.sqrt(2), dtype=torch.float64))
    assert effective_rank(x) == pytest.approx(d)
    assert rankme(x) == pytest.approx(d, rel=1e-4)
    # Every vector meets its opposite once and is at right angles to the rest.
    assert mean_cosine(x) == pytest.approx(-1 / (2 * d - 1))


def test_two_unequal_directions_by_hand():
    # Singular values 3 sqrt(2) and sqrt(2): p = 3/4, 1/4 and exp(entropy) = 4 / 3^(3/4).
    x = cross(2) * torch.tensor([3.0, 1.0])
    assert effective_rank(x) == pytest.approx(4 / 3**0.75)
    assert rankme(x) == pytest.approx(4 / 3**0.75, rel=1e-4)


def test_rank_one_features_use_one_direction():
    x = normal(50, 1) * normal(1, 20, "direction")
    assert effective_rank(x) == pytest.approx(1, abs=1e-6)
    assert rankme(x) == pytest.approx(1, abs=1e-3)
    assert spectrum(x)[1:].max() < 1e-10


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -1000 / 7, 1e6 / 3])
def test_constant_features_have_no_direction(value):
    x = torch.full((50, 32), value, dtype=torch.float64)
    assert effective_rank(x) == 0
    numbers = measure(x)
    assert numbers["std"] == pytest.approx(0, abs=1e-6)
    assert numbers["std_normalised"] == pytest.approx(0, abs=1e-6)
    if value:
        assert numbers["rankme"] == pytest.approx(1, abs=1e-3)  # one direction: the mean's
        assert numbers["mean_cosine"] == pytest.approx(1)


def test_fewer_images_than_dimensions():
    # N orthogonal vectors span N directions; their mean takes one of them away.
    x = torch.eye(8, 64)
    assert len(spectrum(x)) == 8
    assert rankme(x) == pytest.approx(8, rel=1e-4)
    assert effective_rank(x) == pytest.approx(7)
    assert mean_cosine(x) == pytest.approx(0, abs=1e-12)


def test_a_narrow_cone_fools_the_effective_rank_alone():
    # All images nearly alike, with a little isotropic difference: centring hides what they share.
    x = normal(512, 32) + 1000 * torch.ones(32)
    numbers = measure(x)
    assert numbers["effective_rank"] > 30
    assert numbers["std"] == pytest.approx(1, abs=0.1)
    assert numbers["rankme"] < 1.5
    assert numbers["mean_cosine"] > 0.999
    assert numbers["std_normalised"] < 0.01 / math.sqrt(32)


def test_spread_directions_have_a_normalised_std_of_one_over_root_d():
    numbers = measure(normal(4000, 64))
    assert numbers["std_normalised"] == pytest.approx(1 / 8, rel=0.02)
    assert numbers["std"] == pytest.approx(1, rel=0.02)
    assert abs(numbers["mean_cosine"]) < 0.01


def test_scale_changes_the_raw_std_and_nothing_else():
    small, large = measure(normal(64, 16)), measure(100 * normal(64, 16))
    assert large.pop("std") == pytest.approx(100 * small.pop("std"))
    assert large == pytest.approx(small)


def test_mean_cosine_is_the_mean_over_all_pairs():
    x = normal(13, 5) + 0.3
    pairs = [
        float(torch.nn.functional.cosine_similarity(x[i], x[j], dim=0))
        for i in range(13)
        for j in range(13)
        if i != j
    ]
    assert mean_cosine(x) == pytest.approx(np.mean(pairs), abs=1e-12)


@pytest.mark.parametrize("centre", [True, False])
def test_spectrum_squares_to_the_second_moments(centre):
    x = normal(40, 6) + 2
    moved = x - x.mean(dim=0) if centre else x
    eigenvalues = torch.linalg.eigvalsh(moved.T @ moved).flip(0)
    torch.testing.assert_close(spectrum(x, centre=centre).pow(2), eigenvalues)


def test_rotating_the_features_changes_neither_rank():
    x = normal(40, 6) * torch.arange(1.0, 7.0)
    rotation = torch.linalg.qr(normal(6, 6, "rotation")).Q
    assert effective_rank(x @ rotation) == pytest.approx(effective_rank(x))
    assert rankme(x @ rotation) == pytest.approx(rankme(x))


def test_rankme_follows_its_formula():
    # Garrido et al. 2023, equation 1: p_k = sigma_k / |sigma|_1 + 1e-7, exp(-sum p log p).
    x = normal(30, 12).numpy() + 0.5
    sigma = np.linalg.svd(x, compute_uv=False)
    p = sigma / sigma.sum() + 1e-7
    assert rankme(x) == pytest.approx(float(np.exp(-(p * np.log(p)).sum())), rel=1e-9)


def test_arrays_and_tensors_are_the_same_features():
    x = normal(20, 8).float()
    assert measure(x) == measure(x.numpy()) == measure(x.clone().requires_grad_())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(8), "must be \\(N, D\\)"),
        (torch.zeros(1, 8), "N >= 2"),
        (torch.zeros(2, 2, 2), "must be \\(N, D\\)"),
        (torch.tensor([[1.0, 2.0], [math.nan, 0.0]]), "NaN or infinity"),
        (torch.tensor([[1.0, 2.0], [math.inf, 0.0]]), "NaN or infinity"),
    ],
)
def test_what_is_no_feature_matrix_is_refused(features, message):
    with pytest.raises(InputError, match=message):
        measure(features)


# --- the monitor -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("resnet18", image_size=32, mean=0.5, std=0.25, seed=1)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(12, 1, 32, 32, generator=generator(0, "test", "pictures"))


def test_monitor_measures_in_eval_mode_whatever_the_batch(encoder, pictures):
    encoder.eval()
    with torch.no_grad():
        features = encoder(pictures)
    encoder.train()
    rows = [Monitor(pictures, batch_size=size)(encoder) for size in (5, 256)]
    for row in rows:
        expected = measure(features)
        assert {k: row[k] for k in expected} == pytest.approx(expected, rel=1e-3)
        assert row["spectrum"] == pytest.approx(spectrum(features).tolist(), rel=5e-3, abs=1e-4)
        uncentred = spectrum(features, centre=False).tolist()
        assert row["spectrum_uncentred"] == pytest.approx(uncentred, rel=5e-3, abs=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_monitor_leaves_no_trace(encoder, pictures, training):
    encoder = copy.deepcopy(encoder).train(training)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    Monitor(pictures)(encoder)
    assert all(module.training == training for module in encoder.modules())
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())


def test_monitor_says_when_the_network_has_diverged(encoder, pictures):
    broken = copy.deepcopy(encoder)
    with torch.no_grad():
        broken.trunk.conv1.weight.fill_(math.nan)
    with pytest.raises(InputError, match="the network has diverged"):
        Monitor(pictures)(broken)


def test_half_precision_sees_the_same_features(encoder, pictures):
    monitors = [Monitor(pictures, half=half) for half in (False, True)]
    single, half = (monitor(encoder) for monitor in monitors)
    assert single["mean_cosine"] < ALIKE
    assert single["spectrum"] != half["spectrum"]
    for name in ("std", "std_normalised", "mean_cosine", "effective_rank", "rankme"):
        assert half[name] == pytest.approx(single[name], rel=0.02), name


def test_features_too_much_alike_for_half_precision_are_computed_in_single(encoder, pictures):
    alike = pictures.mean(dim=0) + 0.001 * (pictures - pictures.mean(dim=0))
    assert Monitor(alike)(encoder) == Monitor(alike, half=True)(encoder)
    half, single = (Monitor(alike).features(encoder, half=h) for h in (True, False))
    assert rankme(half) > 1.05 * rankme(single)  # rounding, taken for spread
