"""Few-shot episodes: which patients are held out, which findings have enough images, which rows
are drawn.

The protocol is that of the SCARCE-CXR series: a patient is held out when the MD5 of the identifier
is divisible by five; a finding is kept with at least 15 training and 6 validation images; an
episode takes `shots` positives, as many training negatives, every validation positive and as many
validation negatives, drawn anew in each trial from a generator seeded with `seed + trial`.

Where this departs from the series, on purpose:

- Within a trial the draws are nested: the 5-shot episode contains the 1-shot episode, and the
  validation rows are the same for every number of shots. Curves over shots are then paired, and a
  step of the curve is not partly the luck of another draw.
- Findings have independent draws, although their negatives come from one pool: with the same
  negatives for all, a test over findings would count one draw many times.
- No finding is forced in below the thresholds, and an episode says how many positives there were.

`scxr.data.protocols` draws exactly as the series does, and says what that costs.

An episode depends on the table, finding, shots, trial and seed alone, so all encoders see the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scxr.data.findings import (
    choose_findings,
    count_findings,
    eligible,
    finding_names,
    is_validation,
    known_finding,
    split_of,
)
from scxr.data.store import NORMAL, has_any_finding, has_finding
from scxr.errors import InputError

__all__ = [
    "OTHER",
    "Episode",
    "check_draw",
    "choose_findings",
    "count_findings",
    "draw_episode",
    "draw_episodes",
    "eligible",
    "finding_names",
    "is_validation",
    "make_episode",
    "split_of",
]

OTHER = "other"


@dataclass(frozen=True, eq=False)
class Episode:
    """Rows of one few-shot experiment; rows index the store, labels are 1 (finding) or 0.

    Attributes:
        finding: its name.
        shots: positives asked for; fewer are drawn when `positives` is smaller.
        trial: the number of the draw.
        train_rows, train_labels: (2 min(shots, positives),) positives first.
        val_rows, val_labels: (m,) positives first.
        positives: training images with the finding that there are.
        val_positives: validation images with the finding, all of them used.
    """

    finding: str
    shots: int
    trial: int
    train_rows: np.ndarray
    train_labels: np.ndarray
    val_rows: np.ndarray
    val_labels: np.ndarray
    positives: int
    val_positives: int


def draw_episode(
    table: pd.DataFrame,
    finding: str,
    shots: int,
    trial: int,
    seed: int = 42,
    negatives: str = NORMAL,
    *,
    kept: Sequence[str] | None = None,
    single_label: bool = False,
    views: Collection[str] | None = None,
) -> Episode:
    """Draw the rows of one episode.

    Args:
        table: of a store.
        finding: name of the positives, in any case.
        shots: training positives, at least 1; capped at those there are.
        trial: number of the draw, from 0.
        seed: added to the trial.
        negatives: `No Finding`, or `other`: images with known findings but none of `kept` (of
            `finding` alone, where `kept` is not given); the series takes `other`.
        kept: the findings under study.
        single_label: use only images with exactly one finding, as the series does.
        views: use only these projections.

    Raises `InputError` for an unknown finding, or when either side of the split lacks positives or
    negatives.
    """
    return next(
        draw_episodes(
            table,
            finding,
            [shots],
            [trial],
            seed,
            negatives,
            kept=kept,
            single_label=single_label,
            views=views,
        )
    )


def draw_episodes(
    table: pd.DataFrame,
    finding: str,
    shots: Iterable[int],
    trials: Iterable[int],
    seed: int = 42,
    negatives: str = NORMAL,
    *,
    kept: Sequence[str] | None = None,
    single_label: bool = False,
    views: Collection[str] | None = None,
) -> Iterator[Episode]:
    """The same episodes as `draw_episode`, trial by trial and in it shots by shots.

    The table is searched once, which matters with a hundred thousand rows.
    """
    shots, trials = list(shots), list(trials)
    check_draw(shots, trials, seed)
    finding = known_finding(finding, finding_names(table))
    usable = eligible(table, single_label=single_label, views=views)
    val = is_validation(table["patient"])
    positive = usable & has_finding(table["findings"], finding)
    negative = usable & ~positive & _negatives(table, negatives, [finding, *(kept or [])])
    _require(finding, positive, negative, val, negatives)
    pools = tuple(
        np.flatnonzero(rows)
        for rows in (positive & ~val, negative & ~val, positive & val, negative & val)
    )
    return (
        _episode(finding, drawn, number, trial)
        for trial in trials
        for drawn in [_shuffle(pools, seed + trial, finding)]
        for number in shots
    )


def check_draw(shots: Sequence[int], trials: Sequence[int], seed: int) -> None:
    """Raise `InputError` unless shots count from 1, trials and seed from 0."""
    if not shots or min(shots) < 1:
        raise InputError(f"The number of shots is {shots}; it has to be at least 1.")
    if not trials or min(trials) < 0 or seed < 0:
        raise InputError(f"The trials are {trials} and the seed {seed}; both count from 0.")


def _shuffle(pools: Sequence[np.ndarray], seed: int, finding: str) -> list[np.ndarray]:
    """All pools in random order. Taking the first k of each is what nests the shots of a trial."""
    random = np.random.default_rng([seed, _number(finding)])
    return [random.permutation(pool) for pool in pools]


def _episode(finding: str, shuffled: list[np.ndarray], shots: int, trial: int) -> Episode:
    train_positive, train_negative, val_positive, val_negative = shuffled
    drawn = min(shots, len(train_positive))
    return make_episode(
        finding,
        shots,
        trial,
        train=(train_positive[:drawn], train_negative[:drawn]),
        val=(np.sort(val_positive), np.sort(val_negative[: len(val_positive)])),
        positives=len(train_positive),
    )


def make_episode(
    finding: str,
    shots: int,
    trial: int,
    *,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    positives: int,
) -> Episode:
    """An episode of (positive rows, negative rows) on either side of the split."""
    return Episode(
        finding=finding,
        shots=shots,
        trial=trial,
        train_rows=np.concatenate(train),
        train_labels=_labels(*train),
        val_rows=np.concatenate(val),
        val_labels=_labels(*val),
        positives=positives,
        val_positives=len(val[0]),
    )


def _labels(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    return np.repeat(np.array([1, 0], dtype=np.int64), [len(positive), len(negative)])


def _negatives(table: pd.DataFrame, negatives: str, kept: Sequence[str]) -> np.ndarray:
    if negatives == NORMAL:
        return has_finding(table["findings"], NORMAL)
    if negatives != OTHER:
        raise InputError(f"Negatives are '{NORMAL}' or '{OTHER}', not '{negatives}'.")
    return ~has_any_finding(table["findings"], kept)


def _require(
    finding: str, positive: np.ndarray, negative: np.ndarray, val: np.ndarray, kind: str
) -> None:
    for side, rows in (("training", ~val), ("validation", val)):
        if not (positive & rows).any():
            raise InputError(
                f"'{finding}' has no image among the {side} patients "
                f"({(positive & ~val).sum()} training, {(positive & val).sum()} validation); "
                "choose a more frequent finding."
            )
        if not (negative & rows).any():
            raise InputError(
                f"There is no negative ('{kind}') among the {side} patients; choose others."
            )


def _number(finding: str) -> int:
    """A number for the name that is the same in every process, unlike Python's own hash."""
    digest = hashlib.md5(finding.casefold().encode("utf-8"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "big")
