"""The Grad-CAM widget shows the maps it was given, and scores that can be checked by hand."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from widget_examples import SIZE

from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.evaluate.heads import Classifier, LinearHead
from scxr.explain.findings import Explanation
from scxr.explain.gradcam import class_activation_maps
from scxr.widgets import GradCamWidget
from scxr.widgets.base import PAGE_LIMIT
from scxr.widgets.packing import unpack


def entry(widget: GradCamWidget, **wanted) -> dict:
    """The one entry that fits."""
    (found,) = [e for e in widget.entries if all(e[k] == v for k, v in wanted.items())]
    return found


def test_maps_and_regions_travel_without_loss(gradcam, cams, chests):
    maps = unpack(gradcam.maps, SIZE, SIZE)
    regions = unpack(gradcam.regions, SIZE, SIZE)
    assert len(gradcam.entries) == 2 * 2 * 2  # a finding is shown on the one image that has it
    for e in gradcam.entries:
        cam = cams[e["init"], e["stage"], e["finding"]][e["image"]]
        assert np.array_equal(maps[e["map"]], np.rint(cam * 255).astype(np.uint8))
        assert np.array_equal(regions[e["region"]], chests["masks"][e["finding"]][e["image"]])
        y, x = np.unravel_index(cam.argmax(), cam.shape)
        assert e["peak"] == [x + 0.5, y + 0.5]


def test_scores_tell_a_network_that_looks_from_one_that_does_not(gradcam, cams, chests):
    for finding, image in (("pulmonary mass", 0), ("hiatal hernia", 1)):
        wanted = {"stage": "layer3", "finding": finding}
        good = entry(gradcam, init="MoCo v2", **wanted)
        poor = entry(gradcam, init="random", **wanted)
        mask = chests["masks"][finding][image]
        cam = cams["MoCo v2", "layer3", finding][image]
        assert good["hit"] == 1.0 and poor["hit"] == 0.0
        assert good["energy_inside"] == pytest.approx(cam[mask].sum() / cam.sum(), rel=1e-4)
        assert good["energy_inside"] > good["area"] > poor["energy_inside"]
        assert good["area"] == pytest.approx(mask.mean())


def test_scores_that_are_given_are_shown_as_they_are(chests, cams):
    scores = {key: {"hit": [True, True], "energy_inside": [0.25, 0.75]} for key in cams}
    widget = GradCamWidget(chests["images"], cams, chests["masks"], scores)
    assert {e["energy_inside"] for e in widget.entries if e["image"] == 1} == {0.75}


def test_an_empty_map_has_no_peak(chests, cams):
    blank = {key: np.zeros_like(cam) for key, cam in cams.items()}
    widget = GradCamWidget(chests["images"], blank, chests["masks"])
    assert {e["peak"] for e in widget.entries} == {None}
    assert {e["energy_inside"] for e in widget.entries} == {0.0}


def test_without_a_mask_all_images_are_shown_without_scores(chests, cams):
    widget = GradCamWidget(chests["images"], cams)
    assert len(widget.entries) == 8 * 2
    assert {e["hit"] for e in widget.entries} == {None}
    assert {e["region"] for e in widget.entries} == {None}


def explanation(chests, cams, finding: str, stage: str, row: int, masked: bool) -> Explanation:
    """As explain_finding returns it, for one image."""
    i = chests["labels"].index(finding)
    inits = ("MoCo v2", "random")
    return Explanation(
        finding=finding,
        structure=finding,
        stage=stage,
        rows=np.array([row]),
        patients=np.array(["p"]),
        images=chests["images"][i : i + 1],
        masks=chests["masks"][finding][i : i + 1] if masked else None,
        cams={init: cams[init, stage, finding][i : i + 1] for init in inits},
        heads={init: LinearHead(weights=np.ones(512, np.float32), bias=0.0) for init in inits},
        scores={init: np.zeros(1) for init in inits},
        aucs={"MoCo v2": 0.9, "random": 0.5},
        shots=50,
    )


def test_explanations_are_gathered_by_image_finding_and_stage(chests, cams):
    told = [
        explanation(chests, cams, "hiatal hernia", stage, row=40, masked=True)
        for stage in ("layer3", "layer4")
    ]
    told.append(explanation(chests, cams, "pulmonary mass", "layer3", row=7, masked=False))
    widget = GradCamWidget.from_explanations(told)
    assert widget.shape == [2, SIZE, SIZE] and len(widget.entries) == 6
    hernia = entry(widget, finding="hiatal hernia", stage="layer4", init="MoCo v2")
    mass = entry(widget, finding="pulmonary mass", init="random")
    assert hernia["image"] == 0 and hernia["auc"] == 0.9 and hernia["hit"] == 1.0
    assert mass["image"] == 1 and mass["auc"] == 0.5 and mass["hit"] is None
    maps = unpack(widget.maps, SIZE, SIZE)
    expected = np.rint(cams["MoCo v2", "layer4", "hiatal hernia"][1] * 255)
    assert np.array_equal(maps[hernia["map"]], expected)


def test_the_explained_probes_answer_for_a_readers_picture(chests, cams, ask):
    encoder = build_encoder("resnet18", image_size=SIZE, mean=0.5, std=0.25, seed=0).eval()
    told = [explanation(chests, cams, "hiatal hernia", "layer4", row=0, masked=True)]
    widget = GradCamWidget.from_explanations(told, {"MoCo v2": encoder})
    file = io.BytesIO()
    Image.fromarray(chests["images"][0]).save(file, "PNG")
    request = {"type": "explain", "id": 1, "stage": "layer4", "finding": "hiatal hernia"}
    _, (grey, heat) = ask(widget, request | {"init": "MoCo v2"}, file.getvalue())
    picture = np.frombuffer(grey, np.uint8).reshape(SIZE, SIZE)
    cam = class_activation_maps(
        encoder, told[0].heads["MoCo v2"], torch.from_numpy(picture.copy())[None, None], "layer4"
    )[0]
    assert np.array_equal(np.frombuffer(heat, np.uint8).reshape(SIZE, SIZE), np.rint(cam * 255))
    answer, _ = ask(widget, request | {"init": "random"}, file.getvalue())
    assert answer["type"] == "error" and "encoder of 'random' was not given" in answer["message"]


def test_a_fine_tuned_network_answers_with_its_own_weights_and_method(chests, cams, ask):
    start = build_encoder("resnet18", image_size=SIZE, mean=0.5, std=0.25, seed=0).eval()
    moved = build_encoder("resnet18", image_size=SIZE, mean=0.5, std=0.25, seed=1).eval()
    told = explanation(chests, cams, "hiatal hernia", "layer3", row=0, masked=True)
    model = Classifier(moved, LinearHead(np.linspace(-1, 1, 512), 0.0))
    told = replace(told, models={"MoCo v2": model}, mode="finetune", method="layer-cam")
    widget = GradCamWidget.from_explanations([told], {"MoCo v2": start})
    file = io.BytesIO()
    Image.fromarray(chests["images"][0]).save(file, "PNG")
    request = {"type": "explain", "id": 1, "stage": "layer3", "finding": "hiatal hernia"}
    _, (grey, heat) = ask(widget, request | {"init": "MoCo v2"}, file.getvalue())
    picture = np.frombuffer(grey, np.uint8).reshape(1, 1, SIZE, SIZE)
    cam = class_activation_maps(
        model, None, torch.from_numpy(picture.copy()), "layer3", method="layer-cam"
    )[0]
    assert np.array_equal(np.frombuffer(heat, np.uint8).reshape(SIZE, SIZE), np.rint(cam * 255))


def test_large_pictures_shrink_with_their_peaks():
    cam = np.zeros((1, 256, 256), np.float32)
    cam[0, 200, 40] = 1
    widget = GradCamWidget(np.zeros((1, 256, 256), np.uint8), {("a", "layer4", "f"): cam})
    assert widget.shape == [1, 128, 128]
    assert widget.entries[0]["peak"] == pytest.approx([20.25, 100.25])


def test_the_kernel_explains_a_picture_of_the_readers_own(gradcam, ask):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    request = {"type": "explain", "id": 2, "init": "MoCo v2", "stage": "layer3", "finding": "x"}
    answer, (grey, heat) = ask(gradcam, request, file.getvalue())
    grey_values = np.frombuffer(grey, np.uint8).reshape(SIZE, SIZE)
    assert np.array_equal(grey, heat)  # the example explains a picture by its own brightness
    assert grey_values[0, -1] > 250 and answer["peak"][0] > SIZE - 4


def test_a_file_that_is_no_picture_is_answered_with_a_sentence(gradcam, ask):
    request = {"type": "explain", "id": 2, "init": "a", "stage": "b", "finding": "c"}
    answer, _ = ask(gradcam, request, b"%PDF-1.7")
    assert answer["type"] == "error" and "cannot be read as a picture" in answer["message"]


def test_what_does_not_fit_together_is_refused(chests, cams):
    with pytest.raises(InputError, match="at least one"):
        GradCamWidget(chests["images"], {})
    with pytest.raises(InputError, match="has shape"):
        GradCamWidget(chests["images"][:1], cams)
    empty = {name: np.zeros_like(mask) for name, mask in chests["masks"].items()}
    with pytest.raises(InputError, match="No image has any of the findings"):
        GradCamWidget(chests["images"], cams, empty)


def test_five_inits_two_stages_and_ten_findings_stay_under_the_page_limit(real_cxr):
    files = sorted((real_cxr / "cxr256").glob("*.png"))[:10]
    images = np.stack([np.asarray(Image.open(f).convert("L")) for f in files])
    source, cams, masks = np.random.default_rng(0), {}, {}
    for i, finding in enumerate("abcdefghij"):
        masks[finding] = np.zeros(images.shape, bool)
        masks[finding][i, 60:120, 60:120] = True
        for init in "vwxyz":
            for stage, cells in (("layer3", 16), ("layer4", 8)):
                coarse = Image.fromarray(source.random((cells, cells), dtype=np.float32))
                cam = np.asarray(coarse.resize((256, 256), Image.Resampling.BILINEAR))
                cams[init, stage, finding] = np.broadcast_to(cam, images.shape)
    assert GradCamWidget(images, cams, masks).page_bytes() < PAGE_LIMIT
