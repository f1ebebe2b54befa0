"""Patients, prevalence and views of the two hospitals, without drawing a picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scxr.data.episodes import count_findings
from scxr.data.phantom import FINDINGS, HOSPITALS, cohort, generate
from scxr.data.phantom.acquisition import draw_exposure
from scxr.data.phantom.findings import draw_case
from scxr.data.phantom.randomness import Draws, stream


def table(hospital: str, n: int, seed: int = 0) -> pd.DataFrame:
    """Patient and findings of images 0 .. n-1, as `generate` would put them in its table."""
    place, rows = HOSPITALS[hospital], []
    for index in range(n):
        name = cohort.patient_name(index, place, seed)
        patient = cohort.draw_patient(name, place, seed)
        shown = cohort.shown_findings(patient, index, place, seed)
        rows.append((name, "|".join(shown) or "No Finding", len(shown)))
    return pd.DataFrame(rows, columns=["patient", "findings", "count"])


def test_the_cohort_is_what_generate_returns() -> None:
    made = generate(range(60), size=32, hospital="B", seed=4, masks=False).table
    expected = table("B", 60, seed=4)
    assert list(made["patient"]) == list(expected["patient"])
    assert list(made["findings"]) == list(expected["findings"])


def test_no_patient_is_shared_between_hospitals_or_seeds() -> None:
    groups = [set(table(h, 400, seed)["patient"]) for h in "AB" for seed in (0, 1)]
    assert len(set.union(*groups)) == sum(map(len, groups))


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_patients_own_about_two_and_a_half_images(hospital: str) -> None:
    sizes = table(hospital, 3000).groupby("patient").size()
    assert sizes.mean() == pytest.approx(2.5, abs=0.25)
    assert sizes.max() >= 5


def test_a_patients_images_share_sex_and_age_but_not_the_exposure() -> None:
    batch = generate(range(60), size=32, hospital="A", masks=False)
    by_patient = batch.table.groupby("patient")
    assert (by_patient["sex"].nunique() == 1).all()
    assert (by_patient["age"].nunique() == 1).all()
    rows = next(group.index for _, group in by_patient if len(group) > 1)
    assert not np.array_equal(batch.images[rows[0]], batch.images[rows[1]])


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_hospital_b_is_half_normal_with_one_finding_at_most(seed: int) -> None:
    rows = table("B", 3000, seed)
    assert rows["count"].max() == 1
    assert (rows["findings"] == "No Finding").mean() == pytest.approx(0.5, abs=0.06)
    counts = rows["findings"].value_counts()
    assert set(FINDINGS) <= set(counts.index)
    assert counts.min() >= 60


def test_hospital_a_shows_several_findings_on_most_images_and_none_on_some() -> None:
    rows = table("A", 3000)
    assert (rows["findings"] == "No Finding").mean() == pytest.approx(0.21, abs=0.06)
    assert rows.loc[rows["count"] > 0, "count"].mean() > 2.5
    assert rows["count"].max() >= 6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_four_thousand_images_of_b_are_enough_for_fifty_shots(seed: int) -> None:
    counts = count_findings(table("B", 4000, seed))
    assert set(counts["finding"]) == set(FINDINGS)
    assert counts["train"].min() >= 50
    assert counts["val"].min() >= 6


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_grades_cover_the_whole_range(hospital: str) -> None:
    names = [f"patient {number}" for number in range(400)]
    grades = np.array(
        [draw_case("pulmonary mass", name, hospital, 0).conspicuity for name in names]
    )
    share = np.histogram(grades, bins=4, range=(0, 1))[0] / len(grades)
    np.testing.assert_allclose(share, 0.25, atol=0.07)


def test_markers_differ_by_habit_only() -> None:
    exposures = {
        name: [draw_exposure(Draws(stream(0, name, "test", i), 40), place) for i in range(600)]
        for name, place in HOSPITALS.items()
    }
    for name, drawn in exposures.items():
        letters = [e.letter for e in drawn if e.marker is not None]
        share = np.mean([letter == HOSPITALS[name].marker_letter for letter in letters])
        assert share == pytest.approx(HOSPITALS[name].marker_habit, abs=0.07)
        assert set(letters) == {"L", "R"}
    sizes = {place.marker_size for place in HOSPITALS.values()}
    assert len(sizes) == len(HOSPITALS)
