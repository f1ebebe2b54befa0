"""The reconstruction widget shows what the network painted, by the method's own arithmetic."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from widget_examples import PATCH, SIZE

from scxr.data.phantom import write_store
from scxr.errors import InputError
from scxr.explain.reconstruction import Reconstruction, reconstruct
from scxr.methods.spark import masked_patch_mse
from scxr.pretrain import pretrain
from scxr.runs import Run, write_json, write_tensors
from scxr.widgets import ReconstructionWidget
from scxr.widgets.base import PAGE_LIMIT
from scxr.widgets.packing import unpack
from scxr.widgets.reconstruction import ERROR_LEVELS, VIEWS


def test_scores_are_the_methods_loss(reconstruction, reconstructions):
    images = torch.from_numpy(reconstructions["images"]).float()[:, None] / 255
    for epoch, stacks in enumerate(reconstructions["predictions"]):
        for ratio, stack in enumerate(stacks):
            for image in range(2):
                loss = masked_patch_mse(
                    torch.from_numpy(stack[image])[None, None],
                    images[image : image + 1],
                    torch.from_numpy(reconstructions["masks"][ratio, image])[None],
                    PATCH,
                )
                assert reconstruction.scores[epoch][ratio * 2 + image] == pytest.approx(float(loss))
    assert reconstruction.scores[0][0] > reconstruction.scores[-1][0]


def pictures_of(widget, masks, predictions) -> tuple[dict, np.ndarray, float]:
    """Views by name, error and score of a widget's first image."""
    pictures, error, (score,) = widget.views(widget._images[:1], masks, predictions)
    return dict(zip(VIEWS, pictures[0], strict=True)), error[0], score


def test_composites_are_the_truth_where_visible_and_rescaled_paint_where_hidden():
    image = np.random.default_rng(0).integers(40, 200, (1, 32, 32), dtype=np.uint8)
    image[0, 16:, 16:] = 220
    mask = np.zeros((1, 2, 2), bool)
    mask[0, 0, 1] = True
    painted = np.zeros((1, 1, 32, 32), np.float32)  # nothing but the patch's mean
    widget = ReconstructionWidget(image, mask, painted, [0])
    shown, error, score = pictures_of(widget, mask, painted[0])
    visible = np.ones((32, 32), bool)
    visible[:16, 16:] = False
    for view in ("shown", "neighbours", "oracle", "global", "stitched"):
        assert np.array_equal(shown[view][visible], image[0][visible])
        assert np.ptp(shown[view][~visible]) == 0
    assert shown["oracle"][0, 20] == round(float(image[0, :16, 16:].mean()))
    assert shown["global"][0, 20] == round(float(image[0][visible].mean()))
    # Two patches at distance 1, one at the square root of 2: Gaussian weights of their means.
    weights = np.exp(-np.array([1, 1, 2]) / 2)
    means = [image[0, :16, :16].mean(), image[0, 16:, 16:].mean(), image[0, 16:, :16].mean()]
    assert shown["neighbours"][0, 20] == pytest.approx(np.average(means, weights=weights), abs=1)
    assert (shown["raw"] == 128).all()
    assert (error[visible] == 0).all() and error[~visible].max() > 0
    assert score == pytest.approx(1.0, abs=0.01)


def test_a_perfect_prediction_restores_the_picture():
    image = np.random.default_rng(1).integers(40, 200, (1, 32, 32), dtype=np.uint8)
    patches = image.reshape(2, 16, 2, 16).astype(np.float64) / 255
    mean, std = patches.mean((1, 3), keepdims=True), patches.std((1, 3), ddof=1, keepdims=True)
    prediction = ((patches - mean) / std).reshape(1, 1, 32, 32)
    mask = np.array([[[True, False], [False, True]]])
    widget = ReconstructionWidget(image, mask, prediction, [0])
    shown, error, score = pictures_of(widget, mask, prediction[0])
    assert np.abs(shown["oracle"].astype(int) - image[0]).max() <= 1
    assert score == pytest.approx(0.0, abs=1e-3)
    assert error[:16, :16].max() > 0  # its brightness and contrast are only guessed


@pytest.mark.browser
@pytest.mark.parametrize("view", ["stitched", "series"])
def test_stitched_and_feathered_pictures_can_be_chosen(
    reconstruction, reconstructions, show, pixels, view
):
    page = show(reconstruction)
    page.get_by_label(view, exact=True).check()
    result = Reconstruction(
        reconstructions["images"][:1].astype(np.float32) / 255,
        reconstructions["masks"][0, :1],
        reconstructions["predictions"][-1, 0, :1],
    )
    expected = 255 * result.composite(view)[0]
    shown = pixels(page, 2)[..., 0]
    assert np.abs(shown - expected).mean() < 4  # the page's pictures are JPEG
    assert np.abs(shown - 255 * result.composite("global")[0]).mean() > 5


def test_errors_travel_without_loss(reconstruction, reconstructions):
    errors = unpack(reconstruction.errors, SIZE, SIZE)
    assert len(errors) == 3 * 2 * 2
    place = (1 * 2 + 1) * 2 + 0  # epoch 1, ratio 1, image 0
    _, expected, _ = pictures_of(
        reconstruction,
        reconstructions["masks"][1, :1],
        reconstructions["predictions"][1, 1, :1],
    )
    assert np.array_equal(errors[place], expected)
    assert len(np.unique(errors)) <= ERROR_LEVELS + 1


def test_ratios_and_masks_say_what_was_hidden(reconstruction, reconstructions):
    assert reconstruction.ratios == pytest.approx(reconstructions["masks"].mean(axis=(1, 2, 3)))
    flat = reconstructions["masks"][1, 0].astype(int).ravel().tolist()
    assert reconstruction.masks[1][0] == flat


def test_one_mask_ratio_needs_no_axis_of_its_own(reconstructions):
    one = dict(reconstructions)
    one["masks"], one["predictions"] = one["masks"][0], one["predictions"][:, 0]
    widget = ReconstructionWidget(**one)
    assert len(widget.ratios) == 1
    picture = Image.open(io.BytesIO(widget.pictures))
    assert picture.size == (8 * SIZE, 5 * SIZE)  # 3 epochs x 2 images x 6 views, 8 in a row


def test_the_kernel_paints_what_the_reader_hides(reconstruction, ask):
    cells = [0] * 16
    cells[5] = 1
    answer, frames = ask(reconstruction, {"type": "predict", "id": 4, "image": 1, "mask": cells})
    mask = np.array(cells, bool).reshape(1, 4, 4)
    pictures, error, (score,) = reconstruction.views(
        reconstruction._images[1:], mask, np.ones((1, SIZE, SIZE))
    )
    assert answer == {"type": "predict", "id": 4, "score": pytest.approx(score)}
    for frame, expected in zip(frames, [*pictures[0], error[0]], strict=True):
        assert np.array_equal(np.frombuffer(frame, np.uint8).reshape(SIZE, SIZE), expected)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"image": 5, "mask": [1] * 16}, "There is no image 5"),
        ({"image": 0, "mask": [1] * 3}, "4 x 4 patches"),
        ({"image": 0, "mask": [0] * 16}, "Hide at least one patch"),
        ({"image": 0, "mask": [1] * 16}, "leave at least one patch visible"),
    ],
)
def test_masks_that_make_no_sense_are_answered_with_a_sentence(
    reconstruction, ask, content, sentence
):
    answer, _ = ask(reconstruction, {"type": "predict", "id": 1, **content})
    assert answer["type"] == "error" and sentence in answer["message"]


def test_a_network_that_fails_says_so_in_the_widget(reconstructions, ask):
    def broken(image, mask):
        raise RuntimeError("out of memory")

    widget = ReconstructionWidget(**reconstructions, predict=broken)
    answer, _ = ask(widget, {"type": "predict", "id": 1, "image": 0, "mask": [1] * 15 + [0]})
    assert answer["type"] == "error" and answer["message"] == "RuntimeError: out of memory"


def test_a_spark_runs_snapshots_are_played(tmp_path, reconstructions, ask):
    write_json(tmp_path / "config.json", {"format": 1, "method": "spark"})
    kept = reconstructions["predictions"][:, 0]
    for step, prediction in enumerate(kept):
        tensors = {
            "images": torch.from_numpy(reconstructions["images"]).float() / 255,
            "mask": torch.from_numpy(reconstructions["masks"][0]),
            "prediction": torch.from_numpy(prediction),
        }
        metadata = {"step": str(step), "epoch": str(2.0 * step)}
        write_tensors(tmp_path / "snapshots" / f"step_{step:07d}.safetensors", tensors, metadata)
    widget = ReconstructionWidget.from_run(Run.open(tmp_path), images=1)
    assert widget.epochs == [0.0, 2.0, 4.0] and widget.shape[0] == 1 and widget.grid == [4, 4]
    _, _, score = pictures_of(widget, reconstructions["masks"][0, :1], kept[-1, :1])
    assert widget.scores[-1] == [pytest.approx(score)]
    assert ask(widget, {"type": "ping"})[0]["abilities"] == []  # the run is not finished


def test_a_finished_runs_network_answers(tmp_path, ask):
    store = write_store(tmp_path / "store", 16, size=32)
    settings = {"steps": 2, "batch_size": 8, "image_size": 32, "decoder_width": 16}
    run = pretrain("spark", store, tmp_path / "run", settings=settings)
    widget = ReconstructionWidget.from_run(run, images=2)
    cells = [1, 0] * 8
    answer, frames = ask(widget, {"type": "predict", "id": 1, "image": 0, "mask": cells})
    picture = torch.from_numpy(widget._images[:1])[:, None]
    result = reconstruct(run, picture, mask=np.array(cells, bool).reshape(1, 4, 4))
    assert answer["score"] == pytest.approx(float(result.loss()[0]), rel=1e-4)
    composite = np.frombuffer(frames[VIEWS.index("neighbours")], np.uint8).reshape(32, 32)
    assert np.abs(composite - result.composite()[0] * 255).max() <= 1


def test_a_run_without_snapshots_is_refused(tmp_path):
    write_json(tmp_path / "config.json", {"format": 1, "method": "moco"})
    with pytest.raises(InputError, match="reconstructs nothing"):
        ReconstructionWidget.from_run(Run.open(tmp_path))
    write_json(tmp_path / "config.json", {"format": 1, "method": "spark"})
    with pytest.raises(InputError, match="kept no reconstructions"):
        ReconstructionWidget.from_run(Run.open(tmp_path))


def test_shapes_that_do_not_belong_together_are_refused(reconstructions):
    for change in (
        {"epochs": [0.0]},
        {"masks": np.ones((2, 3, 3), bool)},
        {"masks": np.ones((1, 4, 4), bool)},
    ):
        with pytest.raises(InputError):
            ReconstructionWidget(**(reconstructions | change))


def test_four_radiographs_and_eight_epochs_stay_under_the_page_limit(real_cxr):
    files = sorted((real_cxr / "cxr256").glob("*.png"))[:4]
    images = np.stack([np.asarray(Image.open(f).convert("L").resize((224, 224))) for f in files])
    source = np.random.default_rng(0)
    masks = source.random((4, 7, 7)) < 0.6
    coarse = source.normal(size=(8, 4, 28, 28)).astype(np.float32)
    predictions = coarse.repeat(8, axis=2).repeat(8, axis=3)
    widget = ReconstructionWidget(images, masks, predictions, list(range(8)))
    assert widget.page_bytes() < PAGE_LIMIT
    assert widget.shape == [4, 128, 128]
