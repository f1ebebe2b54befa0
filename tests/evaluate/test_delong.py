"""DeLong's test against pair counting by the formulas of the papers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scxr.errors import InputError
from scxr.evaluate.delong import delong_covariance, delong_test


def pairs(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(positives, negatives): 1 where the pair is won, a half where it is tied."""
    positive, negative = scores[labels][:, None], scores[~labels][None]
    return (positive > negative) + 0.5 * (positive == negative)


def example(seed: int, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.r_[np.ones(4, bool), np.zeros(4, bool), random.random(n) < 0.4]
    # Whole numbers, so that there are ties.
    scores = np.round(random.normal(size=(3, len(labels))) * 2 + labels).astype(float)
    return labels, scores


@pytest.mark.parametrize("seed", range(5))
def test_the_covariance_is_delongs(seed: int) -> None:
    labels, scores = example(seed)
    won = np.stack([pairs(labels, row) for row in scores])
    expected = np.cov(won.mean(axis=2)) / labels.sum() + np.cov(won.mean(axis=1)) / (~labels).sum()
    aucs, covariance = delong_covariance(labels, scores)
    np.testing.assert_allclose(aucs, won.mean(axis=(1, 2)))
    np.testing.assert_allclose(covariance, expected)


@pytest.mark.parametrize("seed", range(5))
def test_with_several_images_a_patient_it_is_obuchowskis(seed: int) -> None:
    labels, scores = example(seed)
    patients = np.random.default_rng(seed + 100).integers(0, 12, len(labels))
    won = [pairs(labels, row) for row in scores[:2]]
    aucs = [w.mean() for w in won]
    # Sums over a patient's images, as the paper writes them.
    ill, well = patients[labels], patients[~labels]
    with_, without, everyone = np.unique(ill), np.unique(well), np.unique(patients)

    def positive(r: int, k: int) -> float:
        return float((won[r].mean(axis=1)[ill == k] - aucs[r]).sum())

    def negative(r: int, k: int) -> float:
        return float((won[r].mean(axis=0)[well == k] - aucs[r]).sum())

    def entry(r: int, s: int) -> float:
        m, n = labels.sum(), (~labels).sum()
        factors = [len(x) / (len(x) - 1) for x in (with_, without, everyone)]
        return (
            factors[0] / m**2 * sum(positive(r, k) * positive(s, k) for k in with_)
            + factors[1] / n**2 * sum(negative(r, k) * negative(s, k) for k in without)
            + factors[2] / (m * n) * sum(positive(r, k) * negative(s, k) for k in everyone)
            + factors[2] / (m * n) * sum(negative(r, k) * positive(s, k) for k in everyone)
        )

    _, covariance = delong_covariance(labels, scores[:2], patients)
    np.testing.assert_allclose(covariance, [[entry(r, s) for s in (0, 1)] for r in (0, 1)])


def test_the_test_is_the_normal_one_and_changes_sign_with_the_order() -> None:
    labels, scores = example(1)
    found = delong_test(labels, scores[0], scores[1])
    aucs, covariance = delong_covariance(labels, scores[:2])
    error = (covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]) ** 0.5
    assert found["difference"] == pytest.approx(aucs[0] - aucs[1])
    assert found["p"] == pytest.approx(2 * stats.norm.sf(abs(aucs[0] - aucs[1]) / error))
    assert found["ci_high"] - found["ci_low"] == pytest.approx(2 * 1.959964 * error, rel=1e-6)
    mirrored = delong_test(labels, scores[1], scores[0])
    assert mirrored["p"] == found["p"]
    assert mirrored["ci_low"] == -found["ci_high"]


def test_equal_scores_do_not_differ_and_perfect_ones_are_certain_of_it() -> None:
    labels, scores = example(2)
    assert delong_test(labels, scores[0], scores[0])["p"] == 1.0
    assert delong_test(labels, labels * 1.0, 1.0 - labels)["p"] == 0.0


@pytest.mark.parametrize(
    ("labels", "scores", "patients", "message"),
    [
        ([1, 1, 1], [[1, 2, 3]], None, "positives and negatives"),
        ([1, 1, 0, 0], [[1, np.nan, 0, 0]], None, "1 of 4 scores"),
        ([1, 0, 0], [[1, 2, 3]], None, "two patients with the finding"),
        ([1, 1, 0, 0], [[1, 2, 3, 4]], ["a", "a", "b", "c"], "two patients with the finding"),
        ([1, 1, 0, 0], [[1, 2, 3]], None, "4 labels, 3 scores"),
    ],
)
def test_what_cannot_be_tested_is_refused_in_a_sentence(
    labels: list[int], scores: list[list[float]], patients: list[str] | None, message: str
) -> None:
    owners = None if patients is None else np.array(patients)
    with pytest.raises(InputError, match=message):
        delong_covariance(np.array(labels), np.array(scores, dtype=float), owners)
