"""Where the networks look: Grad-CAM of a few findings, with the true regions where known."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from scxr import figures
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate import Evaluation
from scxr.explain import Explanation, explain_finding
from scxr.explain.tables import explained_table
from scxr.report import numbers
from scxr.report.pictures import Picture, photograph

log = logging.getLogger(__name__)

FINDINGS = 3
INITS = 5
IMAGES = 6
"""Findings, inits and images at most: the page stays small enough for a mail."""
CANDIDATES = 8
"""Held-out images mapped for each that is drawn, to find as many patients among them."""


@dataclass(frozen=True)
class Localised:
    """One row of numbers: how much of a map lies inside the region."""

    init: str
    energy: str
    peak: str


@dataclass(frozen=True)
class Example:
    """One finding: the picture, and where regions are known the numbers over all images."""

    finding: str
    shots: int
    picture: Picture
    images: int
    share: str
    rows: tuple[Localised, ...]


@dataclass(frozen=True)
class Examples:
    """Up to `FINDINGS` of them; `reason` says why there are none."""

    shown: tuple[Example, ...] = ()
    reason: str = ""
    left_out: tuple[str, ...] = ()


def examples(evaluation: Evaluation, images: int) -> Examples:
    """Grad-CAM of the heads of trial 0 at the largest shot count.

    Findings with regions in the store come first, then those that are told best: a map of a head
    that is no better than chance explains nothing.

    Args:
        images: to draw for each finding, the first held-out ones in the store; 0 for none, `IMAGES`
            at most.
    """
    images = min(images, IMAGES)
    if images < 1:
        return Examples(reason="Pictures were left out of this report.")
    inits = evaluation.encoders.items()
    usable = dict([(n, e) for n, e in inits if isinstance(e, Encoder)][:INITS])
    left_out = [name for name in evaluation.encoders if name not in usable]
    if not usable:
        return Examples(reason="None of the inits has a feature map to look into.")
    steps = evaluation.results().groupby("finding")["auc_step"].max()
    shown: list[Example] = []
    reasons: list[str] = []
    for finding in _order(evaluation):
        if len(shown) == FINDINGS:
            break
        try:
            explained = _explain(evaluation, usable, finding, images)
        except InputError as error:
            log.info("No Grad-CAM of %s: %s", finding, error)
            reasons.append(str(error))
            continue
        shown.append(_example(explained, images, steps[finding]))
    return Examples(tuple(shown), "" if shown else reasons[0], tuple(left_out))


def _order(evaluation: Evaluation) -> list[str]:
    results = evaluation.results()
    means = results.groupby("finding", sort=False)["auc_mean"].mean()
    told = means.sort_values(ascending=False, kind="stable").index
    return sorted(map(str, told), key=lambda name: name not in evaluation.store.structures)


def _explain(
    evaluation: Evaluation, encoders: dict[str, Encoder], finding: str, images: int
) -> Explanation:
    settings = evaluation.settings
    return explain_finding(
        encoders,
        evaluation.store,
        finding,
        shots=settings["shots"][-1],
        seed=settings["seed"],
        negatives=settings["negatives"],
        kept=evaluation.findings,
        setting=settings["setting"],
        mode=evaluation.mode,
        quick=settings.get("quick", True),
        images=None if finding in evaluation.store.structures else CANDIDATES * images,
        cache=settings.get("cache", True),
        device=settings.get("device"),
    )


def _example(explained: Explanation, images: int, step: float) -> Example:
    masks = explained.masks
    drawn = _different(explained.patients, images)
    decimals = numbers.digits(step)
    notes = {n: f"AUC {numbers.plain(a, decimals)}" for n, a in explained.aucs.items()}
    text = (
        f"{len(drawn)} held-out radiographs with {explained.finding}, one a row; beside each, laid "
        f"over it, what speaks for the finding according to {numbers.listed(list(explained.cams))}."
    )
    if masks is not None:
        text += " The true region is outlined."
    picture = photograph(
        text,
        figures.cam_grid,
        explained.images[drawn],
        {name: maps[drawn] for name, maps in explained.cams.items()},
        None if masks is None else masks[drawn],
        seen={name: views[drawn] for name, views in explained.seen.items()},
        notes=notes,
    )
    rows, share = _localised(explained) if masks is not None else ((), "")
    return Example(explained.finding, explained.shots, picture, len(explained.rows), share, rows)


def _different(patients: np.ndarray, count: int) -> np.ndarray:
    """The first image of each of the first patients; more of the same where they are too few."""
    _, first = np.unique(patients, return_index=True)
    rest = np.setdiff1d(np.arange(len(patients)), first)
    return np.r_[np.sort(first), rest][:count]


def _localised(explained: Explanation) -> tuple[tuple[Localised, ...], str]:
    table = explained_table(explained)
    rows = []
    for row in table.itertuples():
        energy = f"{row.energy_inside:.0%} ({row.energy_inside_low:.0%} to "
        peak = f"{row.hit:.0%} ({row.hit_low:.0%} to {row.hit_high:.0%})"
        rows.append(Localised(row.init, f"{energy}{row.energy_inside_high:.0%})", peak))
    return tuple(rows), f"{float(np.mean(table['share'])):.1%}"
