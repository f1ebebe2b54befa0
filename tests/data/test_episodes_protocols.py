"""The two protocols: invariants on random tables, the series' published counts on the real one."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scxr.data.episodes import Episode, is_validation
from scxr.data.exclusions import FURTHER_EXCLUSIONS, SERIES_EXCLUSIONS
from scxr.data.label_tables import read_label_table
from scxr.data.protocols import (
    FORCED,
    KEPT,
    PROTOCOLS,
    SERIES_FOLDERS,
    cohort_findings,
    cohort_funnel,
    count_cohort,
    describe_negatives,
    draw_cohort,
    get_protocol,
    negative_rows,
    usable_rows,
)
from scxr.errors import InputError
from scxr.published import finding_counts

TEN = {
    *("calcified granuloma", "interstitial pattern", "callus rib fracture", "hiatal hernia"),
    *("hemidiaphragm elevation", "bronchiectasis", "fibrotic band", "pulmonary mass"),
    *("reticular interstitial pattern", "pulmonary fibrosis"),
}
NAMES = ["goiter", "hiatal hernia", "Pulmonary Fibrosis", "pneumonia", "pacemaker", "catheter"]
SMALL = {
    name: dataclasses.replace(protocol, min_train=4, min_val=3)
    for name, protocol in PROTOCOLS.items()
}


def excluded(*groups: dict[str, tuple[str, ...]]) -> set[str]:
    return {name.casefold() for group in groups for names in group.values() for name in names}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Up to 400 images: few patients with many images, many with one, all kinds of labels."""
    seed = draw(st.integers(0, 2**32 - 1))
    n = draw(st.integers(60, 400))
    stream = np.random.default_rng(seed)
    labels = [*NAMES, "No Finding", "", "goiter|hiatal hernia", "No Finding"]
    findings = stream.choice(labels, n, p=stream.dirichlet(np.ones(len(labels))))
    listed = [str(text.count("|") + 1 + (stream.random() < 0.1)) for text in findings]
    return pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(n)],
            "patient": [f"p{number}" for number in stream.geometric(0.02, n)],
            "view": stream.choice(["PA", "AP", "L"], n, p=[0.6, 0.3, 0.1]),
            "findings": findings,
            "listed": listed,
        }
    )


quick = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def drawn(table: pd.DataFrame, name: str) -> list[Episode]:
    """All episodes of all findings that both sides have negatives for."""
    protocol = SMALL[name]
    negative = negative_rows(table, protocol)
    val = is_validation(table["patient"])
    if not (negative & val).any() or not (negative & ~val).any():
        return []
    return [
        episode
        for finding in cohort_findings(table, protocol)
        for episode in draw_cohort(table, protocol, finding, [1, 5, 20], range(2))
    ]


def by_hand(table: pd.DataFrame, series: bool) -> dict[str, list[int]]:
    """Counts on both sides by a plain loop over the rows."""
    counts: dict[str, list[int]] = {}
    for row in table.itertuples():
        if row.view not in ("PA", "AP") or not row.findings or "|" in row.findings:
            continue
        if series and row.listed != "1":
            continue
        if row.findings != "No Finding":
            digest = int(hashlib.md5(row.patient.encode()).hexdigest(), 16)
            counts.setdefault(row.findings.lower(), [0, 0])[digest % 5 == 0] += 1
    return counts


# --- invariants on random tables --------------------------------------------------------------


@quick
@given(tables(), st.sampled_from(sorted(SMALL)))
def test_counts_and_statuses_equal_a_plain_loop(table: pd.DataFrame, name: str) -> None:
    counts = count_cohort(table, SMALL[name])
    found = {row.finding.lower(): [row.train, row.val] for row in counts.itertuples()}
    expected = by_hand(table, series=name == "series")
    assert found == expected
    kept = {
        finding
        for finding, (train, val) in expected.items()
        if finding not in {"pneumonia", "pacemaker"}
        and not (name == "sound" and finding == "catheter")
        and train >= 4
        and (val >= 3 or (name == "series" and finding == "pulmonary fibrosis" and val > 0))
    }
    assert {finding.lower() for finding in cohort_findings(table, SMALL[name])} == kept
    assert (counts["train_patients"] <= counts["train"]).all()
    assert ((counts["val_patients"] > 0) == (counts["val"] > 0)).all()


@quick
@given(tables(), st.sampled_from(sorted(SMALL)))
def test_episodes_are_balanced_and_split_no_patient(table: pd.DataFrame, name: str) -> None:
    patients = table["patient"].to_numpy()
    findings = table["findings"].str.casefold().to_numpy()
    usable = usable_rows(table, SMALL[name])
    kept = {finding.casefold() for finding in cohort_findings(table, SMALL[name])}
    left_out = excluded(SERIES_EXCLUSIONS, FURTHER_EXCLUSIONS)
    for episode in drawn(table, name):
        assert not set(patients[episode.train_rows]) & set(patients[episode.val_rows])
        rows = np.concatenate([episode.train_rows, episode.val_rows])
        labels = np.concatenate([episode.train_labels, episode.val_labels])
        assert len(set(rows.tolist())) == len(rows) and usable[rows].all()
        assert (findings[rows[labels == 1]] == episode.finding.casefold()).all()
        assert episode.train_labels.sum() == min(episode.shots, episode.positives)
        assert (1 - episode.train_labels).sum() <= episode.train_labels.sum()
        assert episode.val_labels.sum() == episode.val_positives
        negatives = set(findings[rows[labels == 0]])
        assert not negatives & kept
        if name == "sound":
            assert not negatives & left_out


@quick
@given(tables())
def test_sound_draws_are_nested_and_share_their_validation_rows(table: pd.DataFrame) -> None:
    previous: Episode | None = None
    for episode in drawn(table, "sound"):
        if previous and (previous.finding, previous.trial) == (episode.finding, episode.trial):
            assert set(previous.train_rows.tolist()) <= set(episode.train_rows.tolist())
            np.testing.assert_array_equal(previous.val_rows, episode.val_rows)
        previous = episode


@quick
@given(tables(), st.sampled_from(sorted(SMALL)))
def test_a_funnel_narrows_and_its_sides_add_up(table: pd.DataFrame, name: str) -> None:
    funnel = cohort_funnel(table, SMALL[name]).set_index("step")
    assert funnel.loc["rows of the table", "images"] == len(table)
    assert (funnel["train"] + funnel["val"] == funnel["images"]).all()
    narrowing = funnel.drop("negatives")
    assert narrowing["images"].is_monotonic_decreasing
    assert narrowing["patients"].is_monotonic_decreasing
    kept = cohort_findings(table, SMALL[name])
    counts = count_cohort(table, SMALL[name]).set_index("finding").loc[kept]
    assert funnel.loc["a finding with enough images", "images"] == (
        counts["train"].sum() + counts["val"].sum()
    )
    kinds = describe_negatives(table, SMALL[name])
    assert kinds["images"].sum() == funnel.loc["negatives", "images"]
    assert kinds.empty or kinds["share"].sum() == pytest.approx(1)


# --- the series' draw, call by call -----------------------------------------------------------


def series_pools(table: pd.DataFrame, kept: set[str], cap: int) -> dict[str, list[int]]:
    """Row numbers in the order of the series' code: grouped by patient as they appear."""
    rows: dict[str, dict[str, list[int]]] = {"positive": {}, "negative": {}}
    unwanted = excluded(SERIES_EXCLUSIONS) | {"no finding"}
    for number, row in enumerate(table.itertuples()):
        if row.view not in ("PA", "AP") or row.listed != "1" or not row.findings:
            continue
        label = row.findings.lower()
        if label not in unwanted:
            rows["positive"].setdefault(row.patient, []).append(number)
        if label not in kept:
            rows["negative"].setdefault(row.patient, []).append(number)
    pools: dict[str, list[int]] = {}
    for kind, patients in rows.items():
        for patient, numbers in patients.items():
            side = int(hashlib.md5(patient.encode()).hexdigest(), 16) % 5 == 0
            pools.setdefault(f"{kind} {'val' if side else 'train'}", []).extend(numbers)
    stream = random.Random(42)
    for side in ("train", "val"):
        pool = pools[f"negative {side}"]
        pools[f"negative {side}"] = stream.sample(pool, cap) if len(pool) > cap else pool
    return pools


@pytest.mark.parametrize("cap", [8, 5000])
def test_the_series_draw_is_reproduced_image_by_image(cap: int) -> None:
    stream = np.random.default_rng(5)
    n = 900
    table = pd.DataFrame(
        {
            "patient": [f"p{number}" for number in stream.integers(0, 300, n)],
            "view": "PA",
            "findings": stream.choice(["goiter", "hiatal hernia", "pneumonia", "No Finding"], n),
            "listed": stream.choice(["1", "2"], n, p=[0.9, 0.1]),
        }
    )
    protocol = dataclasses.replace(PROTOCOLS["series"], negative_caps=(cap, cap))
    pools = series_pools(table, {"goiter", "hiatal hernia"}, cap)
    labels = table["findings"]
    train = [row for row in pools["positive train"] if labels[row] == "goiter"]
    val = [row for row in pools["positive val"] if labels[row] == "goiter"]
    for episode in draw_cohort(table, protocol, "Goiter", [1, 5, 500], range(3)):
        shots = min(episode.shots, len(train))
        draw = random.Random(42 + episode.trial)
        positive = [train[i] for i in draw.sample(range(len(train)), shots)]
        pool = pools["negative train"]
        negative = [pool[i] for i in draw.sample(range(len(pool)), min(shots, len(pool)))]
        pool = pools["negative val"]
        against = [pool[i] for i in draw.sample(range(len(pool)), min(len(val), len(pool)))]
        assert episode.train_rows.tolist() == positive + negative
        assert episode.val_rows.tolist() == val + against


# --- what is refused --------------------------------------------------------------------------


def test_unknown_protocols_and_findings_are_refused() -> None:
    table = pd.DataFrame(
        {
            "patient": [f"p{i}" for i in range(400)],
            "view": "PA",
            "findings": ["goiter", "pneumonia", "No Finding", "hiatal hernia"] * 100,
        }
    )
    with pytest.raises(InputError, match="no protocol 'strict'; choose of series, sound"):
        cohort_findings(table, "strict")
    assert get_protocol("sound") is PROTOCOLS["sound"]
    with pytest.raises(InputError, match="did you mean goiter"):
        draw_cohort(table, "sound", "goitre", [1], [0])
    with pytest.raises(InputError, match="No image has the finding 'pneumonia'"):
        draw_cohort(table, "sound", "pneumonia", [1], [0])
    with pytest.raises(InputError, match="number of shots"):
        draw_cohort(table, "series", "goiter", [0], [0])


# --- the real tables --------------------------------------------------------------------------

needs_tables = pytest.mark.skipif(
    importlib.util.find_spec("torchxrayvision") is None, reason="torchxrayvision is not installed"
)


@pytest.fixture(scope="module")
def padchest() -> pd.DataFrame:
    return read_label_table("padchest")


@pytest.fixture(scope="module")
def archives(padchest: pd.DataFrame) -> pd.DataFrame:
    """The part of PadChest that the series worked with."""
    return padchest[padchest["folder"].isin(SERIES_FOLDERS)].reset_index(drop=True)


@needs_tables
def test_the_published_counts_are_met_to_the_image(archives: pd.DataFrame) -> None:
    counts = count_cohort(archives, "series")
    shown = counts[~counts["status"].isin(SERIES_EXCLUSIONS)]
    ours = {row.finding.lower(): (row.train, row.val) for row in shown.itertuples()}
    published = {row.finding: (row.train, row.val) for row in finding_counts().itertuples()}
    assert len(published) == 74 and ours == published
    funnel = cohort_funnel(archives, "series").set_index("step")
    assert funnel.loc["a finding that is not excluded", "patients"] == 1076
    assert round(funnel.loc["view PA or AP", "images"], -2) == 34_500


@needs_tables
def test_the_ten_findings_follow_and_one_of_them_by_force(archives: pd.DataFrame) -> None:
    assert set(cohort_findings(archives, "series")) == TEN
    assert set(cohort_findings(archives, "sound")) == TEN - {"pulmonary fibrosis"}
    counts = count_cohort(archives, "series").set_index("finding")
    assert counts.loc["pulmonary fibrosis", ["train", "val", "status"]].tolist() == [24, 4, FORCED]
    assert (counts["status"] == KEPT).sum() == 9


@needs_tables
def test_the_counts_leave_no_other_choice_of_archives(padchest: pd.DataFrame) -> None:
    """Archive by archive the counts are a linear system; its solution is unique and 0 or 1."""
    rows = padchest[usable_rows(padchest, "series")]
    rows = rows.assign(finding=rows["findings"].str.lower(), val=is_validation(rows["patient"]))
    cells = rows.groupby(["finding", "val", "folder"]).size().unstack("folder", fill_value=0)
    cells = cells.drop(columns="50", errors="ignore")  # one image, with no finding counted here
    published = finding_counts().set_index("finding")
    wanted = [(name, side) for name in published.index for side in (False, True)]
    matrix = cells.reindex(wanted, fill_value=0).to_numpy(dtype=float)
    target = np.array([published.loc[name, "val" if side else "train"] for name, side in wanted])
    solution, _, rank, _ = np.linalg.lstsq(matrix, target, rcond=None)
    assert rank == matrix.shape[1] == 51
    np.testing.assert_allclose(solution, np.isin(cells.columns, SERIES_FOLDERS), atol=1e-8)


@needs_tables
def test_the_series_counts_excluded_findings_among_its_negatives(archives: pd.DataFrame) -> None:
    series = describe_negatives(archives, "series").set_index("kind")["share"]
    sound = describe_negatives(archives, "sound").set_index("kind")["share"]
    assert series[list(SERIES_EXCLUSIONS)].sum() > 0.3
    assert set(sound.index) == {"No Finding", "too few images"}
    findings = archives["findings"].str.lower()
    for name, expected in (("series", True), ("sound", False)):
        negatives = set(findings[negative_rows(archives, name)])
        assert ({"rib fracture", "granuloma", "pacemaker"} <= negatives) is expected


@needs_tables
def test_every_excluded_name_occurs_in_the_table(padchest: pd.DataFrame) -> None:
    there = {part.casefold() for text in padchest["findings"].unique() for part in text.split("|")}
    assert excluded(SERIES_EXCLUSIONS, FURTHER_EXCLUSIONS) <= there
    names = [name for group in SERIES_EXCLUSIONS.values() for name in group]
    assert len(names) == len(set(names)), "each has one reason"


@needs_tables
def test_nih_under_both_protocols() -> None:
    table = read_label_table("nih")
    for name in PROTOCOLS:
        funnel = cohort_funnel(table, name).set_index("step")
        assert funnel.loc["one finding, or none", "images"] == 91_324
        # The list is made of PadChest's words: NIH's Effusion and Infiltration slip through it.
        assert {"Effusion", "Infiltration", "Hernia"} <= set(cohort_findings(table, name))
        (episode,) = draw_cohort(table, name, "Hernia", [20], [0])
        labels = table["findings"].to_numpy()
        assert set(labels[episode.train_rows[episode.train_labels == 1]]) == {"Hernia"}
        patients = table["patient"].to_numpy()
        assert not set(patients[episode.train_rows]) & set(patients[episode.val_rows])
