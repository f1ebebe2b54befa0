"""The power law itself: AUC(n) = ceiling - scale * n^(-exponent), fitted, read and turned round.

Nechaev et al. (2025, arXiv 2510.11553) fit it to few-shot results on chest radiographs. For a given
exponent the least squares are linear, so the exponent is searched on a grid and no starting value
can go wrong.
"""

from __future__ import annotations

import numpy as np

EXPONENTS = (0.05, 3.0)
"""Slower, a curve has no ceiling that fifty shots could show; faster, it is there at once."""


def fit_power_law(
    shots: np.ndarray, aucs: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares of ceiling - scale * shots^(-exponent), many curves at once.

    Args:
        shots: (s,) at least three different numbers from 1 on.
        aucs: (..., s) one curve a row.
        weights: (s,) inverse variances.

    Returns:
        ceiling (<= 1), scale (>= 0) and exponent (within `EXPONENTS`), each (...).
    """
    shots, aucs, weights = (np.asarray(x, dtype=float) for x in (shots, aucs, weights))
    curves = aucs.reshape(-1, 1, len(shots))
    exponents = np.geomspace(*EXPONENTS, 60)[None]
    for _ in range(3):
        ceiling, scale, error = _linear(shots, curves, weights, exponents)
        best = error.argmin(axis=1)[:, None]
        step = exponents[:, 1:2] / exponents[:, :1]
        found = [
            np.take_along_axis(np.broadcast_to(x, error.shape), best, axis=1)
            for x in (ceiling, scale, exponents)
        ]
        # The next round searches between the neighbours of the best so far.
        exponents = np.clip(found[2] * step ** np.linspace(-1, 1, 13), *EXPONENTS)
    ceiling, scale, exponent = (x.reshape(aucs.shape[:-1]) for x in found)
    return ceiling, scale, exponent


def _linear(
    shots: np.ndarray, curves: np.ndarray, weights: np.ndarray, exponents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best ceiling, scale and their squared error for given exponents, each (curves, exponents)."""
    weights = weights / weights.sum()
    powers = shots ** -exponents[..., None]
    x, y = (powers @ weights)[..., None], (curves @ weights)[..., None]
    spread = ((powers - x) ** 2) @ weights
    scale = np.clip(-(((powers - x) * (curves - y)) @ weights) / spread, 0, None)
    ceiling = y[..., 0] + scale * x[..., 0]
    # On the border ceiling = 1 only the scale is left to choose.
    border = np.clip((powers * (1 - curves)) @ weights / (powers**2 @ weights), 0, None)
    scale = np.where(ceiling > 1, border, scale)
    ceiling = np.minimum(ceiling, 1)
    residuals = curves - ceiling[..., None] + scale[..., None] * powers
    return ceiling, scale, residuals**2 @ weights


def power_law(parameters: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """(b, 3) parameters, (s,) shots -> (b, s)."""
    ceiling, scale, exponent = parameters.T[..., None]
    return ceiling - scale * shots**-exponent


def inverse_power_law(parameters: np.ndarray, auc: float) -> np.ndarray:
    """Shots at which each of (b, 3) curves reaches `auc`: 0 if everywhere, infinite if nowhere."""
    ceiling, scale, exponent = parameters.T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        shots = (scale / (ceiling - auc)) ** (1 / exponent)
    return np.where(ceiling > auc, shots, np.inf)
