"""Every widget plays from its saved state: no kernel, no network, keyboard and mouse."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from widget_examples import PATCH, SIZE

from scxr.widgets.packing import unpack

pytestmark = pytest.mark.browser


def status(page):
    return page.locator(".scxr-status")


def close(shown: np.ndarray, truth: np.ndarray, tolerance: float = 6.0) -> bool:
    """Grey picture against truth, up to what JPEG does to noise."""
    return bool(np.abs(shown[..., 0].astype(int) - truth.astype(int)).mean() < tolerance)


# ---------------------------------------------------------------- augmentations


def view_of(widget, image: int, **values) -> tuple[dict, np.ndarray]:
    """What the real code computes for a position of the sliders."""
    neutral = {c["key"]: c["neutral"] for c in widget.controls}
    numbers, view, _ = widget.view(image, widget.parameters(neutral | values))
    return numbers, view


def test_a_crop_moved_by_keyboard_shows_the_view_and_what_is_left(augmentation, show, pixels):
    page = show(augmentation)
    crop = page.get_by_label("Crop", exact=True)
    assert crop.get_attribute("aria-valuetext") == "100 %"
    crop.focus()
    for _ in range(3):
        crop.press("ArrowLeft")
    across = page.get_by_label("Crop, left to right")
    across.focus()
    across.press("ArrowLeft")
    numbers, view = view_of(augmentation, 0, area=0.2, across=0.0)
    assert float(status(page).get_attribute("data-left")) == pytest.approx(numbers["left"])
    assert close(pixels(page, 1), view)
    assert f"{100 * numbers['left']:.0f} % of the finding" in status(page).inner_text() or (
        numbers["left"] < 0.005 and "nothing of the finding" in status(page).inner_text()
    )


@pytest.mark.parametrize(
    ("label", "key", "press", "value"),
    [
        ("Rotation", "angle", "End", 10.0),
        ("Brightness", "brightness", "Home", 0.8),
        ("Contrast", "contrast", "End", 1.2),
        ("Blur", "sigma", "End", 2.0),
        ("Noise", "noise", "End", 0.2),
    ],
)
def test_every_slider_shows_its_extreme(augmentation, show, pixels, label, key, press, value):
    page = show(augmentation)
    page.get_by_label(label, exact=True).press(press)
    numbers, view = view_of(augmentation, 0, **{key: value})
    assert close(pixels(page, 1), view, 10.0)
    cnr = float(status(page).get_attribute("data-stands-out"))
    assert cnr == pytest.approx(numbers["stands_out"])


def test_on_paper_one_control_puts_the_others_back(augmentation, show):
    page = show(augmentation)
    page.get_by_label("Rotation", exact=True).press("End")
    page.get_by_label("Noise", exact=True).press("End")
    rotation = page.get_by_label("Rotation", exact=True)
    assert rotation.get_attribute("aria-valuetext") == "0°"
    assert "On paper" in page.locator(".scxr-note").inner_text()
    page.get_by_role("button", name="Back to the untouched picture").click()
    assert page.get_by_label("Noise", exact=True).get_attribute("aria-valuetext") == "0.0 %"


def test_mirroring_and_choosing_an_image(augmentation, show, pixels, chests):
    page = show(augmentation)
    page.get_by_label("Image").select_option(index=1)
    assert close(pixels(page, 0), chests["images"][1])
    page.get_by_label("Mirror").check()
    assert close(pixels(page, 1), chests["images"][1][:, ::-1])


def test_the_crop_is_dragged_on_the_original(augmentation, show):
    page = show(augmentation)
    page.get_by_label("Crop", exact=True).press("Home")
    box = page.locator(".scxr-stage canvas").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 3, steps=5)
    page.mouse.up()
    numbers, _ = view_of(augmentation, 0, area=0.2, across=1.0, down=0.0)
    assert float(status(page).get_attribute("data-left")) == pytest.approx(numbers["left"])
    assert page.get_by_label("Crop, left to right").get_attribute("aria-valuetext") == "100 %"
    assert page.get_by_label("Crop, top to bottom").get_attribute("aria-valuetext") == "0 %"


def test_random_pairs_show_both_views(augmentation, show, pixels):
    page = show(augmentation)
    page.get_by_label("two random views").check()
    page.get_by_label("Pair").press("End")
    shown = [augmentation.view(0, p) for p in augmentation.drawn(0, 1)]
    for i, (_, view, _) in enumerate(shown):
        assert close(pixels(page, 1 + i), view, 10.0)
    left = [float(v) for v in status(page).get_attribute("data-left").split()]
    assert left == pytest.approx([numbers["left"] for numbers, _, _ in shown])
    crops = page.locator(".scxr-stage").first.locator("path.view-a, path.view-b")
    assert crops.count() == 2


def test_the_outline_can_be_taken_away(augmentation, show):
    page = show(augmentation)
    assert page.locator("path.finding").count() == 2
    page.get_by_label("Outline the finding").uncheck()
    assert page.locator("path.finding").count() == 0


# ---------------------------------------------------------------- collapse spectrum


def value(page, run: str, metric: str) -> float:
    """A number of the page, as exact as the page has it."""
    found = page.locator(f'li[data-run="{run}"][data-metric="{metric}"]')
    return float(found.get_attribute("data-value"))


METRICS = ("effective_rank", "rankme", "std", "std_normalised", "mean_cosine", "loss")


def test_scrubbing_by_keyboard_shows_the_monitors_numbers(spectra, runs, show):
    page = show(spectra)
    page.get_by_label("Moment of training").press("Home")
    page.get_by_label("Moment of training").press("ArrowRight")
    for name, rows in runs.items():
        for metric in METRICS:
            assert value(page, name, metric) == pytest.approx(rows[metric][1], rel=1e-6)
    assert status(page).inner_text().startswith("Epoch 0.5.")


def test_scrubbing_by_mouse_on_a_chart(spectra, runs, show):
    page = show(spectra)
    box = page.locator("svg.scrub").first.bounding_box()
    page.mouse.click(box["x"] + 42, box["y"] + 40)
    assert value(page, "collapsing", "rankme") == pytest.approx(runs["collapsing"]["rankme"][0])


def test_steps_and_epochs_name_the_same_moment(spectra, runs, show):
    page = show(spectra)
    slider = page.get_by_label("Moment of training")
    slider.press("ArrowLeft")
    page.get_by_label("steps").check()
    assert slider.get_attribute("aria-valuetext") == "step 30"
    assert value(page, "healthy", "std") == pytest.approx(runs["healthy"]["std"][3])


def test_the_toggle_shows_what_centring_hides(spectra, show):
    page = show(spectra)
    centred = value(page, "collapsing", "share_centred")
    heading = page.locator(".scxr-chart-title").first
    assert heading.inner_text() == "Singular values of the centred features"
    drawn = page.locator("path.line.s0").nth(1).get_attribute("d")
    page.get_by_label("uncentred").check()
    assert heading.inner_text() == "Singular values of the uncentred features"
    assert value(page, "collapsing", "share_uncentred") > 0.9 > centred
    assert page.locator("path.line.s0").nth(1).get_attribute("d") != drawn


def test_the_spectrum_is_drawn_on_a_logarithmic_axis(spectra, show):
    """Positions on the chart are a straight line of the logarithms."""
    page = show(spectra)
    page.get_by_label("Divide by the largest").check()
    line = page.locator(".scxr-chart").first.locator("path.line.s1:not(.ghost)")
    path = line.get_attribute("d")
    heights = np.array([float(p.split()[1]) for p in path[1:].split("L")])
    expected = np.log10(np.frombuffer(spectra.spectra[1], "<f4").reshape(5, 2, -1)[-1, 0])
    kept = expected[: len(heights)]
    slope = np.polyfit(kept, heights, 1)
    assert np.abs(np.polyval(slope, kept) - heights).max() < 0.1 and slope[0] < 0


def test_runs_can_be_left_out(spectra, show):
    page = show(spectra)
    page.get_by_role("checkbox", name="collapsing").uncheck()
    assert page.locator('li[data-run="collapsing"]').count() == 0
    assert page.locator('li[data-run="healthy"]').count() > 0
    page.get_by_role("checkbox", name="healthy").uncheck()
    assert status(page).inner_text() == "Choose at least one run."
    page.get_by_role("checkbox", name="healthy").check()
    assert page.locator('li[data-run="healthy"]').count() > 0


# ---------------------------------------------------------------- reconstructions


@pytest.mark.parametrize("view", ["composite", "true exposure", "one exposure", "raw"])
def test_epoch_image_ratio_and_view_show_the_right_frame(
    reconstruction, reconstructions, show, pixels, view
):
    page = show(reconstruction)
    page.get_by_label("Epoch").press("Home")
    page.get_by_label("Epoch").press("ArrowRight")
    page.get_by_label("Image").select_option(index=1)
    page.get_by_label("Hidden share").select_option(index=1)
    page.get_by_label(view, exact=True).check()
    one = slice(1, 2)
    pictures, _, (score,) = reconstruction.views(
        reconstructions["images"][one],
        reconstructions["masks"][1, one],
        reconstructions["predictions"][1, 1, one],
    )
    which = ["composite", "true exposure", "one exposure", "raw"].index(view) + 1
    assert close(pixels(page, 0), reconstructions["images"][1])
    assert close(pixels(page, 1), pictures[0, 0])
    assert close(pixels(page, 2), pictures[0, which], 10.0)
    assert float(status(page).get_attribute("data-score")) == pytest.approx(score)
    assert f"{score:.3g}" in status(page).inner_text()


def test_errors_are_coloured_where_patches_were_hidden(
    reconstruction, reconstructions, show, pixels
):
    page = show(reconstruction)
    page.get_by_label("Epoch").press("Home")
    page.get_by_label("error").check()
    shown = pixels(page, 2).astype(int)
    error = unpack(reconstruction.errors, SIZE, SIZE)[0]
    grey = pixels(page, 0)[..., 0].astype(int)
    heat = np.array(colormaps["viridis"](error))[..., :3] * 255
    hidden = np.kron(reconstructions["masks"][0, 0], np.ones((PATCH, PATCH), bool))[..., None]
    expected = np.where(hidden, 0.9 * heat + 0.1 * grey[..., None], grey[..., None])
    assert np.abs(shown - expected).mean() < 2 and np.abs(shown - expected).max() < 12


def test_on_paper_patches_cannot_be_clicked(reconstruction, show):
    page = show(reconstruction)
    assert not page.get_by_role("button", name="Hide nothing").is_visible()
    assert page.get_by_role("application").count() == 0


# ---------------------------------------------------------------- Grad-CAM


def shown_entry(widget, **wanted) -> dict:
    (found,) = [e for e in widget.entries if all(e[k] == v for k, v in wanted.items())]
    return found


def test_finding_init_and_stage_show_their_scores(gradcam, show):
    page = show(gradcam)
    page.get_by_label("Finding").select_option("hiatal hernia")
    page.get_by_label("layer4").check()
    page.get_by_label("random").check()
    entry = shown_entry(gradcam, finding="hiatal hernia", init="random", stage="layer4")
    node = status(page)
    assert float(node.get_attribute("data-energy_inside")) == pytest.approx(entry["energy_inside"])
    assert node.get_attribute("data-hit") == "0"
    assert "misses the region" in node.inner_text()
    assert f"{100 * entry['energy_inside']:.1f} % of the energy" in node.inner_text()
    page.get_by_label("MoCo v2").check()
    assert node.get_attribute("data-hit") == "1"


def test_heat_is_viridis_over_the_picture_and_fades_with_the_slider(gradcam, cams, show, pixels):
    page = show(gradcam)
    page.get_by_label("Outline the true region").uncheck()
    heat = page.get_by_label("Opacity of the heat")
    heat.press("Home")
    grey = pixels(page)[..., 0].astype(int)
    assert np.abs(grey - gradcam._images[0]).mean() < 4
    heat.press("End")
    cam = np.rint(cams["MoCo v2", "layer3", "pulmonary mass"][0] * 255) / 255
    alpha = (0.1 + 0.9 * cam)[..., None]
    colour = np.array(colormaps["viridis"](cam))[..., :3] * 255
    expected = alpha * colour + (1 - alpha) * grey[..., None]
    assert np.abs(pixels(page) - expected).mean() < 2


def test_the_true_region_is_outlined(gradcam, chests, show):
    page = show(gradcam)
    region = page.locator("path.finding")
    box = region.evaluate("(p) => { const b = p.getBBox(); return [b.x, b.y, b.width, b.height]; }")
    ys, xs = np.nonzero(chests["masks"]["pulmonary mass"][0])
    expected = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
    assert box == pytest.approx(expected, abs=1e-3)
    page.get_by_label("Outline the true region").uncheck()
    assert region.count() == 0
