"""Each finding changes the picture where its mask says, and occurs where it belongs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage

from scxr.data.phantom import FINDINGS, PhantomBatch, generate
from scxr.data.phantom.regions import without_islands

INDICES = list(range(0, 720, 18))
SIZE = 96


@lru_cache
def shown(finding: str | None) -> PhantomBatch:
    asked = [[finding] if finding else []] * len(INDICES)
    return generate(INDICES, size=SIZE, hospital="B", findings=asked)


@lru_cache
def change(finding: str) -> np.ndarray:
    return np.abs(shown(finding).images.astype(float) - shown(None).images)


def overlap(finding: str, *regions: str) -> np.ndarray:
    """Share of each finding's mask that lies in the union of the regions of the normal picture."""
    mask = shown(finding).masks[finding]
    union = np.any([shown(None).masks[region] for region in regions], axis=0)
    return (mask & union).sum(axis=(1, 2)) / mask.sum(axis=(1, 2))


@pytest.mark.parametrize("finding", FINDINGS)
def test_mask_and_label_agree(finding: str) -> None:
    batch = shown(finding)
    assert batch.masks[finding].any(axis=(1, 2)).all()
    assert (batch.table["findings"] == finding).all()
    others = [name for name in FINDINGS if name != finding]
    assert not any(batch.masks[name].any() for name in others)


def test_a_normal_image_has_no_mask_and_says_so() -> None:
    batch = shown(None)
    assert not any(batch.masks[name].any() for name in FINDINGS)
    assert (batch.table["findings"] == "No Finding").all()


def test_masks_agree_with_the_labels_that_patients_have() -> None:
    batch = generate(range(80), size=64, hospital="A", seed=1)
    for name in FINDINGS:
        labelled = np.array([name in text.split("|") for text in batch.table["findings"]])
        np.testing.assert_array_equal(batch.masks[name].any(axis=(1, 2)), labelled)


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_changes_the_picture_mainly_inside_its_mask(finding: str) -> None:
    mask, difference = shown(finding).masks[finding], change(finding)
    assert difference[mask].mean() > 4 * difference[~mask].mean()
    assert difference[mask].mean() > 3


@pytest.mark.parametrize("finding", [name for name in FINDINGS if name != "pulmonary fibrosis"])
def test_no_case_is_invisible(finding: str) -> None:
    # Fibrosis moves the whole picture by its loss of volume: measured by the test above.
    mask = shown(finding).masks[finding]
    inside = [d[m].mean() for d, m in zip(change(finding), mask, strict=True)]
    assert min(inside) > 0.8


@pytest.mark.parametrize(
    ("finding", "regions", "least"),
    [
        ("calcified granuloma", ("left_lung", "right_lung", "mediastinum"), 0.7),
        ("interstitial pattern", ("left_lung", "right_lung", "mediastinum"), 0.9),
        ("reticular interstitial pattern", ("left_lung", "right_lung", "mediastinum"), 0.9),
        ("bronchiectasis", ("left_lung", "right_lung", "mediastinum"), 0.9),
        ("pulmonary mass", ("left_lung", "right_lung", "mediastinum"), 0.7),
        ("fibrotic band", ("left_lung", "right_lung", "mediastinum"), 0.7),
        ("callus rib fracture", ("ribs",), 0.4),
        ("hiatal hernia", ("mediastinum", "heart", "diaphragm", "spine"), 0.4),
    ],
)
def test_a_finding_lies_in_its_region(finding: str, regions: tuple[str, ...], least: float) -> None:
    assert overlap(finding, *regions).mean() > least


def test_a_hernia_touches_the_silhouette_and_the_midline() -> None:
    assert (overlap("hiatal hernia", "mediastinum") > 0).mean() > 0.9


def test_an_elevation_rises_from_the_usual_dome_on_one_side() -> None:
    name = "hemidiaphragm elevation"
    mask, dome = shown(name).masks[name], shown(None).masks["diaphragm"]
    lowest = np.array([np.nonzero(m.any(axis=1))[0].max() for m in mask])
    level = np.array([np.nonzero(m.any(axis=1))[0].max() for m in dome])
    assert (lowest <= level + 2).all()
    columns = np.array([np.nonzero(m)[1].mean() for m in mask])
    spine = np.array([np.nonzero(m)[1].mean() for m in shown(None).masks["spine"]])
    assert (np.abs(columns - spine) > 0.1 * SIZE).all()
    brighter = shown(name).images.astype(float) - shown(None).images
    assert brighter[mask].mean() > 20


def test_fibrosis_and_reticulation_are_basal() -> None:
    for finding in ("pulmonary fibrosis", "reticular interstitial pattern"):
        rows = np.array([np.nonzero(m)[0].mean() for m in shown(finding).masks[finding]])
        lungs = shown(None).masks["right_lung"]
        middle = np.array([np.nonzero(m)[0].mean() for m in lungs])
        assert (rows > middle).all()


def test_a_mass_is_larger_than_three_centimetres_and_a_granuloma_smaller() -> None:
    # The detector is some 38 cm wide; the patient's magnification moves this by a tenth.
    pixel = 38 / SIZE

    def across(finding: str) -> float:
        """Median diameter of the parts of a finding, cm."""
        parts = [
            np.bincount(ndimage.label(m)[0].ravel())[1:] for m in shown(finding).masks[finding]
        ]
        return float(np.median(2 * np.sqrt(np.concatenate(parts) * pixel**2 / np.pi)))

    assert across("pulmonary mass") > 3
    assert across("calcified granuloma") < 2.6


def test_a_lesion_comes_back_in_the_patients_other_images() -> None:
    table = generate(range(200), size=32, hospital="B", masks=False).table
    sick = table[table["findings"] != "No Finding"]
    grades = sick.groupby("patient")["conspicuity"].nunique()
    assert (grades == 1).all()
    assert (sick.groupby("patient").size() > 1).any()


def test_conspicuity_is_graded() -> None:
    grades = shown("pulmonary mass").table["conspicuity"].str.split("=").str[1].astype(float)
    assert grades.between(0, 1).all()
    assert grades.std() > 0.1
    name = "pulmonary mass"
    size = shown(name).masks[name].sum(axis=(1, 2))
    assert np.corrcoef(grades, size)[0, 1] > 0.4


def test_no_mask_reaches_under_the_collimator() -> None:
    batch = generate(range(60), size=64, hospital="A", seed=2)
    covered = (batch.images == 0) & (batch.images == 0).all(axis=2, keepdims=True)
    assert covered.any()
    assert not any((mask & covered).any() for mask in batch.masks.values())


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_higher_grade_changes_the_picture_more(finding: str) -> None:
    grades = shown(finding).table["conspicuity"].str.split("=").str[1].astype(float).to_numpy()
    total = change(finding).sum(axis=(1, 2))
    assert np.median(total[grades > 0.6]) > 1.25 * np.median(total[grades < 0.4])


@pytest.mark.parametrize("size", [64, 128])
def test_no_mask_has_stray_islands(size: int) -> None:
    batch = generate(range(0, 200, 5), size=size, hospital="A", seed=6)
    apart = {"ribs", "clavicles", "spine", "calcified granuloma", "callus rib fracture"}
    apart |= {"fibrotic band", "pulmonary mass"}
    for name in set(batch.masks) - apart:
        for mask in batch.masks[name][batch.masks[name].any(axis=(1, 2))]:
            labels, count = ndimage.label(mask)
            sizes = np.bincount(labels.ravel())[1:]
            assert count == 1 or sizes.min() >= 30, name


def test_a_lesion_of_few_pixels_keeps_them() -> None:
    small = np.zeros((64, 64), dtype=bool)
    small[10:12, 10:13] = True
    np.testing.assert_array_equal(without_islands("heart", small.copy()), small)
    both = small.copy()
    both[30:40, 30:40] = True
    kept = without_islands("heart", both.copy())
    assert kept.sum() == 100
    np.testing.assert_array_equal(without_islands("calcified granuloma", both.copy()), both)


@pytest.mark.parametrize("finding", ["calcified granuloma", "callus rib fracture", "fibrotic band"])
def test_a_small_picture_still_has_pixels_of_a_small_lesion(finding: str) -> None:
    batch = generate(range(0, 600, 5), size=64, hospital="B", findings=[[finding]] * 120)
    assert batch.masks[finding].sum(axis=(1, 2)).min() >= 4
