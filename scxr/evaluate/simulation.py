"""Few-shot experiments whose true AUC is known, to see whether the statistics keep their word.

Two inits give every image a vector of features: Gaussian, shifted where the finding is present,
alike between the inits and between the images of one patient. With one trial each init has a
fixed head; with more, every trial averages a few fresh training images of each class into a head
(the nearest mean). Either way the AUC that is to be expected follows from the shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq

from scxr.evaluate.cells import Cell
from scxr.evaluate.results import SCORE_COLUMNS
from scxr.seeds import seed_for

WIDTH = 8  # features
SHOTS = 5  # training images a class behind a head
ALIKE = 0.7  # correlation of the two inits' features
WITHIN = 0.5  # correlation of images of one patient
POOL = 4  # patients without the finding for each with it
COSINE = 0.8  # between a fixed head and the direction of the finding


@dataclass(frozen=True)
class Design:
    """One experiment.

    Attributes:
        patients: validation patients with the finding; four times as many have none.
        trials: each with its own negatives, and with its own heads when there are several.
        images: mean number of images a patient, 1 or more.
        auc: the true AUC of init "a", between 0.5 and 1.
        other: that of init "b"; the same when None.
    """

    patients: int
    trials: int = 1
    images: float = 1.0
    auc: float = 0.75
    other: float | None = None

    def draw(self, seed: int) -> pd.DataFrame:
        """Scores (`SCORE_COLUMNS`) of both inits on the same images; another seed, other people."""
        frames = [
            frame.assign(
                init=init,
                finding="simulated",
                shots=SHOTS,
                patient=frame["patient"].astype(str),
                positives=10 * SHOTS,
            )
            for init, frame in zip("ab", self._frames(seed), strict=True)
        ]
        return pd.concat(frames, ignore_index=True)[list(SCORE_COLUMNS)]

    def cells(self, seed: int) -> tuple[Cell, Cell]:
        """The same as `draw`, ready for the statistics and without the detour."""
        first, second = self._frames(seed)
        return Cell(first), Cell(second)

    def _frames(self, seed: int) -> list[pd.DataFrame]:
        random = np.random.default_rng(seed_for(seed, "simulation", repr(self)))
        ill, well = (
            1 + random.poisson(self.images - 1, n) for n in (self.patients, POOL * self.patients)
        )
        positives, pool = int(ill.sum()), int(well.sum())
        patient = np.repeat(np.arange(len(ill) + len(well)), np.concatenate([ill, well]))
        label = np.arange(positives + pool) < positives
        rows = np.concatenate(
            [
                np.r_[:positives, positives + np.sort(random.permutation(pool)[:positives])]
                for _ in range(self.trials)
            ]
        )
        trial = np.repeat(np.arange(self.trials), 2 * positives)
        features = self._features(random, patient)
        luck = random.normal(size=(3, self.trials, WIDTH))
        frames = []
        for number, truth in enumerate((self.auc, self.other or self.auc)):
            shift = _shift(truth, self.trials > 1)
            images = features[number] + shift * np.outer(label, np.eye(WIDTH)[0])
            heads = _heads(shift, luck[[2, number]], number)
            scores = (images[rows] * heads[trial]).sum(axis=1)
            values = {"trial": trial, "row": rows, "patient": patient[rows], "label": label[rows]}
            frames.append(pd.DataFrame(values | {"score": scores}))
        return frames

    def _features(self, random: np.random.Generator, patient: np.ndarray) -> np.ndarray:
        """(2, images, WIDTH) unit Gaussian, correlated between inits and within patients."""
        people = random.normal(size=(3, patient.max() + 1, WIDTH))[:, patient]
        own = random.normal(size=(3, len(patient), WIDTH))
        # With one image a patient there is nothing to share, and the two parts are one.
        parts = WITHIN**0.5 * people + (1 - WITHIN) ** 0.5 * own
        return ALIKE**0.5 * parts[2] + (1 - ALIKE) ** 0.5 * parts[:2]


def _heads(shift: float, luck: np.ndarray, number: int) -> np.ndarray:
    """(trials, WIDTH) weights: a fixed direction for one trial, nearest means for several."""
    trials = luck.shape[1]
    if trials == 1:
        head = np.zeros((1, WIDTH))
        head[0, [0, 1 + number]] = COSINE, (1 - COSINE**2) ** 0.5
        return head
    error = ALIKE**0.5 * luck[0] + (1 - ALIKE) ** 0.5 * luck[1]
    return shift * np.eye(WIDTH)[0] + (2 / SHOTS) ** 0.5 * error


@cache
def _shift(auc: float, trained: bool) -> float:
    """How far the finding moves the features so that the AUC to be expected is `auc`."""
    if not trained:
        return float(stats.norm.ppf(auc)) * 2**0.5 / COSINE
    random = np.random.default_rng(seed_for(0, "simulation", "shift"))
    luck = (2 / SHOTS) ** 0.5 * random.normal(size=(40_000, WIDTH))

    def gap(shift: float) -> float:
        heads = luck + shift * np.eye(WIDTH)[0]
        along = heads[:, 0] / np.linalg.norm(heads, axis=1)
        return float(stats.norm.cdf(shift * along / 2**0.5).mean()) - auc

    return float(brentq(gap, 0.01, 20))
