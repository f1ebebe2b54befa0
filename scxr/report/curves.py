"""Few-shot curves, one picture a finding, and what they say in words."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scxr import figures
from scxr.evaluate import Evaluation
from scxr.report import numbers
from scxr.report.pictures import Picture, drawing

MOST = 12
"""Findings that get a picture, those with most validation images; the table has all."""


def curves(evaluation: Evaluation) -> list[Picture]:
    """The mean over findings first, where there are several."""
    results = evaluation.results()
    sizes = results.groupby("finding", sort=False)["val_positives"].max()
    shown = sizes.sort_values(ascending=False, kind="stable").index[:MOST]
    limits = (results["ci_low"].min() - 0.02, min(results["ci_high"].max() + 0.02, 1.02))
    pictures = []
    if len(sizes) > 1:
        text = _text("the mean over findings", results, len(sizes))
        pictures.append(drawing(text, _on_one_scale, results, limits, findings=[]))
    for finding in (name for name in sizes.index if name in shown):
        part = results[results["finding"] == finding]
        text = _text(str(finding), part, 1)
        pictures.append(drawing(text, _on_one_scale, part, limits))
    return pictures


def _on_one_scale(part: pd.DataFrame, limits: tuple[float, float], **options: Any) -> Figure:
    figure = figures.fewshot_curves(part, **options)
    figure.axes[0].set_ylim(*limits)
    return figure


def _text(what: str, part: pd.DataFrame, findings: int) -> str:
    most = int(part["shots"].max())
    decimals = numbers.digits(part["auc_step"].max() / findings)
    last = part[part["shots"] == most].groupby("init", sort=False)["auc_mean"].mean()
    values = [f"{init} {numbers.plain(value, decimals)}" for init, value in last.items()]
    return f"AUC against shots for {what}. At {most} shots: {', '.join(values)}."
