"""What the SCARCE-CXR series published, as data, and what follows from it by arithmetic.

Sources, all by the series' author: the appendix and the tables of parts 3, 4 and 6 of the series,
and the result files of its public code (`results/`). The numbers are copied as printed, three
decimals for an AUC; everything computed from them inherits that rounding. Nothing here was run by
this project.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from scxr.errors import InputError
from scxr.evaluate.statistics import holm

FOLDER = Path(__file__).parent / "published_tables"
SOURCE = "SCARCE-CXR, parts 3, 4 and 6, and the result files of the series' public code"
BASELINES = ("imagenet", "random")
_EXPERIMENT = ["mode", "method", "shots"]


def fewshot() -> pd.DataFrame:
    """All 900 few-shot results: mean and standard deviation over 10 trials.

    Columns: mode (probe, finetune), method, backbone, epoch (of the checkpoint), init (ssl,
    imagenet, random), finding, shots (asked for; capped at the positives there were), auc_mean,
    auc_std. Source: the result files of the series' code; the 50-shot rows are also the
    appendix of part 6. The averages printed there are recomputed by `averages`.
    """
    return _table("fewshot_auc")


def collapse_logs() -> pd.DataFrame:
    """The series' collapse monitor: mean std (of unnormalised features), mean cosine, rank.

    Columns: run, backbone, epoch, mean_std, mean_cosine, effective_rank, source. Source: section
    3.4 of part 3 and `results/` of the series' code, as the column says row by row.
    """
    return _table("collapse_logs")


def training_cost() -> pd.DataFrame:
    """Batch, epochs, optimiser, hours and US dollars a method on one L4, failed runs included.

    Columns: method, backbone, batch, epochs, optimizer, lr, weight_decay, warmup_epochs,
    failed_runs, final_run_hours, total_hours, cost_usd. Source: section 4.8 of part 4.
    """
    return _table("training_cost")


def t_tests() -> pd.DataFrame:
    """The series' paired t-tests of SSL against a baseline, over ten findings, uncorrected.

    Columns: mode, method, shots, versus, t, p. Source: the result files of the series' code.
    `recomputed_t_tests` does them again from `fewshot`.
    """
    return _table("paired_t_tests")


def finding_counts() -> pd.DataFrame:
    """PadChest images of 74 findings on both sides of the series' split, exclusions left out.

    Columns: finding (lower case), train, val. Source: `run_eval.log` of the series' code, which
    counts the PA and AP images with one label among 58,337 files on its disk (1,076 patients).
    """
    return _table("finding_counts")


def averages(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Mean AUC over findings: one row a mode, method and shot count, one column an init."""
    table = fewshot() if table is None else table
    means = table.groupby([*_EXPERIMENT, "init"])["auc_mean"].mean().unstack("init")
    return means[["ssl", *BASELINES]].rename_axis(columns=None).reset_index()


def margins(versus: str = "imagenet") -> pd.DataFrame:
    """SSL minus a baseline for every finding, shot count, method and mode.

    Returns:
        mode, method, shots, finding, ssl, baseline, difference (AUC), and `difference_in_sd`: the
        difference in standard deviations over trials (of the two, pooled).
    """
    if versus not in BASELINES:
        raise InputError(f"The series has no baseline {versus!r}: choose {' or '.join(BASELINES)}.")
    keys = [*_EXPERIMENT, "finding"]
    wide = fewshot().pivot(index=keys, columns="init", values=["auc_mean", "auc_std"])
    mean, sd = wide["auc_mean"], wide["auc_std"]
    pooled = ((sd["ssl"] ** 2 + sd[versus] ** 2) / 2) ** 0.5
    difference = (mean["ssl"] - mean[versus]).round(3)
    columns = {
        "ssl": mean["ssl"],
        "baseline": mean[versus],
        "difference": difference,
        "difference_in_sd": difference / pooled,
    }
    return pd.DataFrame(columns).reset_index()


def wins(versus: str = "imagenet") -> pd.DataFrame:
    """For how many of the ten findings SSL beats a baseline, at every shot count.

    Returns:
        mode, method, shots, won (findings with a higher mean AUC), findings, mean_difference,
        worst (the finding with the lowest difference), worst_difference.
    """
    rows = []
    for key, group in margins(versus).groupby(_EXPERIMENT):
        worst = group.loc[group["difference"].idxmin()]
        rows.append(
            {
                **dict(zip(_EXPERIMENT, key, strict=True)),
                "won": int((group["difference"] > 0).sum()),
                "findings": len(group),
                "mean_difference": float(group["difference"].mean()),
                "worst": worst["finding"],
                "worst_difference": float(worst["difference"]),
            }
        )
    return pd.DataFrame(rows)


def beats_at_every_shot_count(versus: str = "imagenet") -> pd.DataFrame:
    """The claim "SSL beats the baseline at every shot count", on average and finding by finding.

    Returns:
        mode, method, average_won and shot_counts (at how many of them the mean over findings is
        higher), findings_won_everywhere and findings (that win at every one of them), cells_won
        and cells (finding-by-shot pairs), verdict: "holds", "holds on average" or
        "does not hold".
    """
    rows = []
    for (mode, method), group in margins(versus).groupby(["mode", "method"]):
        by_shots = group.groupby("shots")["difference"].mean()
        everywhere = group.groupby("finding")["difference"].min() > 0
        average = int((by_shots > 0).sum())
        if everywhere.all():
            verdict = "holds"
        else:
            verdict = "holds on average" if average == len(by_shots) else "does not hold"
        rows.append(
            {
                "mode": mode,
                "method": method,
                "average_won": average,
                "shot_counts": len(by_shots),
                "findings_won_everywhere": int(everywhere.sum()),
                "findings": len(everywhere),
                "cells_won": int((group["difference"] > 0).sum()),
                "cells": len(group),
                "verdict": verdict,
            }
        )
    return pd.DataFrame(rows)


def recomputed_t_tests() -> pd.DataFrame:
    """The paired t-tests again, from the published means, and Holm's correction for all of them.

    Agreement with `t_tests` is to within the rounding of the published AUCs. Ten findings that
    share their negatives are not ten independent experiments; the correction does not mend that.

    Returns:
        mode, method, shots, versus, t, p, p_holm (one family: every row of the table).
    """
    rows = []
    for versus in BASELINES:
        for key, group in margins(versus).groupby(_EXPERIMENT):
            test = stats.ttest_rel(group["ssl"], group["baseline"])
            head = dict(zip(_EXPERIMENT, key, strict=True))
            rows.append({**head, "versus": versus, "t": test.statistic, "p": test.pvalue})
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy())
    return table.sort_values([*_EXPERIMENT, "versus"], ignore_index=True)


def overview() -> pd.DataFrame:
    """The published few-shot results on one page: averages over findings, and findings won.

    Returns:
        mode, method, shots, ssl, imagenet, random (mean AUC), beats_imagenet and beats_random
        (findings of ten in which SSL is ahead).
    """
    table = averages()
    for versus in BASELINES:
        won = wins(versus)[[*_EXPERIMENT, "won"]].rename(columns={"won": f"beats_{versus}"})
        table = table.merge(won, on=_EXPERIMENT)
    return table


def summary() -> str:
    """What the series published and what becomes of its main claims, as text for a terminal."""
    parts = [
        "Published by the SCARCE-CXR series (copied, not run by this project)",
        "\nMean AUC over ten findings; beats_*: findings of ten in which SSL is ahead",
        overview(),
        '\n"SSL beats the baseline at every shot count", recomputed',
        pd.concat([beats_at_every_shot_count(v).assign(versus=v) for v in BASELINES]),
        "\nPaired t-tests over findings, recomputed; p_holm is corrected for all 60",
        recomputed_t_tests(),
        "\nCollapse monitor",
        collapse_logs().drop(columns="source"),
        "\nCost on one L4",
        training_cost(),
        "\nSources: " + "; ".join(sorted(set(collapse_logs()["source"]))),
    ]
    return "\n".join(p if isinstance(p, str) else _plain(p) for p in parts)


def _plain(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda x: f"{x:.3f}", na_rep="")


def as_dict() -> dict[str, Any]:
    """All published tables and what is recomputed from them, as plain values for JSON."""
    tables = {
        "fewshot": fewshot(),
        "averages": overview(),
        "collapse_logs": collapse_logs(),
        "training_cost": training_cost(),
        "t_tests": t_tests(),
        "recomputed_t_tests": recomputed_t_tests(),
    }
    tables |= {f"claims_against_{v}": beats_at_every_shot_count(v) for v in BASELINES}
    # Through pandas, which turns NaN into null: NaN is no JSON.
    data = {name: json.loads(t.to_json(orient="records")) for name, t in tables.items()}
    return {"source": SOURCE, **data}


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv")


def _table(name: str) -> pd.DataFrame:
    return _read(name).copy()
