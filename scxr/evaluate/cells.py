"""The AUC, and the scores of one result prepared so that thousands of resamples cost little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

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
    check_scores(labels, scores)
    ranks = stats.rankdata(scores)
    n_positive, n_negative = labels.sum(), (~labels).sum()
    wins = ranks[labels].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * n_negative))


def check_scores(labels: np.ndarray, scores: np.ndarray) -> None:
    if len(labels) == 0 or labels.all() or not labels.any():
        kind = "images at all" if len(labels) == 0 else "images of both classes"
        raise InputError(f"An AUC needs positives and negatives, but there are no {kind}.")
    if not np.isfinite(scores).all():
        raise InputError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are NaN or infinite: "
            "look for NaN in the features or the images."
        )


@dataclass(frozen=True)
class Trial:
    """One trial's validation images, prepared so that a weighted AUC costs one cumulative sum."""

    labels: np.ndarray  # (n,) bool
    scores: np.ndarray  # (n,)
    patients: np.ndarray  # (n,) patient numbers
    positives: np.ndarray  # (P,) patient numbers
    negatives: np.ndarray  # (N,) patient numbers, in ascending order of score
    below: np.ndarray  # (P,) negatives that score lower than this positive
    upto: np.ndarray  # (P,) ... lower or equal

    @classmethod
    def of(cls, labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> Trial:
        labels = labels.astype(bool)
        check_scores(labels, scores)
        order = np.argsort(scores[~labels], kind="stable")
        ranked = scores[~labels][order]
        return cls(
            labels=labels,
            scores=scores,
            patients=patients,
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
        trials, rows = scores["trial"].to_numpy(), scores["row"].to_numpy()
        order = np.lexsort((rows, trials))
        trials, self.rows = trials[order], rows[order]
        # Names are sorted as texts, but few of them: a patient has a row in every trial.
        codes, names = pd.factorize(scores["patient"].to_numpy(), use_na_sentinel=False)
        self.patients, numbers = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        numbers = numbers[codes[order]]
        labels = scores["label"].to_numpy(bool)[order]
        values = scores["score"].to_numpy(float)[order]
        self.trials = [
            Trial.of(labels[chosen], values[chosen], numbers[chosen])
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
