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
from scxr.evaluate.comparison import TESTS, _contributions
from scxr.evaluate.results import SCORE_COLUMNS
from scxr.evaluate.simulation import Design
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


@settings(deadline=None)
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
        low, high = interval(Cell(drawn))
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
            low, high = interval(Cell(frame))
            covered.append(low <= truth <= high)
    assert np.mean(by_patient) >= 0.92
    assert np.mean(by_image) < 0.8


def within(successes: float, probability: float, repetitions: int) -> bool:
    """Whether a count is no surprise (one in ten thousand) under a binomial distribution."""
    low, high = stats.binom.interval(0.9999, repetitions, probability)
    return bool(low <= successes <= high)


@pytest.mark.parametrize(
    "design",
    [Design(6), Design(15, images=2.4, auc=0.9), Design(6, trials=10, auc=0.6), Design(15, 10)],
    ids=repr,
)
def test_intervals_and_tests_keep_their_word_in_simulation(design: Design) -> None:
    repetitions, covered, rejected = 200, 0, 0
    for seed in range(repetitions):
        first, second = design.cells(seed)
        low, high = interval(first)
        covered += low <= design.auc <= high
        rejected += paired_difference(first, second, repeats=499, seed=seed)["p"] < 0.05
    # What is promised is 95 +- 2 and 5 +- 2 per cent.
    assert any(within(covered, p, repetitions) for p in (0.93, 0.95, 0.97))
    assert any(within(rejected, p, repetitions) for p in (0.03, 0.05, 0.07))


@pytest.mark.parametrize("test", TESTS)
def test_every_paired_test_finds_a_large_difference_and_seldom_one_that_is_not(test: str) -> None:
    same, worse = Design(40), Design(40, auc=0.9, other=0.7)
    repetitions = 60
    wrong, right = (
        sum(
            paired_difference(*design.cells(seed), test=test, repeats=199)["p"] < 0.05
            for seed in range(repetitions)
        )
        for design in (same, worse)
    )
    assert wrong <= stats.binom.ppf(0.9999, repetitions, 0.07)
    assert right >= 0.8 * repetitions


@pytest.mark.parametrize("test", TESTS)
def test_the_interval_of_a_difference_leaves_zero_out_where_the_test_rejects(test: str) -> None:
    verdicts = set()
    for seed in range(40):
        design = Design(8, trials=1 + seed % 2, auc=0.85, other=0.65)
        found = paired_difference(*design.cells(seed), test=test, repeats=399)
        assert found["ci_low"] <= found["difference"] <= found["ci_high"]
        rejected = found["p"] < 0.05
        assert rejected == (not found["ci_low"] <= 0 <= found["ci_high"])
        verdicts.add(rejected)
    assert verdicts == {True, False}


def test_the_simulation_has_the_auc_that_it_claims() -> None:
    for design in (Design(300, auc=0.8, other=0.65), Design(200, trials=40, auc=0.8, other=0.65)):
        cells = [design.cells(seed) for seed in range(5)]
        for init, truth in ((0, 0.8), (1, 0.65)):
            assert np.mean([pair[init].mean for pair in cells]) == pytest.approx(truth, abs=0.02)
    frame = Design(5, trials=2, images=2.4).draw(0)
    assert tuple(frame.columns) == SCORE_COLUMNS
    assert [len(part) for _, part in frame.groupby("init")] == [len(frame) // 2] * 2
    assert Cell(frame[frame["init"] == "a"]).mean == Design(5, 2, 2.4).cells(0)[0].mean


@pytest.mark.parametrize("seed", range(4))
def test_a_swap_is_what_swapping_the_ranks_gives(seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = Design(4, trials=2, images=2.4).cells(seed)
    contributions, shares = _contributions(first, second)
    assert shares.sum() == pytest.approx(1)
    assert contributions.sum(axis=1) == pytest.approx(first.aucs - second.aucs)
    for _ in range(5):
        swapped = random.random(len(first.patients)) < 0.5
        for found, one, two in zip(contributions, first.trials, second.trials, strict=True):
            ranks = np.stack([stats.rankdata(one.scores), stats.rankdata(two.scores)])
            ranks = np.where(swapped[one.patients], ranks[::-1], ranks)
            expected = roc_auc_score(one.labels, ranks[0]) - roc_auc_score(one.labels, ranks[1])
            assert found @ np.where(swapped, -1, 1) == pytest.approx(expected)


def test_scales_do_not_matter_to_the_swaps_and_equal_inits_do_not_differ() -> None:
    frame = cell(np.array([3.0, 1.0, 2.5, 4.0]), np.array([0.0, 2.0, 0.5, 1.5]))
    other = frame.assign(score=frame["score"].to_numpy()[[1, 0, 2, 3, 5, 4, 6, 7]])
    plain = paired_difference(Cell(frame), Cell(other))
    stretched = paired_difference(Cell(frame), Cell(other.assign(score=np.exp(other["score"]))))
    assert plain == stretched
    equal = paired_difference(Cell(frame), Cell(frame))
    assert equal["p"] == 1.0
    assert equal["ci_low"] < 0 < equal["ci_high"]


@pytest.mark.parametrize("test", TESTS)
def test_exchanging_the_inits_turns_the_answer_and_stretching_leaves_it(test: str) -> None:
    scores = Design(6, trials=3, images=2.4).draw(3)
    first, second = (scores[scores["init"] == init] for init in "ab")
    there = paired_difference(Cell(first), Cell(second), test=test)
    back = paired_difference(Cell(second), Cell(first), test=test)
    assert there["difference"] != 0
    assert back["difference"] == pytest.approx(-there["difference"], abs=1e-12)
    assert back["p"] == pytest.approx(there["p"], abs=1e-12)
    turned = (-back["ci_high"], -back["ci_low"])
    assert turned == pytest.approx((there["ci_low"], there["ci_high"]), abs=1e-12)
    stretched = first.assign(score=np.arctan(first["score"] / 3) - 40)
    assert paired_difference(Cell(stretched), Cell(second), test=test) == pytest.approx(there)


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


@pytest.mark.parametrize("test", TESTS)
def test_one_patient_says_nothing_about_others(test: str) -> None:
    frame = cell(np.array([2.0, 3.0]), np.array([0.0, 1.0]), np.zeros(4, dtype=int))
    with pytest.raises(InputError, match="one patient"):
        paired_difference(Cell(frame), Cell(frame), test=test)
    with pytest.raises(InputError, match="one patient"):
        interval(Cell(frame))


def test_an_unknown_test_is_refused_by_name() -> None:
    made = Cell(cell(np.array([2.0, 3.0]), np.array([0.0, 1.0])))
    with pytest.raises(InputError, match=r"'wilcoxon'.*permutation, delong, bootstrap"):
        paired_difference(made, made, test="wilcoxon")


def test_constant_scores_are_a_coin_and_not_a_certainty() -> None:
    made = Cell(cell(np.full(6, 0.5), np.full(6, 0.5)))
    low, high = interval(made)
    assert made.mean == 0.5
    assert low < 0.5 < high


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
