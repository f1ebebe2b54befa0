"""From the scores of a few-shot experiment to the one tidy table that everything is drawn from.

An experiment (`probe_scores`, `finetune_scores`) gives a frame of scores: one row a validation
image, trial, shot count, finding and init (`SCORE_COLUMNS`). `summarise` turns it into results
with intervals, `compare` into paired differences between inits; both see the same numbers.
"""

from __future__ import annotations

import pandas as pd

from scxr.errors import InputError
from scxr.evaluate.statistics import Cell, holm, interval, paired_difference

SCORE_COLUMNS = (
    "init", "finding", "shots", "trial", "row", "patient", "label", "score", "positives",
)  # fmt: skip
RESULT_COLUMNS = (
    "init", "finding", "shots", "auc_mean", "auc_sd", "ci_low", "ci_high", "positives",
    "val_positives", "val_patients", "trials", "auc_step", "note",
)  # fmt: skip
FEW_PATIENTS = 10
"""With fewer held-out patients that have the finding a result carries a warning."""


def summarise(
    scores: pd.DataFrame, *, level: float = 0.95, repeats: int = 500, seed: int = 0
) -> pd.DataFrame:
    """One row an init, finding and shot count from a frame of scores (`SCORE_COLUMNS`).

    Returns:
        `RESULT_COLUMNS`: `auc_mean` and `auc_sd` over trials; `ci_low` and `ci_high`, an interval
        at `level` over patients and draws; `positives`, training positives there were to draw
        from (fewer than `shots` means that fewer shots were taken); `val_positives`, validation
        images with the finding, and `val_patients`, whose they are; `auc_step`, the smallest
        difference one trial can show; `note`, what a reader has to know before believing the row.
    """
    _columns(scores)
    rows = []
    for (init, finding, shots), group in scores.groupby(["init", "finding", "shots"], sort=False):
        cell = Cell(group)
        low, high = interval(cell, level=level, repeats=repeats, seed=seed)
        positives = int(group["positives"].iloc[0])
        val_positives = max(len(trial.positives) for trial in cell.trials)
        rows.append(
            {
                "init": init,
                "finding": finding,
                "shots": shots,
                "auc_mean": cell.mean,
                "auc_sd": float(cell.aucs.std(ddof=1)) if len(cell.aucs) > 1 else 0.0,
                "ci_low": low,
                "ci_high": high,
                "positives": positives,
                "val_positives": val_positives,
                "val_patients": cell.counts()[0],
                "trials": len(cell.trials),
                "auc_step": cell.step,
                "note": _note(int(shots), positives, cell.counts()[0]),
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


def _note(shots: int, positives: int, val_patients: int) -> str:
    notes = []
    if positives < shots:
        notes.append(f"{positives} shots: no more training positives")
    if val_patients < FEW_PATIENTS:
        notes.append(f"only {val_patients} validation patients with the finding")
    return "; ".join(notes)


def compare(
    scores: pd.DataFrame, baseline: str, *, level: float = 0.95, repeats: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Every init against `baseline` on the same episodes: paired differences and their p-values.

    Both are scored on the same images of the same trials, and the bootstrap draws the same
    patients for both. The p-value is two-sided, from Student's t; `p_holm` is corrected for all
    rows of the table (Holm 1979), one family.

    Returns:
        init, baseline, finding, shots, difference (init - baseline), ci_low, ci_high, p, p_holm.

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
                cells[init], cells[baseline], level=level, repeats=repeats, seed=seed
            )
            head = {"init": init, "baseline": baseline, "finding": finding, "shots": shots}
            rows.append(head | difference)
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy())
    return table
