"""The region masks lie where a frontal radiograph shows the organs."""

from __future__ import annotations

import numpy as np
import pytest

from scxr.data.phantom import HOSPITALS, REGIONS, PhantomBatch, generate

COUNT = 40


@pytest.fixture(scope="module", params=sorted(HOSPITALS))
def normal(request: pytest.FixtureRequest) -> PhantomBatch:
    return generate(range(COUNT), size=96, hospital=request.param, findings=[[]] * COUNT)


def centre(masks: np.ndarray, axis: int) -> np.ndarray:
    """Mean row (axis 0) or column (axis 1) of each mask."""
    return np.array([np.nonzero(mask)[axis].mean() for mask in masks])


def test_every_region_is_there(normal: PhantomBatch) -> None:
    assert {name for name in REGIONS if not normal.masks[name].any(axis=(1, 2)).all()} == set()


def test_the_heart_lies_on_the_right_side_of_the_picture(normal: PhantomBatch) -> None:
    assert (centre(normal.masks["heart"], 1) > centre(normal.masks["spine"], 1)).all()
    right = centre(normal.masks["right_lung"], 1)
    left = centre(normal.masks["left_lung"], 1)
    assert (right < left).all()


def test_the_right_lung_is_larger_and_the_lungs_do_not_overlap(normal: PhantomBatch) -> None:
    right, left = (normal.masks[name].sum(axis=(1, 2)) for name in ("right_lung", "left_lung"))
    assert (right > left).mean() > 0.9
    assert not (normal.masks["right_lung"] & normal.masks["left_lung"]).any()
    assert not (normal.masks["left_lung"] & normal.masks["heart"]).any()


def test_lungs_are_darker_than_the_heart(normal: PhantomBatch) -> None:
    parts = [normal.masks[name] for name in ("right_lung", "heart")]
    for picture, lung, heart in zip(normal.images, *parts, strict=True):
        assert picture[lung].mean() + 25 < picture[heart].mean()


def test_the_right_hemidiaphragm_is_usually_the_higher(normal: PhantomBatch) -> None:
    half = 96 // 2
    rows = normal.masks["diaphragm"]
    tops = [part.any(axis=2).argmax(axis=1) for part in (rows[:, :, :half], rows[:, :, half:])]
    assert (tops[0] <= tops[1]).mean() > 0.75
    assert np.mean(tops[1] - tops[0]) > 0.5


def test_clavicles_are_above_the_heart_and_ribs_within_the_cage(normal: PhantomBatch) -> None:
    assert (centre(normal.masks["clavicles"], 0) < centre(normal.masks["heart"], 0) - 10).all()
    lungs = normal.masks["right_lung"] | normal.masks["left_lung"]
    crossed = (normal.masks["ribs"] & lungs).sum(axis=(1, 2)) / lungs.sum(axis=(1, 2))
    assert (crossed > 0.25).all()
    assert (crossed < 0.85).all()


def test_retrocardiac_is_part_of_the_heart_and_heart_of_the_mediastinum(
    normal: PhantomBatch,
) -> None:
    assert not (normal.masks["retrocardiac"] & ~normal.masks["heart"]).any()
    assert not (normal.masks["heart"] & ~normal.masks["mediastinum"]).any()


def test_people_differ(normal: PhantomBatch) -> None:
    """Shapes vary as adults' do: hearts by a factor, lungs in height, not only in grey."""
    heart = normal.masks["heart"].sum(axis=(1, 2))
    lungs = normal.masks["right_lung"]
    height = np.array([np.ptp(np.nonzero(mask)[0]) for mask in lungs])
    assert heart.std() / heart.mean() > 0.15
    assert height.std() / height.mean() > 0.07


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_a_patients_images_look_alike(hospital: str) -> None:
    batch = generate(range(240), size=64, hospital=hospital, masks=False, findings=[[]] * 240)
    # The grey level is the exposure's: what is compared is the shape.
    flat = batch.images.reshape(240, -1).astype(float)
    flat -= flat.mean(axis=0)
    correlation = np.corrcoef(flat)
    patients = batch.table["patient"].to_numpy()
    same = (patients[:, None] == patients) & ~np.eye(240, dtype=bool)
    other = patients[:, None] != patients
    assert correlation[same].mean() > correlation[other].mean() + 0.15
