"""The phantom's pictures: the same whatever the batch, finite, and as bright as the real ones."""

from __future__ import annotations

import numpy as np
import pytest

from scxr.data import RadiographStore, phantom
from scxr.data.phantom import FINDINGS, HOSPITALS, PIXEL_STATISTICS, REGIONS, generate
from scxr.errors import InputError


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
@pytest.mark.parametrize("size", [64, 97])
def test_an_image_is_the_same_in_every_batch(hospital: str, size: int) -> None:
    indices = [0, 3, 11, 12, 40, 7001]
    together = generate(indices, size=size, hospital=hospital, seed=5)
    backwards = generate(indices[::-1], size=size, hospital=hospital, seed=5)
    np.testing.assert_array_equal(together.images, backwards.images[::-1])
    for row, index in enumerate(indices):
        alone = generate([index], size=size, hospital=hospital, seed=5)
        np.testing.assert_array_equal(alone.images[0], together.images[row])
        assert alone.table.iloc[0].to_dict() == together.table.iloc[row].to_dict()
        for name in (*REGIONS, *FINDINGS):
            np.testing.assert_array_equal(alone.masks[name][0], together.masks[name][row])


def test_pictures_do_not_depend_on_whether_masks_are_asked_for() -> None:
    with_masks, without = generate(range(6), size=64), generate(range(6), size=64, masks=False)
    np.testing.assert_array_equal(with_masks.images, without.images)
    assert without.masks == {}


def test_seed_and_hospital_change_the_pictures() -> None:
    first = generate([4], size=64, seed=0).images
    assert (first != generate([4], size=64, seed=1).images).mean() > 0.5
    assert (first != generate([4], size=64, hospital="B").images).mean() > 0.5


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_pictures_use_the_whole_range_and_no_side_is_blank(size: int) -> None:
    batch = generate(range(12), size=size, hospital="B", seed=3)
    assert batch.images.shape == (12, size, size)
    assert batch.images.dtype == np.uint8
    flat = batch.images.reshape(12, -1)
    assert (flat.min(axis=1) <= 2).all()
    assert (flat.max(axis=1) >= 250).all()
    middle = batch.images[:, size // 4 : 3 * size // 4]
    assert (middle[:, :, size // 4 : 3 * size // 4].std(axis=(1, 2)) > 15).all()
    for mask in batch.masks.values():
        assert mask.shape == batch.images.shape
        assert mask.dtype == bool


def test_a_small_picture_shows_the_same_anatomy_as_a_large_one() -> None:
    small = generate(range(8), size=64).images.astype(float)
    large = generate(range(8), size=128).images.astype(float)
    averaged = large.reshape(8, 64, 2, 64, 2).mean(axis=(2, 4))
    pairs = zip(small, averaged, strict=True)
    assert min(np.corrcoef(s.ravel(), a.ravel())[0, 1] for s, a in pairs) > 0.97


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_pixel_statistics_come_near_those_measured(hospital: str) -> None:
    pixels = generate(range(0, 3000, 8), size=64, hospital=hospital, masks=False).images / 255
    mean, deviation = PIXEL_STATISTICS[hospital]
    assert pixels.mean() == pytest.approx(mean, abs=0.01)
    assert pixels.std() == pytest.approx(deviation, abs=0.01)


def test_the_hospitals_differ_more_than_two_halves_of_one() -> None:
    def noise(hospital: str, start: int) -> float:
        pictures = generate(range(start, start + 150), size=64, hospital=hospital, masks=False)
        return float(np.abs(np.diff(pictures.images.astype(float), 2, axis=2)).mean())

    within = abs(noise("A", 0) - noise("A", 150)) + abs(noise("B", 0) - noise("B", 150))
    assert abs(noise("A", 0) - noise("B", 0)) > within


def test_a_store_holds_what_generate_returns(tmp_path) -> None:
    store = phantom.write_store(tmp_path / "store", 20, size=64, hospital="B", seed=2)
    batch = generate(range(20), size=64, hospital="B", seed=2)
    np.testing.assert_array_equal(np.asarray(store.images), batch.images)
    assert list(store.table["findings"]) == list(batch.table["findings"])
    assert list(store.table["report"]) == list(batch.table["report"])
    np.testing.assert_array_equal(store.masks(range(20), "heart"), batch.masks["heart"])
    shown = [name for name in FINDINGS if batch.masks[name].any()]
    assert shown
    for name in shown:
        np.testing.assert_array_equal(store.masks(range(20), name), batch.masks[name])
    RadiographStore.open(tmp_path / "store").verify()


def test_a_store_does_not_depend_on_the_number_of_workers(tmp_path) -> None:
    paths = [tmp_path / f"{workers}" for workers in (1, 2)]
    one, two = (
        phantom.write_store(path, 150, size=32, seed=2, workers=int(path.name)) for path in paths
    )
    np.testing.assert_array_equal(np.asarray(one.images), np.asarray(two.images))
    assert one.table.equals(two.table)
    for name in ("heart", "bronchiectasis"):
        np.testing.assert_array_equal(one.masks(range(150), name), two.masks(range(150), name))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"indices": [0], "hospital": "C"}, "Unknown hospital 'C'"),
        ({"indices": [-1]}, "-1 is negative"),
        ({"indices": [0], "size": 8}, "not 8"),
        ({"indices": [0], "findings": [["cough"]]}, "Unknown finding 'cough'"),
        ({"indices": [0, 1], "findings": [[]]}, "1 lists of findings were given for 2 images"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence(arguments: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        generate(**arguments)


def test_an_empty_store_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="at least 1 image"):
        phantom.write_store(tmp_path / "store", 0)


def test_a_store_needs_a_worker(tmp_path) -> None:
    with pytest.raises(InputError, match="at least 1 worker, not 0"):
        phantom.write_store(tmp_path / "store", 3, workers=0)
