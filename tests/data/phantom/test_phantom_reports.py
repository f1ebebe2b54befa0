"""A report names what its image shows, where the masks are, and nothing else."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from scxr.data.phantom import FINDINGS, HOSPITALS, PhantomBatch, generate

# Independent of the words' origin: what a reader would look for.
NAMED = {
    "calcified granuloma": r"granuloma",
    "interstitial pattern": r"(?<!reticular )interstitial pattern",
    "callus rib fracture": r"callus",
    "hemidiaphragm elevation": r"hemidiaphragm",
    "hiatal hernia": r"hernia",
    "bronchiectasis": r"bronchiectasis",
    "fibrotic band": r"band",
    "reticular interstitial pattern": r"reticular",
    "pulmonary mass": r"\bmass(es)?\b",
    "pulmonary fibrosis": r"fibrosis",
}
PLACED = ("calcified granuloma", "pulmonary mass", "fibrotic band", "callus rib fracture")
SIZE = 96


@pytest.fixture(scope="module", params=sorted(HOSPITALS))
def table(request: pytest.FixtureRequest) -> pd.DataFrame:
    return generate(range(400), size=32, hospital=request.param, seed=3, masks=False).table


def shown(finding: str) -> PhantomBatch:
    indices = range(0, 720, 15)
    return generate(indices, size=SIZE, hospital="B", findings=[[finding]] * len(indices))


def test_a_report_names_the_findings_and_no_other(table: pd.DataFrame) -> None:
    assert set(NAMED) == set(FINDINGS)
    for findings, report in zip(table["findings"], table["report"], strict=True):
        named = {name for name, pattern in NAMED.items() if re.search(pattern, report.lower())}
        assert named == set(findings.split("|")) - {"No Finding"}, report


def test_a_report_is_one_or_two_sentences_with_the_view(table: pd.DataFrame) -> None:
    for view, report in zip(table["view"], table["report"], strict=True):
        assert 1 <= len(re.findall(r"\.(?: |$)", report)) <= 2
        assert report[0].isupper()
        assert report.endswith(".")
        assert "  " not in report
        assert view in report
        assert {"AP": "PA", "PA": "AP"}[view] not in report


def test_normal_images_are_called_normal_in_several_ways(table: pd.DataFrame) -> None:
    normal = table.loc[table["findings"] == "No Finding", "report"]
    assert normal.str.contains(r"[Nn]ormal|[Nn]o |[Nn]either|without|clear").all()
    assert normal.nunique() > 12
    abnormal = table.loc[table["findings"] != "No Finding", "report"]
    assert not abnormal.str.contains(r"Normal|no abnormality|No acute|without evidence").any()


def test_the_heart_is_called_normal_only_where_it_is_small() -> None:
    batch = generate(range(0, 720, 3), size=64, hospital="B", findings=[[]] * 240)
    lungs = batch.masks["left_lung"] | batch.masks["right_lung"]
    pairs = zip(batch.masks["heart"], lungs, strict=True)
    ratio = np.array([np.ptp(np.nonzero(h)[1]) / np.ptp(np.nonzero(g)[1]) for h, g in pairs])
    called = batch.table["report"].str.contains("heart is not enlarged").to_numpy()
    assert called.sum() > 20
    # The usual limit is half the width of the chest; a chest cut by the collimator looks narrower.
    assert np.quantile(ratio[called], 0.9) < 0.53
    assert ratio[called].mean() < ratio.mean()


@pytest.mark.parametrize("finding", [*PLACED, "hemidiaphragm elevation", "bronchiectasis"])
def test_the_side_is_the_patients_and_agrees_with_the_mask(finding: str) -> None:
    batch, sides = shown(finding), {"left": 0, "right": 0, "both": 0}
    middle = [np.nonzero(spine)[1].mean() for spine in batch.masks["spine"]]
    for report, mask, spine in zip(
        batch.table["report"], batch.masks[finding], middle, strict=True
    ):
        side = re.search(r"\b(left|right|both)\b", report.lower())
        assert side is not None, report
        columns = np.nonzero(mask)[1] - spine
        share_left = (columns > 0).mean()  # the patient's left is the image's right
        sides[side[1]] += 1
        expected = {"left": share_left > 0.7, "right": share_left < 0.3}
        assert expected.get(side[1], 0.05 < share_left < 0.95), report
    assert sides["left"] > 5
    assert sides["right"] > 5


@pytest.mark.parametrize("finding", PLACED[:3])
def test_the_zone_agrees_with_the_mask(finding: str) -> None:
    batch, checked = shown(finding), 0
    for row, report in enumerate(batch.table["report"]):
        zone = re.search(r"(left|right) (upper|middle|lower) zone", report)
        if zone is None:
            continue
        # The lung above the diaphragm on that side, as the region masks show it.
        lung = np.nonzero(batch.masks[f"{zone[1]}_lung"][row])[0]
        height = np.nonzero(batch.masks[finding][row])[0].mean()
        third = (height - lung.min()) / (np.quantile(lung, 0.97) - lung.min()) * 3
        start = ("upper", "middle", "lower").index(zone[2])
        assert start - 0.45 < third < start + 1.45, report
        checked += 1
    assert checked > 8


def test_the_grade_is_in_the_words() -> None:
    table = shown("pulmonary mass").table
    grade = table["conspicuity"].str.split("=").str[1].astype(float)
    faint, large = (table["report"].str.contains(rf"\b{w}\b") for w in ("faint", "large"))
    assert grade[faint].max() <= 0.34
    assert grade[large].min() >= 0.66
    assert faint.any()
    assert large.any()


def test_the_number_of_nodules_is_that_of_the_picture() -> None:
    from scipy import ndimage

    batch = generate(
        range(0, 300, 10), size=256, hospital="B", findings=[["calcified granuloma"]] * 30
    )
    words = {"a": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}
    for report, mask in zip(batch.table["report"], batch.masks["calcified granuloma"], strict=True):
        match = re.search(rf"\b({'|'.join(words)})\b[a-z ]* granuloma", report.lower())
        assert match is not None, report
        assert ndimage.label(mask)[1] <= words[match[1]]  # two may overlap


def test_a_report_does_not_depend_on_the_size_or_the_batch() -> None:
    small, large = (generate(range(40), size=s, hospital="A", masks=False) for s in (32, 160))
    assert list(small.table["report"]) == list(large.table["report"])
    alone = generate([7], size=64, hospital="A")
    assert alone.table["report"].iloc[0] == small.table["report"].iloc[7]
