"""Reconstructions: what a perfect painter would show, and a real run painting again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from scxr.data import RadiographStore
from scxr.errors import InputError
from scxr.explain.exposure import (
    neighbour_statistics,
    spread,
    stitched_statistics,
    visible_statistics,
)
from scxr.explain.reconstruction import (
    STATISTICS,
    Reconstruction,
    load_spark,
    over_training,
    reconstruct,
    reconstruction_figure,
)
from scxr.methods.spark import masked_patch_mse
from scxr.pretrain import pretrain
from scxr.runs import Run


@pytest.fixture
def perfect() -> Reconstruction:
    """Pictures of 16 px in patches of 4, painted without error in each patch's own scale."""
    random = np.random.default_rng(0)
    images = random.uniform(0.2, 0.8, (3, 16, 16)).astype(np.float32)
    blocks = images.reshape(3, 4, 4, 4, 4)
    mean = blocks.mean(axis=(2, 4))
    std = np.sqrt(blocks.var(axis=(2, 4), ddof=1) + 1e-6)
    prediction = ((images - spread(mean, 4)) / spread(std, 4)).astype(np.float32)
    return Reconstruction(images, random.random((3, 4, 4)) < 0.6, prediction)


def test_a_perfect_painter_with_the_true_statistics_restores_the_picture(
    perfect: Reconstruction,
) -> None:
    assert perfect.patch_size == 4
    np.testing.assert_allclose(perfect.composite("oracle"), perfect.images, atol=1e-5)
    assert perfect.error("oracle").max() < 1e-5
    np.testing.assert_allclose(perfect.loss(), 0, atol=1e-8)


def test_painting_the_mean_costs_about_one(perfect: Reconstruction) -> None:
    grey = replace(perfect, prediction=np.zeros_like(perfect.prediction))
    pixels = 16
    np.testing.assert_allclose(grey.loss(), (pixels - 1) / pixels, rtol=1e-3)
    one = masked_patch_mse(
        torch.zeros(1, 1, 16, 16),
        torch.from_numpy(perfect.images[:1, None]),
        torch.from_numpy(perfect.mask[:1]),
        4,
    )
    assert grey.loss()[0] == pytest.approx(float(one))


def test_global_statistics_are_those_of_the_visible_pixels(perfect: Reconstruction) -> None:
    visible = perfect.images[0][~perfect.hidden[0]]
    mean, std = visible_statistics(perfect.images, perfect.hidden)
    assert mean[0].item() == pytest.approx(visible.mean(), rel=1e-5)
    assert std[0].item() == pytest.approx(visible.std(), rel=1e-5)
    painted = perfect.painted("global")[0]
    np.testing.assert_allclose(
        painted, perfect.prediction[0] * visible.std() + visible.mean(), rtol=1e-4
    )


@pytest.mark.parametrize("statistics", ["neighbours", "stitched", "global"])
def test_honest_statistics_never_look_at_what_was_hidden(
    perfect: Reconstruction, statistics: str
) -> None:
    forged = np.where(perfect.hidden, 1 - perfect.images**3, perfect.images)
    other = replace(perfect, images=forged.astype(np.float32))
    np.testing.assert_allclose(
        perfect.painted(statistics)[perfect.hidden],
        other.painted(statistics)[perfect.hidden],
        rtol=1e-5,
    )
    assert (perfect.painted("oracle") != other.painted("oracle"))[perfect.hidden].any()


@pytest.mark.parametrize("statistics", STATISTICS)
def test_visible_pixels_stay_as_they_are(perfect: Reconstruction, statistics: str) -> None:
    composite = perfect.composite(statistics)
    np.testing.assert_array_equal(composite[~perfect.hidden], perfect.images[~perfect.hidden])
    assert composite.min() >= 0 and composite.max() <= 1
    assert (perfect.error(statistics)[~perfect.hidden] == 0).all()
    shown = perfect.shown()
    np.testing.assert_array_equal(shown[~perfect.hidden], perfect.images[~perfect.hidden])
    assert all(len(np.unique(shown[i][perfect.hidden[i]])) == 1 for i in range(3))


def test_stitching_finds_the_exposure_of_a_continuous_picture() -> None:
    """A smooth picture, painted perfectly: its borders agree with the true exposure alone."""
    y, x = np.mgrid[:32, :32] / 32
    images = (0.5 + 0.2 * np.sin(5 * x + 1) * np.cos(4 * y))[None].astype(np.float32)
    blocks = images.reshape(1, 4, 8, 4, 8)
    mean = blocks.mean(axis=(2, 4))
    std = np.sqrt(blocks.var(axis=(2, 4), ddof=1) + 1e-6)
    prediction = ((images - spread(mean, 8)) / spread(std, 8)).astype(np.float32)
    mask = np.random.default_rng(3).random((1, 4, 4)) < 0.5
    result = Reconstruction(images, mask, prediction)

    def jump(pictures: np.ndarray) -> float:
        across = np.abs(np.diff(pictures, axis=2))[:, :, 7:-1:8].sum()
        return float(across + np.abs(np.diff(pictures, axis=1))[:, 7:-1:8].sum())

    error = {name: result.error(name)[result.hidden].mean() for name in STATISTICS}
    seam = {name: jump(result.composite(name)) / jump(images) for name in STATISTICS}
    assert error["stitched"] < error["neighbours"] / 3 < error["global"]
    assert seam["stitched"] < 1.3 < seam["neighbours"] < seam["global"]


def test_stitching_is_the_least_squares_solution_of_its_borders() -> None:
    """Two patches side by side, one hidden: two unknowns, written out by hand."""
    random = np.random.default_rng(0)
    images, prediction = random.random((2, 1, 4, 8)).astype(np.float32)
    mask = np.array([[[False, True]]])
    guess = np.array([[[0.4, 0.6]]]), np.array([[[0.2, 0.3]]])
    mean, std = stitched_statistics(images, mask, prediction, *guess, weight=0.5)
    edge = np.stack([np.ones(4), prediction[0, :, 4]], axis=1)
    lhs = np.vstack([edge, 0.5 * np.eye(2)])
    rhs = np.concatenate([images[0, :, 3], 0.5 * np.array([0.6, 0.3])])
    expected = np.linalg.lstsq(lhs, rhs, rcond=None)[0]
    np.testing.assert_allclose([mean[0, 0, 1], std[0, 0, 1]], expected.clip([-9, 0]), rtol=1e-4)
    assert (mean[0, 0, 0], std[0, 0, 0]) == pytest.approx((0.4, 0.2))


def test_the_series_picture_is_feathered_and_lets_hidden_pixels_through(
    perfect: Reconstruction,
) -> None:
    shown = perfect.composite("series")
    assert shown.shape == perfect.images.shape and shown.min() >= 0 and shown.max() <= 1
    forged = np.where(perfect.hidden, 0.9, perfect.images).astype(np.float32)
    other = replace(perfect, images=forged).composite("series")
    assert np.abs(other - shown)[perfect.hidden].max() > 0.01  # the truth shows near the edges
    inside = Reconstruction(
        np.full((1, 160, 160), 0.5, np.float32),
        np.pad([[[True]]], ((0, 0), (2, 2), (2, 2))),
        np.ones((1, 160, 160), np.float32),
    )
    assert inside.composite("series")[0, 80, 80] == pytest.approx(
        inside.painted("global")[0, 80, 80]
    )


def test_neighbours_fill_in_by_distance() -> None:
    values = np.array([[[1.0, 99.0, 3.0]]])
    filled = neighbour_statistics(values, np.array([[[False, True, False]]]))
    np.testing.assert_allclose(filled, [[[1, 2, 3]]], rtol=1e-5)
    values = np.array([[[1.0, 99.0, 99.0, 5.0]]])
    filled = neighbour_statistics(values, np.array([[[False, True, True, False]]]))
    near, far = np.exp(-0.5), np.exp(-2)
    expected = (1 * near + 5 * far) / (near + far)
    assert filled[0, 0, 1] == pytest.approx(expected, rel=1e-5)
    assert filled[0, 0, 2] == pytest.approx(6 - expected, rel=1e-5)
    flat = neighbour_statistics(np.full((1, 9, 9), 0.4), ~np.eye(9, dtype=bool)[None])
    np.testing.assert_allclose(flat, 0.4, rtol=1e-5)


def test_shapes_that_do_not_belong_together(perfect: Reconstruction) -> None:
    with pytest.raises(InputError, match="do not belong together"):
        replace(perfect, prediction=perfect.prediction[:2])
    with pytest.raises(InputError, match="does not divide"):
        replace(perfect, mask=np.zeros((3, 5, 4), dtype=bool))
    with pytest.raises(InputError, match="hidden completely"):
        replace(perfect, mask=np.ones((3, 4, 4), dtype=bool)).composite("global")
    with pytest.raises(InputError, match="Unknown statistics"):
        perfect.composite("mean")


@pytest.fixture(scope="module")
def run(target: RadiographStore, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A SparK run of three steps."""
    settings = {"steps": 3, "batch_size": 8, "image_size": 32, "decoder_width": 32}
    return pretrain("spark", target, tmp_path_factory.mktemp("runs") / "spark", settings=settings)


def test_a_run_paints_again_what_it_painted_at_the_end(run: Run) -> None:
    history = over_training(run)
    assert len(history) >= 2 and history[-1].epoch > history[0].epoch
    last = history[-1]
    again = reconstruct(run, torch.from_numpy(last.images)[:, None], mask=last.mask)
    # Training runs in bfloat16 where it can; the snapshot of its last step is that exact.
    np.testing.assert_allclose(again.prediction, last.prediction, atol=0.05)
    assert len(over_training(run, images=2)[0].images) == 2


def test_the_network_of_a_run_is_read_back_with_its_own_settings(run: Run) -> None:
    method = load_spark(run)
    assert method.settings.decoder_width == 32 and method.settings.steps == 3
    assert not method.training
    assert not any(p.requires_grad for p in method.parameters())


def test_hidden_pixels_do_not_reach_the_network(run: Run, target: RadiographStore) -> None:
    images = target.batch(np.arange(2)).float() / 255
    first = reconstruct(run, images, seed=1)
    forged = torch.where(torch.from_numpy(first.hidden)[:, None], 1 - images, images)
    second = reconstruct(run, forged, mask=first.mask)
    np.testing.assert_allclose(first.prediction, second.prediction, atol=1e-5)
    other = reconstruct(run, images, seed=2)
    assert (first.mask != other.mask).any()


def test_the_figure_and_its_numbers(run: Run, target: RadiographStore) -> None:
    figure, numbers = reconstruction_figure(run.path, target, images=2)
    assert isinstance(figure, Figure)
    assert set(numbers) == {"loss", *(f"error_{name}" for name in STATISTICS)}
    assert numbers["error_oracle"] < numbers["error_global"]
    assert reconstruction_figure(run, target, images=2)[1] == numbers


def test_only_spark_reconstructs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"method": "moco"}))
    with pytest.raises(InputError, match="is a moco run and reconstructs nothing"):
        over_training(Run.open(tmp_path))
    with pytest.raises(InputError, match="moco run"):
        load_spark(Run.open(tmp_path))
