"""The same front end with Python at the other end: it asks, the real code answers."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from widget_examples import PATCH, SIZE, monitor_rows

from scxr.runs import Run, write_json
from scxr.widgets import SpectrumWidget

pytestmark = pytest.mark.browser


def status(page):
    return page.locator(".scxr-status")


def idle(page) -> None:
    """Wait until no answer is outstanding."""
    expect(page.locator(".scxr-widget:not([aria-busy])")).to_be_visible()


def test_any_augmentation_is_computed_as_the_sliders_move(augmentation, show, pixels):
    page = show(augmentation, live=True)
    expect(page.locator(".scxr-note")).to_contain_text("A kernel answers")
    page.get_by_label("Crop", exact=True).fill("0.37")
    page.get_by_label("Rotation", exact=True).fill("23")
    page.get_by_label("Contrast", exact=True).fill("0.6")
    idle(page)
    assert augmentation.values["angle"] == 23 and augmentation.values["area"] == 0.37
    numbers, view, _ = augmentation.view(0, augmentation.parameters(augmentation.values))
    assert np.array_equal(pixels(page, 1)[..., 0], view)
    assert float(status(page).get_attribute("data-left")) == pytest.approx(numbers["left"])
    assert float(page.get_by_label("Noise", exact=True).get_attribute("max")) == 0.3


def test_the_crop_follows_the_mouse_freely(augmentation, show, pixels):
    page = show(augmentation, live=True)
    page.get_by_label("Crop", exact=True).fill("0.25")
    box = page.locator(".scxr-stage canvas").first.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.35 * box["width"], box["y"] + 0.6 * box["height"], steps=8)
    page.mouse.up()
    idle(page)
    assert augmentation.values["across"] == pytest.approx(0.2, abs=0.02)
    assert augmentation.values["down"] == pytest.approx(0.7, abs=0.02)
    _, view, _ = augmentation.view(0, augmentation.parameters(augmentation.values))
    assert np.array_equal(pixels(page, 1)[..., 0], view)


def test_new_pairs_are_drawn(augmentation, show, pixels):
    page = show(augmentation, live=True)
    page.get_by_label("two random views").check()
    page.get_by_label("Pair").fill("57")
    idle(page)
    for i, parameters in enumerate(augmentation.drawn(0, 57)):
        _, view, _ = augmentation.view(0, parameters)
        assert np.array_equal(pixels(page, 1 + i)[..., 0], view)


def test_a_reader_loads_a_picture(augmentation, show, pixels):
    page = show(augmentation, live=True)
    file = io.BytesIO()
    Image.fromarray(np.tile(np.arange(128, dtype=np.uint8), (96, 1))).save(file, "PNG")
    chooser = page.get_by_label("A picture of your own")
    chooser.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()})
    expect(status(page)).to_contain_text("o finding is marked")
    page.get_by_label("Mirror").check()
    idle(page)
    shown = pixels(page, 1)[..., 0]
    assert shown[0, 0] > 240 and shown[0, -1] < 15
    chooser.set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    expect(status(page)).to_contain_text("cannot be read as a picture")


def test_a_growing_run_is_read_again(tmp_path, show):
    rows = monitor_rows(0, 1.0, rows=4)
    write_json(tmp_path / "config.json", {"format": 1, "method": "moco"})

    def log(count: int) -> None:
        records = [{"kind": "monitor", **r} for r in rows[:count].to_dict("records")]
        (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(r) for r in records) + "\n")

    log(2)
    page = show(SpectrumWidget({"MoCo": Run.open(tmp_path)}), live=True)
    shown = page.locator('li[data-metric="rankme"]')
    assert float(shown.get_attribute("data-value")) == pytest.approx(rows["rankme"][1])
    log(4)
    page.get_by_role("button", name="Read again").click()
    expect(status(page)).to_contain_text("Epoch 1.5.")
    assert float(shown.get_attribute("data-value")) == pytest.approx(rows["rankme"][3])


def test_the_network_paints_what_is_hidden_by_mouse_and_by_keyboard(reconstruction, show, pixels):
    page = show(reconstruction, live=True)
    page.get_by_role("button", name="Hide nothing").click()
    expect(status(page)).to_contain_text("Nothing is hidden")
    stage = page.get_by_role("application")
    box = stage.bounding_box()
    cell = box["width"] / 4
    page.mouse.click(box["x"] + 1.5 * cell, box["y"] + 2.5 * cell)  # row 3, column 2
    idle(page)
    stage.focus()
    stage.press("ArrowRight")
    expect(status(page)).to_contain_text("Row 3, column 3: visible.")
    stage.press(" ")
    idle(page)
    mask = np.zeros((4, 4), bool)
    mask[2, 1:3] = True
    pictures, _, (score,) = reconstruction.views(
        reconstruction._images[:1], mask[None], np.ones((1, SIZE, SIZE))
    )
    assert float(status(page).get_attribute("data-score")) == pytest.approx(score)
    assert np.array_equal(pixels(page, 2)[..., 0], pictures[0, 1])
    covered = pixels(page, 1)[2 * PATCH : 3 * PATCH, PATCH : 3 * PATCH]
    assert (covered == 128).all()
    page.get_by_role("button", name="Back to the snapshots").click()
    snapshot = reconstruction.scores[-1][0]
    assert float(status(page).get_attribute("data-score")) == pytest.approx(snapshot)


def test_a_picture_of_the_readers_own_is_explained(gradcam, show, pixels):
    page = show(gradcam, live=True)
    file = io.BytesIO()
    Image.fromarray(np.tile(np.arange(128, dtype=np.uint8), (96, 1))).save(file, "PNG")
    page.get_by_label("A picture of your own").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    expect(status(page)).to_contain_text("no true region is known", ignore_case=True)
    right, left = pixels(page)[:, -2].mean(axis=0), pixels(page)[:, 1].mean(axis=0)
    assert right[0] > 200 > 60 > left[0]  # yellow where the example's map is hot
    page.get_by_label("layer4").check()
    expect(status(page)).to_contain_text("of the energy lies inside")
