"""Each finding changes the picture where its mask says, and occurs where it belongs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from scxr.data.phantom import FINDINGS, PhantomBatch, generate

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
    area = {f: shown(f).masks[f].sum(axis=(1, 2)) * pixel**2 for f in FINDINGS}
    across = {f: 2 * np.sqrt(a / np.pi) for f, a in area.items()}
    assert np.median(across["pulmonary mass"]) > 3
    assert np.median(across["calcified granuloma"]) < 2


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
