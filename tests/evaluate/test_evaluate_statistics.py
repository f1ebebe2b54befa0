"""AUC, intervals and comparisons against pair counting, scikit-learn, and simulated truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from scxr.errors import InputError
from scxr.evaluate.statistics import (
    Cell,
    auc,
    hanley_mcneil,
    holm,
    interval,
    mean_interval,
    paired_difference,
    score_interval,
)


def cell(
    positive: np.ndarray, negative: np.ndarray, patients: np.ndarray | None = None
) -> pd.DataFrame:
    """One trial's scores; everybody their own patient unless said otherwise."""
    n = len(positive) + len(negative)
    return pd.DataFrame(
        {
            "trial": 0,
            "row": np.arange(n),
            "patient": [f"p{i}" for i in (np.arange(n) if patients is None else patients)],
            "label": np.repeat([1, 0], [len(positive), len(negative)]),
            "score": np.concatenate([positive, negative]),
        }
    )


def shift_for(truth: float) -> float:
    """How far apart two unit Gaussians are whose AUC is `truth`."""
    return float(stats.norm.ppf(truth) * np.sqrt(2))


@given(st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_won(pairs: list[tuple[bool, int]]) -> None:
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score for _, score in pairs], dtype=float)
    if labels.all() or not labels.any():
        with pytest.raises(InputError, match="positives and negatives"):
            auc(labels, scores)
        return
    won = [(p > n) + 0.5 * (p == n) for p in scores[labels] for n in scores[~labels]]
    assert auc(labels, scores) == pytest.approx(np.mean(won))
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="1 of 3 scores"):
        auc(np.array([0, 1, 1]), np.array([0.0, np.nan, 1.0]))


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_a_weight_counts_like_copies_of_the_patient(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.r_[1, 0, random.integers(0, 2, 10)]
    scores = random.integers(0, 5, 12).astype(float)
    patients = random.integers(0, 6, 12)
    frame = cell(scores[labels == 1], scores[labels == 0])
    frame["patient"] = [f"p{i}" for i in np.r_[patients[labels == 1], patients[labels == 0]]]
    made = Cell(frame)
    weights = random.integers(0, 3, len(made.patients)).astype(float)
    copies = frame.loc[
        frame.index.repeat(
            frame["patient"].map(dict(zip(made.patients, weights, strict=True))).astype(int)
        )
    ]
    measured = made.under(weights[None])[0, 0]
    if copies["label"].nunique() < 2:
        assert np.isnan(measured)
    else:
        assert measured == pytest.approx(roc_auc_score(copies["label"], copies["score"]))


def test_the_ends_of_the_score_interval_are_the_values_just_refuted() -> None:
    low, high = score_interval(0.8, 12, 30, reach=1.96)
    for end in (low, high):
        assert abs(0.8 - end) == pytest.approx(1.96 * hanley_mcneil(end, 12, 30) ** 0.5, rel=1e-6)
    assert low < 0.8 < high


def test_four_perfect_positives_are_no_certainty() -> None:
    made = Cell(cell(np.arange(4) + 10.0, np.arange(4) * 1.0))
    low, high = interval(made)
    assert made.mean == 1.0 and high == 1.0
    assert low < 0.7
    assert made.step == 1 / 16
    mirrored = interval(Cell(cell(np.arange(4) * 1.0, np.arange(4) + 10.0)))
    assert mirrored == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("truth", "positives", "negatives"), [(0.7, 8, 8), (0.9, 20, 60)])
def test_intervals_cover_a_known_auc(truth: float, positives: int, negatives: int) -> None:
    random = np.random.default_rng(7)
    covered = []
    for _ in range(300):
        drawn = cell(random.normal(shift_for(truth), 1, positives), random.normal(0, 1, negatives))
        low, high = interval(Cell(drawn), repeats=300)
        covered.append(low <= truth <= high)
    assert 0.92 <= np.mean(covered) <= 0.985


def test_images_of_one_patient_are_not_independent_evidence() -> None:
    random, truth = np.random.default_rng(3), 0.75
    by_patient, by_image = [], []
    for _ in range(200):
        effect = np.repeat(random.normal(0, 0.9, 16), 5)  # 16 patients, 5 images each, alike
        scores = effect + random.normal(0, np.sqrt(1 - 0.81), 80)
        scores[:40] += shift_for(truth)
        patients = np.repeat(np.arange(16), 5)
        for frame, covered in (
            (cell(scores[:40], scores[40:], patients), by_patient),
            (cell(scores[:40], scores[40:]), by_image),
        ):
            low, high = interval(Cell(frame), repeats=200)
            covered.append(low <= truth <= high)
    assert np.mean(by_patient) >= 0.92
    assert np.mean(by_image) < 0.8


def few_shot_experiment(random: np.random.Generator, trials: int = 10) -> pd.DataFrame:
    """Nearest-mean classifiers from 5 shots, validated on the same positives in every trial."""
    shift = np.zeros(8)
    shift[0] = 1.5
    pool, others = random.normal(size=(60, 8)) + shift, random.normal(size=(400, 8))
    held, normal = random.normal(size=(15, 8)) + shift, random.normal(size=(200, 8))
    frames = []
    for trial in range(trials):
        take = random.permutation(60)[:5], random.permutation(400)[:5]
        direction = pool[take[0]].mean(axis=0) - others[take[1]].mean(axis=0)
        chosen = random.permutation(200)[:15]
        frame = cell(held @ direction, normal[chosen] @ direction)
        frame["row"] = np.r_[np.arange(15), 15 + chosen]
        frame["patient"] = [f"p{i}" for i in frame["row"]]
        frames.append(frame.assign(trial=trial))
    return pd.concat(frames)


def test_the_interval_over_trials_covers_the_expected_auc() -> None:
    random = np.random.default_rng(11)
    shift = np.zeros(8)
    shift[0] = 1.5
    directions = shift + random.normal(0, np.sqrt(2 / 5), (20_000, 8))
    expected = stats.norm.cdf(
        directions @ shift / np.linalg.norm(directions, axis=1) / np.sqrt(2)
    ).mean()
    covered = []
    for _ in range(150):
        low, high = interval(Cell(few_shot_experiment(random)), repeats=200)
        covered.append(low <= expected <= high)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_a_paired_comparison_rejects_a_true_null_rarely_and_a_difference_often() -> None:
    random = np.random.default_rng(5)
    same, better = [], []
    for _ in range(200):
        base = np.r_[random.normal(1, 1, 60), random.normal(0, 1, 60)]
        noise = random.normal(0, 0.6, (3, 120))
        first, second, worse = (
            Cell(cell(s[:60], s[60:])) for s in (base + noise[0], base + noise[1], 4 * noise[2])
        )
        same.append(paired_difference(first, second, repeats=200)["p"] < 0.05)
        better.append(paired_difference(first, worse, repeats=200)["p"] < 0.05)
    assert 0.01 <= np.mean(same) <= 0.09
    assert np.mean(better) >= 0.8


def test_pairing_uses_that_both_saw_the_same_patients() -> None:
    random = np.random.default_rng(2)
    base = np.r_[random.normal(1, 1, 40), random.normal(0, 1, 40)]
    first, second = (base + random.normal(0, 0.2, 80) for _ in range(2))
    cells = [Cell(cell(s[:40], s[40:])) for s in (first, second)]
    found = paired_difference(*cells)
    alone = [interval(c) for c in cells]
    assert found["difference"] == pytest.approx(cells[0].mean - cells[1].mean)
    assert found["ci_high"] - found["ci_low"] < 0.7 * (alone[0][1] - alone[0][0])


def test_inits_scored_on_other_images_cannot_be_paired() -> None:
    frame = cell(np.array([1.0, 2.0]), np.array([0.0, 0.5]))
    with pytest.raises(InputError, match="different images"):
        paired_difference(Cell(frame), Cell(frame.assign(row=frame["row"] + 1)))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    with pytest.raises(InputError, match="between 0 and 1"):
        holm([0.1, np.nan])


def test_mean_interval_agrees_with_scipy_where_every_image_has_its_own_patient() -> None:
    values = np.random.default_rng(0).gamma(2, 1, 60)
    ours = mean_interval(values, np.arange(60), repeats=4000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_mean_interval_is_wider_when_images_share_patients() -> None:
    patients = np.repeat(np.arange(10), 6)
    values = np.random.default_rng(0).normal(size=10)[patients]
    shared = mean_interval(values, patients)
    apart = mean_interval(values, np.arange(60))
    assert shared[1] - shared[0] > 1.8 * (apart[1] - apart[0])
    assert np.isnan(mean_interval(np.array([np.nan]), np.array(["a"]))).all()
