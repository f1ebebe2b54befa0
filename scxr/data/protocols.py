"""Two few-shot protocols by name: the SCARCE-CXR series' own, and one that mends it.

Both split patients by the MD5 of their identifier, use PA and AP images with exactly one finding,
leave out a list of findings and keep those with 15 training and 6 validation images. They differ:

| | `series` | `sound` |
|---|---|---|
| pulmonary fibrosis | kept with any number of validation images | kept like any other |
| negatives | any image without a kept finding, so also excluded ones | none of these either |
| negative pool | 5,000 and 2,000 drawn once | all |
| shots | drawn anew for each number, the same seed for all findings | nested, own draws a finding |
| "one finding" | one name in the printed list | one after blanks and repeats are gone |

Sources: the texts of the series and its public code (`finetune/_data.py`, `finetune/probe.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scxr.data.episodes import OTHER, Episode, check_draw, draw_episodes, make_episode
from scxr.data.exclusions import FURTHER_EXCLUSIONS, SERIES_EXCLUSIONS
from scxr.data.findings import eligible, is_validation, known_finding, tally
from scxr.data.store import NORMAL, has_any_finding, has_finding
from scxr.errors import InputError

KEPT, FORCED, TOO_FEW = "kept", "kept by force", "too few images"

# The archives of PadChest that the series worked with. It says "17 of 54" and names none; these
# are the only ones that add up to all 148 counts in its log (74 findings, training and validation),
# found by solving that linear system. Undecided is archive 50 alone, which holds a single image.
SERIES_FOLDERS = (
    *("0", "3", "9", "13", "15", "16", "20", "21", "22"),
    *("23", "25", "27", "29", "35", "37", "39", "49", "54"),
)


@dataclass(frozen=True, eq=False)
class Protocol:
    """Who takes part in a few-shot experiment.

    Attributes:
        exclude: names left out, by reason; compared without regard to case.
        exclude_negatives: whether the names left out are no negatives either.
        forced: findings kept with fewer than `min_val` validation images, but at least one.
        views: projections used; None for all.
        single_label: use only images with exactly one finding, or none (`No Finding`).
        as_listed: where the table tells how many names were printed (`listed`), those count.
        min_train, min_val: images needed on each side of the split.
        negative_caps: most negatives on each side, drawn once; None for all.
    """

    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    exclude_negatives: bool = True
    forced: tuple[str, ...] = ()
    views: tuple[str, ...] | None = ("PA", "AP")
    single_label: bool = True
    as_listed: bool = False
    min_train: int = 15
    min_val: int = 6
    negative_caps: tuple[int, int] | None = None

    @property
    def reasons(self) -> dict[str, str]:
        """Excluded name in lower case -> why."""
        return {name.casefold(): why for why, names in self.exclude.items() for name in names}


PROTOCOLS = {
    "series": Protocol(
        exclude=SERIES_EXCLUSIONS,
        exclude_negatives=False,
        forced=("pulmonary fibrosis",),
        as_listed=True,
        negative_caps=(5000, 2000),
    ),
    "sound": Protocol(exclude={**SERIES_EXCLUSIONS, **FURTHER_EXCLUSIONS}),
}


def get_protocol(protocol: str | Protocol) -> Protocol:
    """The protocol of this name, or the one given."""
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise InputError(f"There is no protocol '{protocol}'; choose of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[protocol]


def usable_rows(table: pd.DataFrame, protocol: str | Protocol) -> np.ndarray:
    """(N,) bool: images with known findings, of the protocol's views, single-label if it asks."""
    protocol = get_protocol(protocol)
    rows = eligible(table, single_label=protocol.single_label, views=protocol.views)
    if protocol.single_label and protocol.as_listed and "listed" in table:
        rows = rows & (table["listed"] == "1").to_numpy(dtype=bool)
    return rows


def count_cohort(table: pd.DataFrame, protocol: str | Protocol) -> pd.DataFrame:
    """Every finding of the usable images, most frequent first, and what becomes of it.

    Columns: finding, train, val (images on either side of the split), train_patients,
    val_patients, status: `kept`, `kept by force`, `too few images`, or the reason for excluding it.
    """
    protocol = get_protocol(protocol)
    counts = tally(table[usable_rows(table, protocol)])
    forced = {name.casefold() for name in protocol.forced}
    reasons = protocol.reasons

    def status(row: pd.Series) -> str:
        name = str(row["finding"]).casefold()
        if name in reasons:
            return reasons[name]
        if row["train"] < protocol.min_train:
            return TOO_FEW
        if row["val"] >= protocol.min_val:
            return KEPT
        return FORCED if name in forced and row["val"] > 0 else TOO_FEW

    counts["status"] = [status(row) for _, row in counts.iterrows()]
    return counts


def cohort_findings(table: pd.DataFrame, protocol: str | Protocol) -> list[str]:
    """The findings under study, most frequent first."""
    counts = count_cohort(table, protocol)
    return counts.loc[counts["status"].isin([KEPT, FORCED]), "finding"].tolist()


def negative_rows(
    table: pd.DataFrame, protocol: str | Protocol, kept: Sequence[str] | None = None
) -> np.ndarray:
    """(N,) bool: usable images that are negatives for every finding under study (`kept`)."""
    protocol = get_protocol(protocol)
    unwanted = list(cohort_findings(table, protocol) if kept is None else kept)
    if protocol.exclude_negatives:
        unwanted += list(protocol.reasons)
    return usable_rows(table, protocol) & ~has_any_finding(table["findings"], unwanted)


def cohort_funnel(table: pd.DataFrame, protocol: str | Protocol) -> pd.DataFrame:
    """How many images and patients are left after each step.

    Columns: step, images, patients, train, val (images on either side of the split). The last row
    is the pool of negatives, before it is capped; it does not follow from the row above.
    """
    protocol = get_protocol(protocol)
    counts = count_cohort(table, protocol)
    kept = counts.loc[counts["status"].isin([KEPT, FORCED]), "finding"].tolist()
    studied = counts.loc[~counts["status"].isin(protocol.exclude), "finding"].tolist()
    usable = usable_rows(table, protocol)
    steps = {
        "rows of the table": np.ones(len(table), dtype=bool),
        "findings known": eligible(table),
    }
    if protocol.views is not None:
        steps[f"view {' or '.join(protocol.views)}"] = eligible(table, views=protocol.views)
    if protocol.single_label:
        steps["one finding, or none"] = usable
    steps["a finding that is not excluded"] = usable & has_any_finding(table["findings"], studied)
    steps["a finding with enough images"] = usable & has_any_finding(table["findings"], kept)
    steps["negatives"] = negative_rows(table, protocol, kept)
    val = is_validation(table["patient"])
    return pd.DataFrame(
        [
            {
                "step": step,
                "images": int(rows.sum()),
                "patients": table["patient"][rows].nunique(),
                "train": int((rows & ~val).sum()),
                "val": int((rows & val).sum()),
            }
            for step, rows in steps.items()
        ]
    )


def describe_negatives(table: pd.DataFrame, protocol: str | Protocol) -> pd.DataFrame:
    """What the pool of negatives is made of, most frequent first.

    Columns: kind (`No Finding`, `too few images` or the reason for excluding the finding), images,
    share. An image with several findings counts under the first of its kinds.
    """
    protocol = get_protocol(protocol)
    counts = count_cohort(table, protocol)
    findings = table["findings"][negative_rows(table, protocol)]
    open_rows = np.ones(len(findings), dtype=bool)
    kinds = {NORMAL: [NORMAL]}
    for name, status in zip(counts["finding"], counts["status"], strict=True):
        kinds.setdefault(status, []).append(name)
    numbers = {}
    for kind, names in kinds.items():
        rows = open_rows & has_any_finding(findings, names)
        open_rows &= ~rows
        numbers[kind] = int(rows.sum())
    frame = pd.DataFrame({"kind": list(numbers), "images": list(numbers.values())})
    frame = frame[frame["images"] > 0].sort_values("images", ascending=False, kind="stable")
    frame["share"] = frame["images"] / max(1, len(findings))
    return frame.reset_index(drop=True)


def draw_cohort(
    table: pd.DataFrame,
    protocol: str | Protocol,
    finding: str,
    shots: Iterable[int],
    trials: Iterable[int],
    seed: int = 42,
) -> Iterator[Episode]:
    """Episodes of a finding under study, trial by trial and in it shots by shots.

    `sound` draws as `scxr.data.episodes.draw_episodes` does. A protocol with `negative_caps` draws
    as the series' code, call by call: given the same rows in the same order, the same images.
    Raises `InputError` when the protocol does not study the finding.
    """
    protocol = get_protocol(protocol)
    shots, trials = list(shots), list(trials)
    check_draw(shots, trials, seed)
    kept = cohort_findings(table, protocol)
    finding = known_finding(finding, kept)
    if protocol.negative_caps is not None:
        return _as_the_series(table, protocol, finding, kept, shots, trials, seed)
    unwanted = list(protocol.reasons) if protocol.exclude_negatives else []
    return draw_episodes(
        table,
        finding,
        shots,
        trials,
        seed,
        OTHER,
        kept=[*kept, *unwanted],
        single_label=protocol.single_label,
        views=protocol.views,
    )


def _as_the_series(
    table: pd.DataFrame,
    protocol: Protocol,
    finding: str,
    kept: Sequence[str],
    shots: Sequence[int],
    trials: Sequence[int],
    seed: int,
) -> Iterator[Episode]:
    assert protocol.negative_caps is not None
    val = is_validation(table["patient"])
    usable = usable_rows(table, protocol)
    considered = usable & ~has_any_finding(table["findings"], [NORMAL, *protocol.reasons])
    positives = _by_patient(table, considered, has_finding(table["findings"], finding))
    negatives = _by_patient(table, negative_rows(table, protocol, kept))
    # Python's own generator and this order of calls are the series'; every finding and every
    # number of shots starts from the same seed.
    cap = random.Random(seed)
    train_negative, val_negative = (
        np.array(cap.sample(list(pool), most)) if len(pool) > most else pool
        for pool, most in zip(
            (negatives[~val[negatives]], negatives[val[negatives]]),
            protocol.negative_caps,
            strict=True,
        )
    )
    train_positive, val_positive = positives[~val[positives]], positives[val[positives]]
    for trial in trials:
        for number in shots:
            draw = random.Random(seed + trial)
            drawn = [
                pool[draw.sample(range(len(pool)), min(size, len(pool)))]
                for pool, size in (
                    (train_positive, number),
                    (train_negative, min(number, len(train_positive))),
                    (val_negative, len(val_positive)),
                )
            ]
            yield make_episode(
                finding,
                number,
                trial,
                train=(drawn[0], drawn[1]),
                val=(val_positive, drawn[2]),
                positives=len(train_positive),
            )


def _by_patient(
    table: pd.DataFrame, rows: np.ndarray, among: np.ndarray | None = None
) -> np.ndarray:
    """Positions of `rows`, patient by patient in order of appearance; of these, those `among`."""
    positions = np.flatnonzero(rows)
    patients, _ = pd.factorize(table["patient"].iloc[positions])
    ordered = positions[np.argsort(patients, kind="stable")]
    return ordered if among is None else ordered[among[ordered]]
