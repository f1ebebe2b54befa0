"""From the scores of a few-shot experiment to the one tidy table that everything is drawn from.

An experiment (`probe_scores`, `finetune_scores`) gives a frame of scores: one row a validation
image, trial, shot count, finding and init (`SCORE_COLUMNS`). `summarise` turns it into results
with intervals, `compare` into paired differences between inits; both see the same numbers.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from scxr.errors import InputError
from scxr.evaluate.cells import Cell
from scxr.evaluate.comparison import holm, paired_difference
from scxr.evaluate.intervals import interval

SCORE_COLUMNS = (
    "init", "finding", "shots", "trial", "row", "patient", "label", "score", "positives",
)  # fmt: skip
RESULT_COLUMNS = (
    "init", "finding", "shots", "auc_mean", "auc_step", "auc_sd", "ci_low", "ci_high", "positives",
    "val_positives", "val_patients", "trials", "note",
)  # fmt: skip
FEW_PATIENTS = 10
"""With fewer held-out patients that have the finding a result carries a warning."""


def summarise(scores: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """One row an init, finding and shot count from a frame of scores (`SCORE_COLUMNS`).

    Returns:
        `RESULT_COLUMNS`: `auc_mean` over trials, and beside it `auc_step`, the smallest difference
        that one trial's AUC can show; `auc_sd` over trials, NaN with one; `ci_low` and `ci_high`,
        an interval at `level` over patients and draws; `positives`, training positives there were
        to draw from (fewer than `shots`: fewer shots were taken); `val_positives`, validation
        images with the finding, and `val_patients`, whose they are; `note`, what a reader has to
        know before believing the row.
    """
    _columns(scores)
    rows = []
    for (init, finding, shots), group in scores.groupby(["init", "finding", "shots"], sort=False):
        cell = Cell(group)
        low, high = interval(cell, level=level)
        positives = int(group["positives"].iloc[0])
        val_positives = max(len(trial.positives) for trial in cell.trials)
        rows.append(
            {
                "init": init,
                "finding": finding,
                "shots": shots,
                "auc_mean": cell.mean,
                "auc_step": cell.step,
                "auc_sd": float(cell.aucs.std(ddof=1)) if len(cell.aucs) > 1 else math.nan,
                "ci_low": low,
                "ci_high": high,
                "positives": positives,
                "val_positives": val_positives,
                "val_patients": cell.counts()[0],
                "trials": len(cell.trials),
                "note": _note(int(shots), positives, cell),
            }
        )
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS))


def _columns(scores: pd.DataFrame) -> None:
    missing = [name for name in SCORE_COLUMNS if name not in scores.columns]
    if missing or scores.empty:
        what = f"lacks the columns {', '.join(missing)}" if missing else "is empty"
        raise InputError(
            f"The frame of scores {what}: make it with probe_scores or finetune_scores."
        )


def _note(shots: int, positives: int, cell: Cell) -> str:
    notes = []
    if positives < shots:
        notes.append(f"{positives} shots: no more training positives")
    patients = cell.counts()[0]
    if patients < FEW_PATIENTS:
        plural = "" if patients == 1 else "s"
        notes.append(f"only {patients} validation patient{plural} with the finding")
    if any(len(trial.negatives) < len(trial.positives) for trial in cell.trials):
        fewest = min(len(trial.negatives) for trial in cell.trials)
        notes.append(f"only {fewest} validation images without it")
    return "; ".join(notes)


def compare(
    scores: pd.DataFrame,
    baseline: str,
    *,
    test: str = "permutation",
    level: float = 0.95,
    repeats: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Every init against `baseline` on the same episodes: paired differences and their p-values.

    Both are scored on the same images of the same trials. The p-value is two-sided; the interval
    holds the differences that the test does not reject, so it leaves 0 out where p is small.
    `p_holm` is corrected for all rows of the table (Holm 1979), one family.

    Args:
        test: "permutation" swaps the inits' ranks patient by patient; "delong" and "bootstrap" as
            in `scxr.evaluate.comparison.paired_difference`.
        level: of the intervals.
        repeats: swaps (20,000 where None) or resamples (500).
        seed: of the swaps or resamples.

    Returns:
        init, baseline, finding, shots, difference (init - baseline), ci_low, ci_high, p, test,
        p_holm.

    Raises:
        InputError: `baseline` is not among the inits, or an init was scored on other images.
    """
    _columns(scores)
    inits = list(dict.fromkeys(scores["init"]))
    if baseline not in inits or len(inits) < 2:
        raise InputError(
            f"A comparison needs the baseline {baseline!r} and another init; there are: "
            f"{', '.join(map(str, inits))}."
        )
    rows = []
    for (finding, shots), group in scores.groupby(["finding", "shots"], sort=False):
        cells = {init: Cell(part) for init, part in group.groupby("init", sort=False)}
        if baseline not in cells:
            raise InputError(f"{baseline!r} was not scored on {finding} at {shots} shots.")
        for init in (name for name in cells if name != baseline):
            difference = paired_difference(
                cells[init], cells[baseline], test=test, level=level, repeats=repeats, seed=seed
            )
            head = {"init": init, "baseline": baseline, "finding": finding, "shots": shots}
            rows.append(head | difference | {"test": test})
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy())
    return table


def write_table(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a table of scores, results or comparisons: CSV or Parquet, by the name's suffix.

    Args:
        frame: any tidy table; its index is not written.
        path: ends in .csv or .parquet; missing folders are made.

    Raises:
        InputError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise InputError(f"A table is written as .csv or .parquet, not as {path.name!r}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
    except OSError as error:
        raise InputError(f"The table cannot be written to {path}: {error}.") from error
    return path
