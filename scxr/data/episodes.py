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

An episode depends on the table, finding, shots, trial and seed alone, so all encoders see the same.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from scxr.data.store import NORMAL, has_any_finding, has_finding
from scxr.errors import InputError

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


@functools.lru_cache(maxsize=1 << 18)
def split_of(patient: str) -> Literal["train", "val"]:
    """The side of the split a patient is on: `val` for MD5(identifier) mod 5 = 0, about a fifth."""
    digest = hashlib.md5(str(patient).encode("utf-8"), usedforsecurity=False).hexdigest()
    return "val" if int(digest, 16) % 5 == 0 else "train"


def is_validation(patients: pd.Series) -> np.ndarray:
    """(N,) bool: which rows belong to held-out patients."""
    codes, values = pd.factorize(patients)
    sides = np.array([split_of(patient) == "val" for patient in values], dtype=bool)
    return sides[codes] if len(sides) else np.zeros(0, dtype=bool)


def eligible(
    table: pd.DataFrame, *, single_label: bool = False, views: Collection[str] | None = None
) -> np.ndarray:
    """(N,) bool: rows with known findings, of these views, with one finding if `single_label`."""
    findings = table["findings"].fillna("")
    rows = findings != ""
    if single_label:
        rows = rows & ~findings.str.contains("|", regex=False)
    if views is not None:
        rows = rows & table["view"].isin(list(views))
    return rows.to_numpy(dtype=bool)


def finding_names(table: pd.DataFrame) -> list[str]:
    """Every finding in the table but `No Finding`, in order of the alphabet."""
    names: dict[str, str] = {}
    for value in table["findings"].fillna("").unique():
        for part in str(value).split("|"):
            if part.strip() and part.strip().casefold() != NORMAL.casefold():
                names.setdefault(part.strip().casefold(), part.strip())
    return sorted(names.values(), key=str.casefold)


def count_findings(
    table: pd.DataFrame, *, single_label: bool = False, views: Collection[str] | None = None
) -> pd.DataFrame:
    """Images of each finding on both sides of the split: finding, train, val; by frequency."""
    rows = eligible(table, single_label=single_label, views=views)
    return tally(table[rows])[["finding", "train", "val"]]


def tally(table: pd.DataFrame) -> pd.DataFrame:
    """Every finding of these rows, most frequent first.

    Columns: finding, train, val (images on either side of the split), train_patients, val_patients.
    """
    exploded = pd.DataFrame(
        {
            "finding": table["findings"].fillna("").str.split("|"),
            "val": is_validation(table["patient"]),
            "patient": table["patient"],
        }
    ).explode("finding")
    exploded["key"] = exploded["finding"].str.strip().str.casefold()
    exploded = exploded[(exploded["key"] != "") & (exploded["key"] != NORMAL.casefold())]
    spelling = {name.casefold(): name for name in finding_names(table)}
    counts = [
        {
            "finding": spelling[str(key)],
            "train": int((~rows["val"]).sum()),
            "val": int(rows["val"].sum()),
            "train_patients": rows.loc[~rows["val"], "patient"].nunique(),
            "val_patients": rows.loc[rows["val"], "patient"].nunique(),
        }
        for key, rows in exploded.groupby("key")
    ]
    columns = ["finding", "train", "val", "train_patients", "val_patients"]
    frame = pd.DataFrame(counts, columns=columns)
    order = (-(frame["train"] + frame["val"])).argsort(kind="stable")
    return frame.iloc[order].reset_index(drop=True)


def choose_findings(
    table: pd.DataFrame,
    min_train: int = 15,
    min_val: int = 6,
    candidates: Sequence[str] | None = None,
    *,
    exclude: Iterable[str] = (),
    single_label: bool = False,
    views: Collection[str] | None = None,
) -> list[str]:
    """Findings with enough images on both sides of the split, most frequent first.

    Args:
        table: of a store.
        min_train, min_val: images needed among training and validation patients.
        candidates: consider these only; a name the table does not know is an `InputError`.
        exclude: names left out (hardware, surgery, artefacts, normal variants, in the series).
        single_label: count only images with exactly one finding, as the series does.
        views: count only these projections, in the series ("PA", "AP").
    """
    counts = count_findings(table, single_label=single_label, views=views)
    enough = counts[(counts["train"] >= min_train) & (counts["val"] >= min_val)]
    unwanted = {name.strip().casefold() for name in exclude}
    kept = [name for name in enough["finding"] if name.casefold() not in unwanted]
    if candidates is None:
        return kept
    names = finding_names(table)
    wanted = {known_finding(name, names).casefold() for name in candidates}
    return [name for name in kept if name.casefold() in wanted]


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


def known_finding(name: str, names: Sequence[str]) -> str:
    """The table's spelling of a finding, or an error that names the nearest ones."""
    spelling = {known.casefold(): known for known in names}
    key = name.strip().casefold()
    if key in spelling:
        return spelling[key]
    if not names:
        raise InputError(f"No image has a known finding, so there is no '{name}' to draw.")
    near = [spelling[match] for match in difflib.get_close_matches(key, spelling, n=3)]
    if near:
        raise InputError(f"No image has the finding '{name}'; did you mean {' or '.join(near)}?")
    listed = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
    raise InputError(f"No image has the finding '{name}'; there are {listed}.")


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
