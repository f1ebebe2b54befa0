"""Is one init better than another? Paired tests on the same images, and Holm's correction.

The default swaps the two inits' scores patient by patient: if it does not matter from which init a
patient's scores come, the observed difference is one of many that the swaps could have given. The
scores are replaced by their ranks before, so that their scales do not matter (Bandos, Rockette &
Gur 2005, Statistics in Medicine 24:2873-2893). Since the AUC counts pairs, the difference after a
swap is a sum over patients of +- what the patient contributes, and a swap costs one sum.

With several trials the heads of a trial share its draw of training images, and one init may have
been lucky. What the trials vary beyond their patients is added to the swaps' spread.

DeLong's test (`scxr.evaluate.delong`) and the bootstrap are there for those who want them;
book/coverage.csv has the simulation that made the swaps the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from scxr.errors import InputError
from scxr.evaluate.cells import Cell
from scxr.evaluate.delong import Components, normal_test
from scxr.evaluate.intervals import check_patients, spread_of, trial_part
from scxr.seeds import seed_for

TESTS = ("permutation", "delong", "bootstrap")
SWAPS = 20_000
"""So many that a p-value stays small enough for Holm's correction over a few hundred rows."""
RESAMPLES = 500


def paired_difference(
    cell: Cell,
    other: Cell,
    *,
    test: str = "permutation",
    level: float = 0.95,
    repeats: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """`cell` minus `other`, scored on the same images: difference, ci_low, ci_high and p.

    Args:
        test: "permutation" (swaps of the inits patient by patient), "delong" (normal
            approximation, clustered by patient), or "bootstrap" (of patients, Student's t).
        level: of the interval, which holds the differences that the test does not reject.
        repeats: swaps (20,000) or resamples (500); DeLong's test needs none.
        seed: of the swaps or resamples, which are the same for the same patients.

    Raises:
        InputError: the two were scored on different images, all of one patient's, or there is no
            such test.
    """
    if test not in TESTS:
        raise InputError(f"There is no paired test {test!r}: choose from {', '.join(TESTS)}.")
    _check_pair(cell, other)
    if test == "delong":
        return _delong(cell, other, level)
    if test == "bootstrap":
        return _bootstrap(cell, other, level, repeats or RESAMPLES, seed)
    return _permutation(cell, other, level, repeats or SWAPS, seed)


def _check_pair(cell: Cell, other: Cell) -> None:
    if not np.array_equal(cell.rows, other.rows):
        raise InputError(
            "The inits were scored on different images, so they cannot be paired: score them with "
            "the same seed, trials and store."
        )
    check_patients(cell)


def _permutation(
    cell: Cell, other: Cell, level: float, repeats: int, seed: int
) -> dict[str, float]:
    """Swaps of whole patients; the interval holds every difference that the swaps do not reject.

    A difference d is tested by taking from each patient's contribution its share of d. For a given
    swap, the d that it does not refute lie between two numbers, and the interval's ends are
    quantiles of those.
    """
    trials, shares = _contributions(cell, other)
    each, difference = trials.mean(axis=0), float(trials.sum(axis=1).mean())
    random = np.random.default_rng(seed_for(seed, "swaps", *cell.patients))
    signs = random.integers(0, 2, (repeats, len(each)), dtype=np.int8) * 2.0 - 1
    noise = _beyond_patients(trials, shares) ** 0.5
    beyond = noise * random.standard_t(max(len(trials) - 1, 1), repeats)
    # An AUC moves in steps, and what lies within a step of a tie is a tie.
    beyond += cell.step / len(trials) * random.uniform(-1, 1, repeats)
    # Turned with the difference, so that exchanging the inits turns the answer and nothing else.
    swapped = signs @ each + (beyond if difference >= 0 else -beyond)
    extreme = abs(swapped) >= abs(difference) - 1e-12
    weights = signs @ shares
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.stack(
            [(difference - swapped) / (1 - weights), (difference + swapped) / (1 + weights)]
        )
    low = np.where(abs(weights) > 1 - 1e-9, -np.inf, ends.min(axis=0))
    high = np.where(abs(weights) > 1 - 1e-9, np.inf, ends.max(axis=0))
    kept = max(int(np.ceil((1 - level) * (repeats + 1) - 1 - 1e-9)), 1) - 1
    return {
        "difference": difference,
        "ci_low": max(-1.0, float(np.sort(low)[kept])),
        "ci_high": min(1.0, float(np.sort(high)[::-1][kept])),
        "p": float((1 + extreme.sum()) / (1 + repeats)),
    }


def _contributions(cell: Cell, other: Cell) -> tuple[np.ndarray, np.ndarray]:
    """What each patient contributes to the difference, trial by trial (trials, patients).

    A row sums to the trial's difference; swapping a patient's scores between the inits turns the
    sign. Also each patient's share (patients,) of the pairs that an AUC counts, which sums to 1.
    """
    found = np.zeros((len(cell.trials), len(cell.patients)))
    shares = np.zeros(len(cell.patients))
    for row, one, two in zip(found, cell.trials, other.trials, strict=True):
        labels = one.labels
        first, second = stats.rankdata(one.scores), stats.rankdata(two.scores)
        # Pairs are won within an init, and between one init's positive and the other's negative:
        # half of either is a patient's doing.
        kept = _won(labels, first, first) - _won(labels, second, second)
        crossed = _won(labels, first, second) - _won(labels, second, first)
        per_pair = 0.5 / (labels.sum() * (~labels).sum())
        doing = np.empty(len(labels))
        doing[labels] = (kept + crossed)[labels]
        doing[~labels] = (kept - crossed)[~labels]
        np.add.at(row, one.patients, doing * per_pair)
        sizes = np.where(labels, labels.sum(), (~labels).sum())
        np.add.at(shares, one.patients, 0.5 / sizes / len(cell.trials))
    return found, shares


def _won(labels: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(n,) pairs won by the positives' side that each image is in, ties counting half.

    The positives' scores are taken from one vector, the negatives' from another.
    """
    high, low = positives[labels], negatives[~labels]
    won = np.empty(len(labels))
    ordered = np.sort(low)
    won[labels] = np.searchsorted(ordered, high) + np.searchsorted(ordered, high, side="right")
    ordered = np.sort(high)
    lost = np.searchsorted(ordered, low) + np.searchsorted(ordered, low, side="right")
    won[~labels] = 2 * len(high) - lost
    return won / 2


def _beyond_patients(trials: np.ndarray, shares: np.ndarray) -> float:
    """Variance of the mean difference that the trials' draws add to the patients'."""
    differences = trials.sum(axis=1)
    centred = trials - differences[:, None] * shares
    each, together = (centred**2).sum(axis=1).mean(), (centred.mean(axis=0) ** 2).sum()
    return trial_part(differences, float(each), float(together))


def _delong(cell: Cell, other: Cell, level: float) -> dict[str, float]:
    contrast = np.array([1.0, -1.0])
    parts = [
        Components.of(
            one.labels, np.stack([one.scores, two.scores]), one.patients, len(cell.patients)
        )
        for one, two in zip(cell.trials, other.trials, strict=True)
    ]
    mean = Components.mean(parts)
    variance = float(contrast @ mean.covariance() @ contrast)
    if len(parts) > 1:
        each = np.mean([contrast @ part.covariance() @ contrast for part in parts])
        differences = np.array([contrast @ part.aucs for part in parts])
        variance += trial_part(differences, float(each), variance)
    return normal_test(float(contrast @ mean.aucs), variance, level)


def _bootstrap(cell: Cell, other: Cell, level: float, repeats: int, seed: int) -> dict[str, float]:
    spread = spread_of(
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
    """Holm's step-down correction (1979) of (n,) p-values for the number of tests, in their order.

    Raises:
        InputError: something that is no p-value.
    """
    p = np.asarray(p, dtype=float)
    if p.size and (not np.isfinite(p).all() or p.min() < 0 or p.max() > 1):
        raise InputError("Holm's correction needs p-values between 0 and 1.")
    order = np.argsort(p, kind="stable")
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    result = np.empty_like(p)
    result[order] = np.minimum(corrected, 1.0)
    return result
