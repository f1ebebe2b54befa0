"""The probe against scikit-learn used directly; episodes the same for every init."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import normalize

from scxr.data import RadiographStore, StoreWriter
from scxr.data.episodes import is_validation
from scxr.data.store import NORMAL
from scxr.errors import InputError
from scxr.evaluate.experiment import draw_experiment
from scxr.evaluate.features import PixelEncoder, extract
from scxr.evaluate.heads import LinearHead
from scxr.evaluate.probe import STRENGTHS, _patient_folds, evaluate_probe, fit_head, probe_scores
from scxr.evaluate.results import RESULT_COLUMNS, SCORE_COLUMNS, compare, summarise


def few(shots: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positive-valued features, as a ResNet gives, with a weak signal."""
    random = np.random.default_rng(seed)
    features = np.abs(random.normal(size=(2 * shots, 40)))
    features[:shots, :4] += 0.7
    return features, np.repeat([1, 0], shots)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("shots", [2, 5, 20])
def test_series_is_scikit_learns_probe_selected_by_accuracy(shots: int) -> None:
    features, labels = few(shots)
    reference = LogisticRegressionCV(
        Cs=STRENGTHS, cv=min(5, shots), scoring="accuracy", max_iter=1000
    ).fit(normalize(features), labels)
    head = fit_head(features, labels, setting="series")
    assert head.strength == pytest.approx(float(np.ravel(reference.C_)[0]))
    expected = reference.decision_function(normalize(features))
    np.testing.assert_allclose(head.score(features), expected, atol=1e-8)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_sound_selects_by_auc() -> None:
    features, labels = few(20, seed=4)
    folds = list(StratifiedGroupKFold(5).split(labels, labels, np.arange(40)))
    reference = LogisticRegressionCV(Cs=STRENGTHS, cv=folds, scoring="roc_auc", max_iter=1000).fit(
        normalize(features), labels
    )
    head = fit_head(features, labels)
    assert head.strength == pytest.approx(float(np.ravel(reference.C_)[0]))
    np.testing.assert_allclose(head.weights, reference.coef_.ravel(), atol=1e-8)


@pytest.mark.parametrize(("setting", "shots"), [("series", 1), ("sound", 1), ("sound", 4)])
def test_too_few_shots_to_select_take_c_of_one(setting: str, shots: int) -> None:
    features, labels = few(shots)
    reference = LogisticRegression(C=1.0, max_iter=1000).fit(normalize(features), labels)
    head = fit_head(features, labels, setting=setting)
    assert head.strength == 1.0
    np.testing.assert_allclose(head.weights, reference.coef_.ravel(), atol=1e-8)


def test_folds_never_part_a_patient() -> None:
    labels = np.repeat([1, 0], 12)
    patients = np.r_[np.repeat(np.arange(4), 3), np.arange(4, 16)]
    folds = _patient_folds(labels, patients)
    assert len(folds) > 1
    for train, test in folds:
        assert not set(patients[train]) & set(patients[test])
        assert set(labels[train]) == set(labels[test]) == {0, 1}
    assert _patient_folds(labels, np.repeat([0, 1], 12)) == []  # one patient a class


def test_the_head_sees_directions_not_lengths() -> None:
    features, labels = few(5)
    head = fit_head(features, labels)
    np.testing.assert_allclose(head.score(features), head.score(features * 37))
    assert head.score(np.zeros((1, 40))) == pytest.approx(head.bias)


def test_what_cannot_be_fitted() -> None:
    features, labels = few(3)
    with pytest.raises(InputError, match="all the labels"):
        fit_head(features, np.ones(6))
    with pytest.raises(InputError, match="1 of 6 images are NaN"):
        fit_head(np.where(np.arange(6)[:, None] == 2, np.nan, features), labels)
    with pytest.raises(InputError, match="Unknown setting"):
        fit_head(features, labels, setting="best")
    with pytest.raises(InputError, match="6 features for 5 labels"):
        fit_head(features, labels[:5])
    with pytest.raises(InputError, match="fitted on 40 features"):
        fit_head(features, labels).score(np.zeros((2, 41)))


@pytest.fixture(scope="module")
def scores(target: RadiographStore, findings: list[str]) -> pd.DataFrame:
    """Two pixel baselines on the same episodes."""
    episodes = draw_experiment(target, findings, (1, 5), 3)
    encoders = {"small": PixelEncoder(8), "large": PixelEncoder(16)}
    return probe_scores(encoders, target, episodes, cache=False, progress=False)


def test_all_inits_are_scored_on_the_same_images(
    scores: pd.DataFrame, target: RadiographStore, findings: list[str]
) -> None:
    assert tuple(scores.columns) == SCORE_COLUMNS
    keys = ["finding", "shots", "trial", "row", "patient", "label", "positives"]
    small, large = (
        scores.loc[scores["init"] == n, keys].reset_index(drop=True) for n in ("small", "large")
    )
    pd.testing.assert_frame_equal(small, large)
    episode = draw_experiment(target, findings[:1], (5,), 3)[2]
    part = small.query("finding == @episode.finding and shots == 5 and trial == 2")
    np.testing.assert_array_equal(part["row"], episode.val_rows)
    np.testing.assert_array_equal(part["label"], episode.val_labels)


def test_an_episode_step_by_step(
    scores: pd.DataFrame, target: RadiographStore, findings: list[str]
) -> None:
    episode = draw_experiment(target, findings[:1], (5,), 3)[1]
    patients = target.table["patient"].to_numpy()
    train, val = (
        extract(PixelEncoder(16), target, rows, cache=False)
        for rows in (episode.train_rows, episode.val_rows)
    )
    head = fit_head(train, episode.train_labels, patients=patients[episode.train_rows])
    part = scores.query(
        "init == 'large' and finding == @episode.finding and shots == 5 and trial == 1"
    )
    np.testing.assert_allclose(part["score"], head.score(val), rtol=1e-6)


def test_processes_change_nothing(target: RadiographStore, findings: list[str]) -> None:
    episodes = draw_experiment(target, findings[:1], (1, 5), 2)
    one, two = (
        probe_scores(
            {"pixels": PixelEncoder(8)}, target, episodes, jobs=jobs, cache=False, progress=False
        )
        for jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two)


def test_the_summary_restates_the_scores(scores: pd.DataFrame, findings: list[str]) -> None:
    table = summarise(scores)
    assert tuple(table.columns) == RESULT_COLUMNS
    assert len(table) == 2 * 2 * 2
    row = table.query("init == 'large' and shots == 5 and finding == @findings[0]").iloc[0]
    part = scores.query("init == 'large' and shots == 5 and finding == @findings[0]")
    aucs = [roc_auc_score(t["label"], t["score"]) for _, t in part.groupby("trial")]
    assert row["auc_mean"] == pytest.approx(np.mean(aucs))
    assert row["auc_sd"] == pytest.approx(np.std(aucs, ddof=1))
    assert row["ci_low"] < row["auc_mean"] < row["ci_high"]
    held_out = part.loc[part["trial"] == 0, "label"]
    assert row["val_positives"] == held_out.sum()
    whose = part.loc[part["label"] == 1, "patient"].nunique()
    assert row["val_patients"] == whose
    assert f"only {whose} validation patients" in row["note"]
    assert row["auc_step"] == pytest.approx(1 / (held_out.sum() * (1 - held_out).sum()))
    pd.testing.assert_frame_equal(
        table,
        summarise(scores.sample(frac=1, random_state=0)).merge(
            table[["init", "finding", "shots"]], how="right"
        )[list(RESULT_COLUMNS)],
    )


def test_comparisons_are_paired_and_corrected_as_one_family(scores: pd.DataFrame) -> None:
    table = compare(scores, "small")
    means = summarise(scores).set_index(["init", "finding", "shots"])["auc_mean"]
    for row in table.itertuples():
        expected = means[row.init, row.finding, row.shots] - means["small", row.finding, row.shots]
        assert row.difference == pytest.approx(expected)
    assert (table["p_holm"] >= table["p"]).all()
    with pytest.raises(InputError, match="'best' and another init"):
        compare(scores, "best")
    with pytest.raises(InputError, match="lacks the columns score"):
        summarise(scores.drop(columns="score"))


def test_shots_beyond_the_positives_are_capped_and_said(
    target: RadiographStore, findings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        table = evaluate_probe(
            {"pixels": PixelEncoder(8)},
            target,
            findings[:1],
            (200,),
            2,
            cache=False,
            progress=False,
        )
    row = table.iloc[0]
    assert row["positives"] < 200
    assert f"only {row['positives']} training positives" in caplog.text
    assert f"{row['positives']} shots: no more training positives" in row["note"]


def test_a_probe_finds_what_is_there(target: RadiographStore) -> None:
    """A planted signal: one pixel of the 8 x 8 picture is made to follow the label."""

    class Told(PixelEncoder):
        def forward(self, images):
            pixels = super().forward(images)
            return pixels + 5 * (images.mean(dim=(1, 2, 3)) > 0.5)[:, None]

    bright = target.images.reshape(len(target), -1).mean(axis=1) / 255 > 0.5
    assert 20 < bright.sum() < len(target) - 20
    features = extract(Told(8), target, np.arange(len(target)), cache=False)
    train = np.r_[np.flatnonzero(bright)[:10], np.flatnonzero(~bright)[:10]]
    head = fit_head(features[train], bright[train])
    assert roc_auc_score(bright, head.score(features)) > 0.9


def test_nothing_to_evaluate(target: RadiographStore, findings: list[str]) -> None:
    with pytest.raises(InputError, match="at least one encoder"):
        probe_scores({}, target, draw_experiment(target, findings, (1,), 1))
    with pytest.raises(InputError, match="at least one finding"):
        draw_experiment(target, [], (1,), 1)
    with pytest.raises(InputError, match="hernia"):
        draw_experiment(target, ["hiatus hernia"], (1,), 1)
    with pytest.raises(InputError, match="at least 1"):
        draw_experiment(target, findings, (0,), 1)


def test_a_linear_head_is_plain_numbers() -> None:
    head = LinearHead(np.array([3.0, 4.0]), 0.5)
    np.testing.assert_allclose(head.score(np.array([[2.0, 0.0], [0.0, -9.0]])), [3.5, -3.5])


def test_a_finding_in_two_spellings_is_one(target: RadiographStore, findings: list[str]) -> None:
    name = findings[0]
    spelt = draw_experiment(target, [name.upper(), name, f" {name.title()} "], (1,), 2)
    once = draw_experiment(target, [name], (1,), 2)
    assert [e.finding for e in spelt] == [name, name]
    assert all((a.val_rows == b.val_rows).all() for a, b in zip(spelt, once, strict=True))


def test_too_few_negatives_are_said(
    target: RadiographStore,
    findings: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    table, normal = target.table.copy(), target.table["findings"] == NORMAL
    held_out = is_validation(table["patient"])
    for side in (held_out, ~held_out):  # two normal images stay on either side of the split
        table.loc[np.flatnonzero(normal & side)[2:], "findings"] = ""
    writer = StoreWriter(tmp_path / "ill", 32, 32, source={"kind": "test"})
    writer.add(target.images[:], table)
    ill = writer.finish()
    with caplog.at_level(logging.WARNING):
        draw_experiment(ill, findings[:1], (1, 5), 1)
    assert "only 2 negatives among the training images, beside 5 positives" in caplog.text
    assert "only 2 negatives among the validation images" in caplog.text
