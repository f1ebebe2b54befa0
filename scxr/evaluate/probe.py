"""The linear probe: how much of a finding can a straight line read off frozen features?

A logistic regression (scikit-learn's) on L2-normalised features, from 1 to 50 labelled images a
class. Every init sees the same episodes, so that inits can be compared in pairs.

Two settings:

- `series`: what the SCARCE-CXR series ran. One shot: C = 1; more: C in {0.01 ... 100} by the
  accuracy of min(5, shots)-fold cross-validation.
- `sound` (the default): C by cross-validated AUC, the number that is reported, in folds that
  never part a patient; C = 1 below 5 shots, where folds of one or two images select noise.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from scxr.data.episodes import Episode
from scxr.data.store import NORMAL, RadiographStore
from scxr.errors import InputError
from scxr.evaluate.experiment import SHOTS, batches, draw_and_score, in_parallel, score_frame
from scxr.evaluate.features import AnyEncoder, extract, require_finite
from scxr.evaluate.heads import LinearHead, l2_normalise
from scxr.evaluate.results import summarise
from scxr.evaluate.statistics import auc

SETTINGS = ("sound", "series")
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""The values of C, the inverse of the L2 penalty, that cross-validation chooses from."""


def fit_head(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    setting: str = "sound",
    patients: np.ndarray | None = None,
) -> LinearHead:
    """Fit a probe on the features of a few labelled images.

    Args:
        features: (n, D) raw features, finite.
        labels: (n,) 0 or 1, both present.
        setting: "sound" or "series", see the module.
        patients: (n,) whose images they are, for `sound`; each its own patient when None.

    Raises:
        InputError: one class only, NaN features, an unknown setting.
    """
    if setting not in SETTINGS:
        raise InputError(f"Unknown setting {setting!r}: choose from {', '.join(SETTINGS)}.")
    labels = np.asarray(labels).astype(int)
    if len(features) != len(labels):
        raise InputError(f"There are {len(features)} features for {len(labels)} labels.")
    if len(np.unique(labels)) < 2:
        raise InputError(
            "A probe needs images with and without the finding, but all the labels it was given "
            "are the same."
        )
    unit = l2_normalise(require_finite(np.asarray(features, dtype=np.float64)))
    shots = int(min(labels.sum(), (1 - labels).sum()))
    folds: int | list[tuple[np.ndarray, np.ndarray]] | None
    if setting == "series":
        folds = min(5, shots) if shots > 1 else None
    else:
        folds = _patient_folds(labels, patients) if shots >= 5 else None
    if not folds:
        model = LogisticRegression(C=1.0, max_iter=1000)
    else:
        scoring = _fold_accuracy if setting == "series" else _fold_auc
        model = LogisticRegressionCV(Cs=STRENGTHS, cv=folds, scoring=scoring, max_iter=1000)
    with warnings.catch_warnings():
        # scikit-learn announces attributes to come, and that its defaults' names will change.
        warnings.simplefilter("ignore", FutureWarning)
        model.fit(unit, labels)
    strength = float(np.ravel(getattr(model, "C_", model.C if not folds else 1.0))[0])
    return LinearHead(model.coef_.ravel(), float(np.ravel(model.intercept_)[0]), strength)


# scikit-learn's own scorers give the same numbers, but check their input for longer than the
# fit itself takes.
def _fold_auc(model: Any, features: np.ndarray, labels: np.ndarray) -> float:
    return auc(labels, features @ model.coef_.ravel())


def _fold_accuracy(model: Any, features: np.ndarray, labels: np.ndarray) -> float:
    predicted = features @ model.coef_.ravel() + model.intercept_ > 0
    return float((predicted == labels).mean())


def _patient_folds(
    labels: np.ndarray, patients: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Up to five folds that keep a patient's images together and hold both classes; or none."""
    groups = np.arange(len(labels)) if patients is None else np.asarray(patients)
    count = min(5, *(len(np.unique(groups[labels == kind])) for kind in (0, 1)))
    if count < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # uneven folds are dropped below
        splits = list(StratifiedGroupKFold(count).split(labels, labels, groups))
    both = [s for s in splits if all(len(np.unique(labels[part])) == 2 for part in s)]
    return both if len(both) > 1 else []


def probe(
    features_train: np.ndarray,
    labels: np.ndarray,
    features_val: np.ndarray,
    *,
    setting: str = "sound",
    patients: np.ndarray | None = None,
) -> np.ndarray:
    """Fit on some images, score others: (n, D), (n,), (m, D) -> (m,) log odds."""
    head = fit_head(features_train, labels, setting=setting, patients=patients)
    return head.score(require_finite(features_val))


def probe_scores(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    episodes: Sequence[Episode],
    *,
    setting: str = "sound",
    stage: str | None = None,
    cache: Path | str | bool = True,
    device: torch.device | str | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Probe every init on the same episodes and keep every validation image's score.

    Args:
        encoders: name of the init -> encoder.
        episodes: from `draw_experiment`.
        setting: "sound" or "series".
        stage, cache, device: as in `extract`.
        jobs: processes; None for all cores where the grid is large enough to pay for them.
        progress: whether to show progress bars (on standard error).

    Returns:
        `SCORE_COLUMNS`, one row a validation image, trial, shot count, finding and init.
    """
    if not encoders or not episodes:
        raise InputError("Nothing to evaluate: give at least one encoder and one episode.")
    patients = store.table["patient"].to_numpy(str)
    rows = np.unique(np.concatenate([np.r_[e.train_rows, e.val_rows] for e in episodes]))
    tasks = []
    for init, encoder in encoders.items():
        features = extract(
            encoder, store, rows, stage=stage, cache=cache, device=device, progress=progress
        )
        tasks += [(init, features, rows, batch, patients, setting) for batch in batches(episodes)]
    return in_parallel(_probe_batch, tasks, label="probe", jobs=jobs, progress=progress)


def evaluate_probe(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    findings: Sequence[str],
    shots: Iterable[int] = SHOTS,
    trials: int = 10,
    *,
    seed: int = 42,
    negatives: str = NORMAL,
    **options: Any,
) -> pd.DataFrame:
    """Draw the episodes, probe every init on them, and summarise.

    Args:
        findings, shots, trials, seed, negatives: as in `draw_experiment`.
        **options: as in `probe_scores`.

    Returns:
        `RESULT_COLUMNS`, one row an init, finding and shot count; see `summarise`.
    """
    options |= {"seed": seed, "negatives": negatives}
    return summarise(
        draw_and_score(probe_scores, encoders, store, findings, shots, trials, **options)
    )


def _probe_batch(
    init: str,
    features: np.ndarray,
    rows: np.ndarray,
    episodes: list[Episode],
    patients: np.ndarray,
    setting: str,
) -> pd.DataFrame:
    frames = []
    # Two BLAS threads that share a busy core take thirty times as long on matrices this small.
    with threadpool_limits(1):
        for episode in episodes:
            train = features[np.searchsorted(rows, episode.train_rows)]
            val = features[np.searchsorted(rows, episode.val_rows)]
            scores = probe(
                train,
                episode.train_labels,
                val,
                setting=setting,
                patients=patients[episode.train_rows],
            )
            frames.append(score_frame(init, episode, patients, scores))
    return pd.concat(frames, ignore_index=True)
