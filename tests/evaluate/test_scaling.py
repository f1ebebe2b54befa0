"""How many labels: curves of known truth, degenerate curves, and what may not be answered."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from scxr.errors import InputError
from scxr.evaluate import fit_scaling
from scxr.evaluate.power_law import EXPONENTS, fit_power_law
from scxr.evaluate.scaling import MEAN
from scxr.evaluate.simulation import Design

SHOTS = np.array([1.0, 5.0, 10.0, 20.0, 50.0])


def curve(ceiling: float, scale: float, exponent: float, shots: np.ndarray = SHOTS) -> np.ndarray:
    return ceiling - scale * shots**-exponent


def results(aucs: np.ndarray, error: float = 0.01, **columns: object) -> pd.DataFrame:
    """A table of results for one init with intervals of +- 1.96 `error`."""
    table = pd.DataFrame(
        {"init": "moco", "finding": "mass", "shots": SHOTS.astype(int), "auc_mean": aucs}
    ).assign(ci_low=aucs - 1.96 * error, ci_high=aucs + 1.96 * error, positives=80)
    return table.assign(**columns)


def scores(*gains: float, trials: int = 3, patients: int = 15) -> pd.DataFrame:
    """Scores at shots 1, 5, 10, ...: one simulated validation set, seen better and better."""
    frames = []
    for finding in ("mass", "hernia"):
        first = Design(patients, trials=trials).draw(len(finding))
        noise = np.random.default_rng(0).normal(size=len(first))
        for number, gain in zip(SHOTS, gains, strict=False):
            score = gain * first["label"] + noise
            frames.append(first.assign(finding=finding, shots=int(number), score=score))
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize(
    "truth", [(0.9, 0.3, 0.6), (0.75, 0.2, 1.3), (0.97, 0.4, 0.3), (1.0, 0.3, 0.4)]
)
def test_a_curve_without_noise_is_found_again(truth: tuple[float, float, float]) -> None:
    found = fit_power_law(SHOTS, curve(*truth), np.array([1.0, 2.0, 1.0, 3.0, 1.0]))
    np.testing.assert_allclose(found, truth, atol=2e-3)


def test_no_fit_of_scipy_is_better() -> None:
    random = np.random.default_rng(0)
    weights = random.uniform(0.5, 2, len(SHOTS))
    noisy = curve(0.9, 0.3, 0.6) + random.normal(0, 0.02, (30, len(SHOTS)))
    ours = np.stack(fit_power_law(SHOTS, noisy, weights), axis=1)
    for points, parameters in zip(noisy, ours, strict=True):
        theirs, _ = curve_fit(
            lambda n, c, s, e: c - s * n**-e, SHOTS, points, p0=(0.9, 0.3, 0.6),
            sigma=weights**-0.5, bounds=((0, 0, EXPONENTS[0]), (1, np.inf, EXPONENTS[1])),
            max_nfev=10_000,
        )  # fmt: skip
        errors = [float(weights @ (points - curve(*found)) ** 2) for found in (parameters, theirs)]
        assert errors[0] <= errors[1] + 1e-6


def test_intervals_cover_the_true_curve_ceiling_and_number_of_labels() -> None:
    random, truth, repetitions = np.random.default_rng(1), (0.9, 0.3, 0.6), 120
    target, hits = float(curve(*truth, np.array([100.0]))[0]), np.zeros(3)
    for seed in range(repetitions):
        noisy = curve(*truth) + random.normal(0, 0.02, len(SHOTS))
        fit = fit_scaling(results(noisy, 0.02), seed=seed, repeats=300)
        predicted = fit.predict([100]).iloc[0]
        needed = fit.labels_needed(target)
        hits += (
            predicted["ci_low"] <= target <= predicted["ci_high"],
            fit.ceiling_interval[0] <= truth[0] <= fit.ceiling_interval[1],
            needed.verdict == "flat" or needed.low <= 100 <= needed.high,
        )
    # The least count that is no surprise (one in a thousand) when 95 % are covered.
    assert hits.min() >= stats.binom.ppf(0.001, repetitions, 0.95)


def test_labels_needed_within_and_beyond_the_shots_that_were_tried() -> None:
    fit = fit_scaling(results(curve(0.9, 0.3, 0.6), 0.002))
    measured = fit.labels_needed(float(curve(0.9, 0.3, 0.6, np.array([30.0]))[0]))
    assert measured.verdict == "measured"
    assert measured.shots == pytest.approx(30, abs=2)
    assert measured.low <= 30 <= measured.high
    beyond = fit.labels_needed(float(curve(0.9, 0.3, 0.6, np.array([120.0]))[0]))
    assert beyond.verdict == "extrapolated"
    assert beyond.shots == pytest.approx(120, rel=0.2)
    assert "extrapolation" in beyond.sentence and "50 were tried" in beyond.sentence
    assert fit.rising
    assert fit.labels_needed(0.501).shots == 1


def test_a_target_that_the_curve_does_not_reach_is_said_so() -> None:
    fit = fit_scaling(results(curve(0.9, 0.3, 0.6), 0.002))
    far = fit.labels_needed(0.896)
    assert (far.verdict, far.shots) == ("too far", math.inf)
    assert "200" in far.sentence
    above = fit.labels_needed(0.95)
    assert (above.verdict, above.shots, above.high) == ("above the ceiling", math.inf, math.inf)
    assert "ceiling of 0.9" in above.sentence


@pytest.mark.parametrize("aucs", [np.full(5, 0.7), np.linspace(0.75, 0.65, 5)], ids=str)
def test_a_curve_that_does_not_rise_promises_nothing(aucs: np.ndarray) -> None:
    fit = fit_scaling(results(aucs, 0.02))
    answer = fit.labels_needed(0.85)
    assert not fit.rising
    assert answer.verdict == "flat"
    assert math.isnan(answer.shots)
    assert "does not rise" in answer.sentence
    assert fit.predict([1, 50, 200])["auc"].between(0.65, 0.75).all()
    assert fit.labels_needed(0.6).verdict == "measured"


def test_a_perfect_curve_stays_below_one_and_is_not_certain() -> None:
    fit = fit_scaling(scores(*[50.0] * 5), init="a")
    assert fit.ceiling == pytest.approx(1.0)
    assert (fit.predict([1, 10, 200])[["auc", "ci_low", "ci_high"]] <= 1).all(axis=None)
    assert fit.ci_low.max() < 1


def test_a_curve_from_scores_for_a_finding_and_for_the_mean() -> None:
    frame = scores(0.5, 1.0, 1.3, 1.5, 1.6)
    single = fit_scaling(frame, init="a", finding="mass")
    mean = fit_scaling(frame, init="a")
    assert (single.finding, mean.finding) == ("mass", MEAN)
    for fit in (single, mean):
        assert fit.rising
        low, high = fit.ceiling_interval
        assert low <= fit.ceiling <= high <= 1
        assert (fit.ci_low < fit.aucs).all() and (fit.aucs < fit.ci_high).all()
    widths = [(fit.ci_high - fit.ci_low).mean() for fit in (single, mean)]
    assert widths[1] < widths[0]  # two findings say more than one
    again = fit_scaling(frame.sample(frac=1, random_state=0), init="a")
    np.testing.assert_allclose(again.refits, mean.refits)


def test_shared_patients_move_the_whole_curve() -> None:
    """The same people at every shot count: the curve's level is unsure, its rise much less so."""
    fit = fit_scaling(scores(1.0, 1.1, 1.2, 1.3, 1.4, trials=1), init="a", finding="mass")
    ends = fit.refits[:, :1] - fit.refits[:, 1:2] * np.array([[1.0, 50.0]]) ** -fit.refits[:, 2:]
    assert np.std(ends[:, 1] - ends[:, 0]) < 0.7 * np.std(ends[:, 1])


def test_capped_shots_count_as_what_they_were() -> None:
    aucs = curve(0.9, 0.3, 0.6, np.array([1.0, 5.0, 10.0, 15.0, 15.0]))
    fit = fit_scaling(results(aucs, positives=15))
    assert list(fit.shots) == [1, 5, 10, 15]
    assert fit.ceiling == pytest.approx(0.9, abs=0.01)
    assert "15 training positives" in fit.note
    both = pd.concat([results(aucs, positives=15), results(curve(0.9, 0.3, 0.6), finding="b")])
    mean = fit_scaling(both)
    assert list(mean.shots) == [1, 5, 10]
    assert "20 and 50 shots left out" in mean.note


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda t: t[t["shots"] > 5].head(2), {}, "at least three shot counts"),
        (lambda t: t.drop(columns="ci_low"), {}, "lacks the columns ci_low"),
        (lambda t: pd.concat([t, t.assign(init="b")]), {}, "belongs to one init"),
        (lambda t: t, {"finding": "hernia"}, "'hernia' is not among them"),
        (lambda t: t.assign(auc_mean=np.nan), {}, "not finite"),
    ],
)
def test_what_has_no_curve_is_refused_in_a_sentence(change, arguments, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        fit_scaling(change(results(curve(0.9, 0.3, 0.6))), **arguments)


def test_impossible_questions_are_refused() -> None:
    fit = fit_scaling(results(curve(0.9, 0.3, 0.6)))
    for auc in (0.5, 1.0, 80):
        with pytest.raises(InputError, match=r"between 0\.5 and 1"):
            fit.labels_needed(auc)
    with pytest.raises(InputError, match="starts at 1 shot"):
        fit.predict([0])
