"""Is one init better than another? Paired tests on the same images, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from scxr.errors import InputError
from scxr.evaluate.cells import Cell
from scxr.evaluate.intervals import _spread


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
