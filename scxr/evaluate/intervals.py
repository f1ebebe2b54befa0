"""How sure is an AUC that rests on a dozen patients? Intervals over patients and draws.

The number that is reported is the mean over trials of the AUC within a trial. Three things move
it: which patients happen to be in the validation set, which of them a trial drew as negatives,
and which training images it drew. The patients' part is the variance of what each contributes, all
images of one patient together (DeLong's components, clustered by patient: `scxr.evaluate.delong`;
the bootstrap of patients tends to the same number and takes a hundred times as long). What the
trials add beyond that is read off the spread of their AUCs, less the part that the patients already
explain. No interval can tell how another pool of training patients would have done.

An interval of +- two standard errors fails where it matters most here: with 4 positives that all
rank on top there is no spread, and it is [1, 1]. The standard error therefore scales a score
interval for the AUC (Newcombe 2006, Statistics in Medicine 25:559-573, method 5, with the variance
of Hanley & McNeil 1982), which stays honest at the border; the normal quantile is replaced by
Student's with Satterthwaite's degrees of freedom, because a variance that was estimated from a few
patients is itself uncertain. book/coverage.csv says how often the result covers a known truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from scxr.errors import InputError
from scxr.evaluate.cells import Cell
from scxr.evaluate.delong import Components
from scxr.seeds import seed_for

TRUST = 5
"""Degrees of freedom that the formula's variance is worth in a single trial. Without it, intervals
of six patients with the finding are too wide with one trial and too narrow with ten."""


def check_patients(cell: Cell) -> None:
    """Raise `InputError` when all of a cell's images belong to one patient."""
    if len(cell.patients) < 2:
        raise InputError(
            "All validation images belong to one patient, so nothing can be said about others: "
            "hold out more patients."
        )


@dataclass(frozen=True)
class Resamples:
    """Bootstrap weights of patients: how often each was drawn.

    Attributes:
        patients: (n,) names, sorted.
        weights: (repeats, n).
    """

    patients: np.ndarray
    weights: np.ndarray

    def of(self, cell: Cell) -> np.ndarray:
        """The weights of a cell's patients, (repeats, patients of the cell)."""
        return self.weights[:, np.searchsorted(self.patients, cell.patients)]


def resample(cells: Sequence[Cell], repeats: int, seed: int) -> Resamples:
    """Draw the patients of all cells together, those with a finding apart from those without.

    The weights depend on who the patients are and on nothing else, so inits and shot counts that
    were scored on the same patients are resampled alike.
    """
    patients = np.unique(np.concatenate([cell.patients for cell in cells]))
    diseased = np.isin(patients, np.concatenate([c.patients[c.diseased] for c in cells]))
    random = np.random.default_rng(seed_for(seed, "bootstrap", *patients))
    weights = np.zeros((repeats, len(patients)))
    for stratum in (diseased, ~diseased):
        n = int(stratum.sum())
        if n:
            weights[:, stratum] = random.multinomial(n, np.full(n, 1 / n), repeats)
    return Resamples(patients, weights)


@dataclass(frozen=True)
class Spread:
    """Standard error of a mean over trials, and Satterthwaite's degrees of freedom for it."""

    error: float
    freedom: float

    @classmethod
    def of(cls, total: float, squares: list[tuple[float, int]], cell: Cell) -> Spread:
        """From a variance and the (mean square, degrees of freedom) that it is made of."""
        slowest = max(min(cell.counts()) - 1, 1)
        shares = sum(square**2 / max(freedom, 1) for square, freedom in squares)
        return cls(total**0.5, max(total**2 / shares if shares > 0 else 0.0, slowest))

    def quantile(self, level: float) -> float:
        """How many standard errors an interval of `level` reaches to either side."""
        return float(stats.t.ppf(0.5 + level / 2, self.freedom))


def trial_part(values: np.ndarray, each: float, together: float) -> float:
    """Variance that the trials' draws add to the patients' variance of a mean over trials.

    The spread of the trials holds the draws' part and a part of patient by trial. The latter is in
    the patients' variance already and is taken off: it is what an average trial's variance over
    patients exceeds the mean's by.

    Args:
        values: (trials,) what is averaged.
        each: mean over trials of a trial's variance over patients.
        together: variance over patients of the mean over trials.
    """
    t = len(values)
    if t < 2:
        return 0.0
    return max(0.0, float(values.var(ddof=1)) / t - (each - together) / (t - 1))


def spread_of(
    under: Callable[[np.ndarray], np.ndarray], cell: Cell, repeats: int, seed: int
) -> Spread:
    """Standard error, by bootstrap, of the mean over trials of what `under` makes of weights."""
    weights = resample([cell], repeats, seed).weights
    ones = np.ones_like(weights)
    paths = under(weights)
    patients = float(np.nanmean(paths, axis=1).var(ddof=1))
    parts = [
        (float(np.nanmean(under(np.where(fixed, ones, weights)), axis=1).var(ddof=1)), n - 1)
        for fixed, n in zip((~cell.diseased, cell.diseased), cell.counts(), strict=True)
    ]
    each = float(np.nanvar(paths, axis=0, ddof=1).mean())
    values = under(ones[:1])[0]
    total = patients + trial_part(values, each, patients)
    t = len(values)
    parts += [(float(values.var(ddof=1)) / t, t - 1)] if t > 1 else []
    return Spread.of(total, parts, cell)


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


def interval(cell: Cell, *, level: float = 0.95) -> tuple[float, float]:
    """Interval for the mean AUC of a cell, over fresh patients and fresh draws.

    Newcombe's interval for as many patients as there are, scaled by the ratio of the estimated
    standard error to the formula's. One AUC step is added to both, so that the ratio tends to 1
    where neither has any spread left (an AUC of exactly 1). The ratio is then drawn towards 1 as
    if by `TRUST` further patients, and by fewer the more trials: the formula is about a single one.

    Raises:
        InputError: all images belong to one patient.
    """
    spread = _analytic_spread(cell)
    formula = hanley_mcneil(cell.mean, *cell.counts())
    step = (cell.step / len(cell.trials)) ** 2
    ratio = (spread.error**2 + step) / (formula + step)
    trust = TRUST / len(cell.trials)
    freedom = spread.freedom + trust
    ratio = (trust + spread.freedom * ratio) / freedom
    reach = ratio**0.5 * Spread(spread.error, freedom).quantile(level)
    return score_interval(cell.mean, *cell.counts(), reach=reach)


def _analytic_spread(cell: Cell) -> Spread:
    """Standard error of a cell's mean AUC without resampling."""
    check_patients(cell)
    parts = [
        Components.of(trial.labels, trial.scores[None], trial.patients, len(cell.patients))
        for trial in cell.trials
    ]
    mean = Components.mean(parts)
    patients = float(mean.variances().sum())
    each = float(np.mean([part.variances().sum() for part in parts]))
    total = patients + trial_part(cell.aucs, each, patients)
    t = len(cell.trials)
    # Each mean square with its degrees of freedom; that of the trials counts in full, because it
    # was estimated in full before the patients' part of it was taken off.
    squares = [(float(v), n - 1) for v, n in zip(mean.variances(), cell.counts(), strict=True)]
    squares += [(float(cell.aucs.var(ddof=1)) / t, t - 1)] if t > 1 else []
    return Spread.of(total, squares, cell)


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
