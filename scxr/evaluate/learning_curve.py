"""A few-shot curve from a table: AUC at each number of shots, and how the points err together.

The points of a curve share their validation patients and, because shots are nested, their training
draws. From scores, their covariance is estimated from both: bootstrap of patients, spread of the
trials. A table of results has lost what they share.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from scxr.errors import InputError
from scxr.evaluate.cells import Cell
from scxr.evaluate.intervals import resample


def uncapped(part: pd.DataFrame, findings: int) -> tuple[pd.DataFrame, str]:
    """Shots as they were really taken, and a note where that changed something."""
    capped = part["positives"] < part["shots"]
    if not capped.any():
        return part, ""
    if findings == 1:
        most = int(part["positives"].max())
        # 20 and 50 shots capped at 15 are the same episodes: one of them is enough.
        first = part.loc[capped, "shots"].min()
        part = part[~capped | (part["shots"] == first)].copy()
        part.loc[part["shots"] == first, "shots"] = most
        return part, f"no more than {most} training positives"
    lost = sorted(part.loc[capped, "shots"].unique())
    words = " and ".join(f"{n:g}" for n in lost)
    return (
        part[~part["shots"].isin(lost)],
        f"{words} shots left out: not every finding has that many training positives",
    )


def points_of_results(
    part: pd.DataFrame, findings: list[str], shots: np.ndarray, repeats: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points and their covariance from a table of results: independent, for want of better."""
    half = (part["ci_high"] - part["ci_low"]) / 2 / stats.norm.ppf(0.975)
    rows = pd.DataFrame({"shots": part["shots"], "auc": part["auc_mean"], "variance": half**2})
    by_shots = rows.groupby("shots").agg(auc=("auc", "mean"), variance=("variance", "mean"))
    return by_shots["auc"].to_numpy(), np.diag(by_shots["variance"].to_numpy() / len(findings))


def points_of_scores(
    part: pd.DataFrame, findings: list[str], shots: np.ndarray, repeats: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean AUC (s,) over trials and findings, and its covariance (s, s) over patients and draws."""
    cells = [
        [Cell(part[(part["finding"] == name) & (part["shots"] == n)]) for n in shots]
        for name in findings
    ]
    if len({len(cell.trials) for curve in cells for cell in curve}) > 1:
        raise InputError(
            "The shot counts of a curve need the same trials; some trials are missing."
        )
    weights = resample([cell for curve in cells for cell in curve], repeats, seed)
    aucs = np.mean([[cell.mean for cell in curve] for curve in cells], axis=0)
    paths = np.zeros((len(findings), repeats, len(shots)))
    draws = np.zeros((len(shots), len(shots)))
    for i, curve in enumerate(cells):
        # (s, repeats, trials): one finding at a time, so that a large table fits into memory.
        under = np.stack([cell.under(weights.of(cell)) for cell in curve])
        paths[i] = under.mean(axis=2).T
        draws += _covariance_of_draws(curve, under) / len(findings) ** 2
    # As in `interval`: what has no spread left is still not known better than to one step.
    steps = [sum(curve[i].step ** 2 for curve in cells) for i in range(len(shots))]
    # A resample can miss one class of a rare finding in a trial: the others stand in for it.
    drawn = np.ma.masked_invalid(paths).mean(axis=0)
    kept = drawn[~np.ma.getmaskarray(drawn).any(axis=1)].data
    covariance = np.cov(kept, rowvar=False) + draws + np.diag(steps) / len(findings) ** 2
    return aucs, covariance


def _covariance_of_draws(curve: list[Cell], under: np.ndarray) -> np.ndarray:
    """What the trials add to the patients' covariance of their mean; see `intervals.trial_part`."""
    trials = under.shape[2]
    if trials == 1:
        return np.zeros((len(curve), len(curve)))
    under = under[:, np.isfinite(under).all(axis=(0, 2))]  # a resample can miss a class
    observed = np.cov([cell.aucs for cell in curve]) / trials
    each = np.mean([np.cov(under[:, :, t]) for t in range(trials)], axis=0)
    interaction = (each - np.cov(under.mean(axis=2))) / (trials - 1)
    values, vectors = np.linalg.eigh(observed - interaction)
    return (vectors * np.clip(values, 0, None)) @ vectors.T
