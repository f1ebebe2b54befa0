"""DeLong's test for two AUCs on the same images, with whole patients as the units.

DeLong, DeLong & Clarke-Pearson (1988, Biometrics 44:837-845) get the covariance of AUCs from each
image's share of pairs won. The shares come from midranks instead of a loop over pairs (Sun & Xu
2014, IEEE Signal Processing Letters 21:1389-1393). Images of one patient are summed before they are
squared (Obuchowski 1997, Biometrics 53:567-578); with one image a patient that is DeLong's formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from scxr.errors import InputError
from scxr.evaluate.cells import check_scores


@dataclass(frozen=True)
class Components:
    """What each patient contributes to AUCs, centred: the sum over patients is zero in each class.

    Attributes:
        aucs: (k,) one for each vector of scores.
        positive, negative: (k, patients) the patient's images with the finding, and without it.
        has_positive, has_negative: (patients,) whether there are such images.
    """

    aucs: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    has_positive: np.ndarray
    has_negative: np.ndarray

    @classmethod
    def of(
        cls, labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, count: int
    ) -> Components:
        """Components of (k, n) scores of n images whose patients are numbered below `count`."""
        labels = np.asarray(labels, dtype=bool)
        for row in scores:
            check_scores(labels, row)
        m, n = int(labels.sum()), int((~labels).sum())
        ranks = stats.rankdata(scores, axis=1)
        won = (ranks[:, labels] - stats.rankdata(scores[:, labels], axis=1)) / n
        lost = 1 - (ranks[:, ~labels] - stats.rankdata(scores[:, ~labels], axis=1)) / m
        aucs = won.mean(axis=1)
        positive, negative = np.zeros((2, len(scores), count))
        np.add.at(positive.T, patients[labels], (won - aucs[:, None]).T / m)
        np.add.at(negative.T, patients[~labels], (lost - aucs[:, None]).T / n)
        has = [np.bincount(patients[rows], minlength=count) > 0 for rows in (labels, ~labels)]
        return cls(aucs, positive, negative, *has)

    @classmethod
    def mean(cls, parts: list[Components]) -> Components:
        """The components of the mean of the parts' AUCs, for example over trials."""
        return cls(
            np.mean([part.aucs for part in parts], axis=0),
            np.mean([part.positive for part in parts], axis=0),
            np.mean([part.negative for part in parts], axis=0),
            np.any([part.has_positive for part in parts], axis=0),
            np.any([part.has_negative for part in parts], axis=0),
        )

    def variances(self) -> np.ndarray:
        """(2,) variance of the first AUC over patients with the finding, and over those without.

        Where only one patient has the finding, or only one has not, nothing of the kind can be
        estimated, and the part is what the squares give.
        """
        counts = np.array([self.has_positive.sum(), self.has_negative.sum()])
        squares = np.array([(part[0] ** 2).sum() for part in (self.positive, self.negative)])
        crossed = float(self.positive[0] @ self.negative[0])  # patients with images of both kinds
        return np.clip(squares * counts / np.maximum(counts - 1, 1) + crossed, 0, None)

    def covariance(self) -> np.ndarray:
        """Covariance (k, k) of the AUCs over fresh patients.

        Raises:
            InputError: fewer than two patients with the finding, or without it.
        """
        counts = (
            int(self.has_positive.sum()),
            int(self.has_negative.sum()),
            int((self.has_positive | self.has_negative).sum()),
        )
        if min(counts) < 2:
            raise InputError(
                f"DeLong's test needs at least two patients with the finding and two without it, "
                f"but there are {counts[0]} and {counts[1]}."
            )
        first, second, both = (n / (n - 1) for n in counts)
        crossed = self.positive @ self.negative.T
        return (
            first * self.positive @ self.positive.T
            + second * self.negative @ self.negative.T
            + both * (crossed + crossed.T)
        )


def delong_covariance(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUCs of several score vectors for the same images, and their covariance.

    Args:
        labels: (n,) 0 or 1.
        scores: (k, n) finite; a higher score speaks for the finding.
        patients: (n,) whose images they are; None where everybody has one image.

    Returns:
        (k,) AUCs and their (k, k) covariance matrix.

    Raises:
        InputError: one class only, scores that are not finite, or fewer than two patients a class.
    """
    labels, scores = np.asarray(labels, dtype=bool), np.atleast_2d(np.asarray(scores, dtype=float))
    names = np.arange(len(labels)) if patients is None else np.asarray(patients)
    if scores.shape[1] != len(labels) or len(names) != len(labels):
        raise InputError(
            f"There are {len(labels)} labels, {scores.shape[1]} scores and {len(names)} patients: "
            "give one of each for every image."
        )
    unique, numbers = np.unique(names, return_inverse=True)
    parts = Components.of(labels, scores, numbers, len(unique))
    return parts.aucs, parts.covariance()


def delong_test(
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    level: float = 0.95,
) -> dict[str, float]:
    """AUC of `first` minus AUC of `second` on the same images: difference, interval, p-value.

    Args:
        labels, patients: (n,), as in `delong_covariance`.
        first, second: (n,) scores.
        level: of the interval.

    Returns:
        difference, ci_low, ci_high and the two-sided p of the normal distribution, as published.
    """
    aucs, covariance = delong_covariance(labels, np.stack([first, second]), patients)
    contrast = np.array([1.0, -1.0])
    return normal_test(float(contrast @ aucs), float(contrast @ covariance @ contrast), level)


def normal_test(difference: float, variance: float, level: float) -> dict[str, float]:
    """A difference with its interval and two-sided p-value from the normal distribution."""
    error = max(variance, 0.0) ** 0.5
    reach = float(stats.norm.ppf(0.5 + level / 2)) * error
    # Without any spread, equal scores are equal and others differ for certain.
    p = float(2 * stats.norm.sf(abs(difference) / error)) if error > 0 else float(difference == 0)
    return {
        "difference": difference,
        "ci_low": max(-1.0, difference - reach),
        "ci_high": min(1.0, difference + reach),
        "p": p,
    }
