"""How sure is an AUC that rests on a dozen patients? Intervals, paired comparisons, Holm.

The number that is reported is the mean over trials of the AUC within a trial. Three things move
it: which patients happen to be in the validation set, which of them a trial drew as negatives,
and which training images it drew. The bootstrap resamples patients: all images of one patient
together, and those with the finding apart from those without, because the design fixes their
numbers. What the trials add beyond that is read off the spread of their AUCs, less the part that
the patients already explain. No interval can tell how another pool of training patients would
have done.

A percentile interval fails where it matters most here: with 4 positives that all rank on top,
every resample gives 1.0 and the interval is [1, 1]. The bootstrap's standard error therefore
scales a score interval for the AUC (Newcombe 2006, Statistics in Medicine 25:559-573, method 5,
with the variance of Hanley & McNeil 1982), which stays honest at the border; the normal quantile
is replaced by Student's with Satterthwaite's degrees of freedom, because a variance that was
estimated from a few patients is itself uncertain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from scxr.errors import InputError


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) any finite numbers.

    Raises:
        InputError: only one class is present, or a score is not finite.
    """
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=float)
    _check(labels, scores)
    ranks = stats.rankdata(scores)
    n_positive, n_negative = labels.sum(), (~labels).sum()
    wins = ranks[labels].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * n_negative))


def _check(labels: np.ndarray, scores: np.ndarray) -> None:
    if len(labels) == 0 or labels.all() or not labels.any():
        kind = "images at all" if len(labels) == 0 else "images of both classes"
        raise InputError(f"An AUC needs positives and negatives, but there are no {kind}.")
    if not np.isfinite(scores).all():
        raise InputError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are NaN or infinite: "
            "look for NaN in the features or the images."
        )


@dataclass(frozen=True)
class _Trial:
    """One trial's validation images, prepared so that a weighted AUC costs one cumulative sum."""

    positives: np.ndarray  # (P,) patient numbers
    negatives: np.ndarray  # (N,) patient numbers, in ascending order of score
    below: np.ndarray  # (P,) negatives that score lower than this positive
    upto: np.ndarray  # (P,) ... lower or equal

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> _Trial:
        labels = labels.astype(bool)
        _check(labels, scores)
        order = np.argsort(scores[~labels], kind="stable")
        ranked = scores[~labels][order]
        return cls(
            positives=patients[labels],
            negatives=patients[~labels][order],
            below=np.searchsorted(ranked, scores[labels], side="left"),
            upto=np.searchsorted(ranked, scores[labels], side="right"),
        )

    def aucs(self, weights: np.ndarray) -> np.ndarray:
        """AUC under patient weights, (B, patients) -> (B,); NaN where a class has no weight."""
        negative = np.cumsum(weights[:, self.negatives], axis=1)
        negative = np.concatenate([np.zeros((len(weights), 1)), negative], axis=1)
        positive = weights[:, self.positives]
        won = (positive * (negative[:, self.below] + negative[:, self.upto])).sum(axis=1) / 2
        with np.errstate(invalid="ignore"):
            return won / (positive.sum(axis=1) * negative[:, -1])


class Cell:
    """The validation scores of one init, finding and shot count over all trials.

    Attributes:
        aucs: (trials,) AUC of each trial.
        patients: (n,) names, sorted; the columns of the bootstrap's weights.
        diseased: (n,) whether a patient has an image with the finding.
        step: the smallest difference that an AUC of one trial can make, 1 / (positives *
            negatives).
    """

    def __init__(self, scores: pd.DataFrame) -> None:
        scores = scores.sort_values(["trial", "row"], kind="stable")
        self.patients, numbers = np.unique(scores["patient"].to_numpy(str), return_inverse=True)
        labels = scores["label"].to_numpy(bool)
        values = scores["score"].to_numpy(float)
        trials = scores["trial"].to_numpy()
        self.rows = scores["row"].to_numpy()
        self.trials = [
            _Trial.of(labels[chosen], values[chosen], numbers[chosen])
            for chosen in (trials == t for t in np.unique(trials))
        ]
        self.diseased = np.zeros(len(self.patients), dtype=bool)
        self.diseased[numbers[labels]] = True
        self.aucs = self.under(np.ones((1, len(self.patients))))[0]
        self.step = 1 / min(len(t.positives) * len(t.negatives) for t in self.trials)

    @property
    def mean(self) -> float:
        """Mean AUC over trials."""
        return float(self.aucs.mean())

    def counts(self) -> tuple[int, int]:
        """Patients with the finding, patients without it."""
        return int(self.diseased.sum()), max(int((~self.diseased).sum()), 1)

    def under(self, weights: np.ndarray) -> np.ndarray:
        """AUC of every trial under (B, patients) weights -> (B, trials)."""
        return np.stack([trial.aucs(weights) for trial in self.trials], axis=-1)


def _weights(cell: Cell, repeats: int, seed: int) -> np.ndarray:
    """(repeats, patients) bootstrap weights: how often each patient was drawn.

    They depend on who the patients are and on nothing else, so inits that were scored on the
    same patients are resampled alike.
    """
    text = "/".join((str(seed), "bootstrap", *cell.patients))
    source = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]))
    weights = np.zeros((repeats, len(cell.patients)))
    for stratum in (cell.diseased, ~cell.diseased):
        n = int(stratum.sum())
        if n:
            weights[:, stratum] = source.multinomial(n, np.full(n, 1 / n), repeats)
    return weights


@dataclass(frozen=True)
class Spread:
    """Standard error of a mean over trials, and Satterthwaite's degrees of freedom for it."""

    error: float
    freedom: float

    def quantile(self, level: float) -> float:
        """How many standard errors an interval of `level` reaches to either side."""
        return float(stats.t.ppf(0.5 + level / 2, self.freedom))


def _spread(
    under: Callable[[np.ndarray], np.ndarray], cell: Cell, repeats: int, seed: int
) -> Spread:
    """Standard error of the mean over trials of what `under` computes from patient weights.

    The patients' part is the bootstrap variance of that mean. The spread of the trials holds the
    trials' own part plus the patient-by-trial interaction, which the patients' part has already:
    the interaction is taken off once (it is what the average trial's bootstrap variance exceeds
    the mean's by).
    """
    weights = _weights(cell, repeats, seed)
    ones = np.ones_like(weights)
    paths = under(weights)
    patients = float(np.nanmean(paths, axis=1).var(ddof=1))
    parts = [
        (float(np.nanmean(under(np.where(fixed, ones, weights)), axis=1).var(ddof=1)), n - 1)
        for fixed, n in zip((~cell.diseased, cell.diseased), cell.counts(), strict=True)
    ]
    t = len(cell.trials)
    trials = 0.0
    if t > 1:
        observed = float(under(ones[:1])[0].var(ddof=1)) / t
        interaction = (float(np.nanvar(paths, axis=0, ddof=1).mean()) - patients) / (t - 1)
        trials = max(0.0, observed - interaction)
        parts.append((trials, t - 1))
    slowest = max(min(cell.counts()) - 1, 1)
    shares = sum(variance**2 / max(n, 1) for variance, n in parts)
    freedom = sum(variance for variance, _ in parts) ** 2 / shares if shares > 0 else slowest
    return Spread((patients + trials) ** 0.5, max(freedom, slowest))


def hanley_mcneil(value: float, positives: float, negatives: float) -> float:
    """Variance of an AUC of `value` between that many positives and negatives (1982).

    With both group sizes replaced by their mean in the correction term, as Newcombe does.
    """
    others = (positives + negatives) / 2 - 1
    correction = (1 - value) / (2 - value) + value / (1 + value)
    return value * (1 - value) * (1 + others * correction) / (positives * negatives)


def score_interval(
    value: float, positives: int, negatives: int, *, reach: float = 1.96
) -> tuple[float, float]:
    """Newcombe's score interval for an AUC: all values that the observed one does not refute.

    Args:
        value: observed AUC in [0, 1].
        positives, negatives: independent units, that is, patients.
        reach: standard errors to either side; 1.96 for 95 % where the formula's error holds.
    """

    def gap(candidate: float) -> float:
        return (
            abs(value - candidate) - reach * hanley_mcneil(candidate, positives, negatives) ** 0.5
        )

    edge = 1e-9  # at 0 and 1 the variance vanishes, which is no solution
    low, high = 0.0, 1.0
    if value > edge and gap(0.0) > 0 > gap(value - edge):
        low = float(brentq(gap, 0.0, value - edge))
    if value < 1 - edge and gap(1.0) > 0 > gap(value + edge):
        high = float(brentq(gap, value + edge, 1.0))
    return low, high


def interval(
    cell: Cell, *, level: float = 0.95, repeats: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Interval for the mean AUC of a cell, over fresh patients and fresh draws.

    Newcombe's interval for as many patients as there are, scaled by the ratio of the bootstrap's
    standard error to the formula's. One AUC step is added to both, so that the ratio tends to 1
    where neither has any spread left (an AUC of exactly 1).
    """
    spread = _spread(cell.under, cell, repeats, seed)
    formula = hanley_mcneil(cell.mean, *cell.counts())
    ratio = ((spread.error**2 + cell.step**2) / (formula + cell.step**2)) ** 0.5
    return score_interval(cell.mean, *cell.counts(), reach=ratio * spread.quantile(level))


def paired_difference(
    cell: Cell, other: Cell, *, level: float = 0.95, repeats: int = 500, seed: int = 0
) -> dict[str, float]:
    """`cell` minus `other`, scored on the same images: difference, ci_low, ci_high and p.

    The bootstrap draws the same patients for both; interval and two-sided p are Student's.

    Raises:
        InputError: the two were scored on different images.
    """
    if not np.array_equal(cell.rows, other.rows):
        raise InputError(
            "The inits were scored on different images, so they cannot be paired: score them with "
            "the same seed, trials and store."
        )
    spread = _spread(
        lambda weights: cell.under(weights) - other.under(weights), cell, repeats, seed
    )
    difference = cell.mean - other.mean
    # Two tied AUCs may hide one step; without it two perfect inits would differ with certainty.
    error = (spread.error**2 + (cell.step / len(cell.trials)) ** 2) ** 0.5
    reach = spread.quantile(level) * error
    return {
        "difference": difference,
        "ci_low": max(-1.0, difference - reach),
        "ci_high": min(1.0, difference + reach),
        "p": float(2 * stats.t.sf(abs(difference) / error, spread.freedom)),
    }


def holm(p: np.ndarray | Sequence[float]) -> np.ndarray:
    """Holm's step-down correction (1979) of p-values for the number of tests, shape kept."""
    p = np.asarray(p, dtype=float)
    if p.size and (not np.isfinite(p).all() or p.min() < 0 or p.max() > 1):
        raise InputError("Holm's correction needs p-values between 0 and 1.")
    order = np.argsort(p, kind="stable")
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(corrected, 1.0)
    return result


def mean_interval(
    values: np.ndarray,
    patients: np.ndarray,
    *,
    level: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval for the mean of `values`, whole patients resampled.

    Args:
        values: (n,) one number an image; NaN is left out.
        patients: (n,) whose image it is.
    """
    known = np.isfinite(values)
    values, patients = np.asarray(values, float)[known], np.asarray(patients)[known]
    if len(values) == 0:
        return float("nan"), float("nan")
    names, numbers = np.unique(patients, return_inverse=True)
    sums = np.bincount(numbers, weights=values)
    sizes = np.bincount(numbers)
    source = np.random.default_rng([seed, len(names)])
    draws = source.multinomial(len(names), np.full(len(names), 1 / len(names)), repeats)
    means = draws @ sums / (draws @ sizes)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)
