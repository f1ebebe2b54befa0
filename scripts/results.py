"""Write the tables of book/results.md and book/field-guide.md (`python scripts/results.py`).

Nothing is run: the numbers are those that `scxr.published` holds, and what follows from them or
from a formula. `tests/book/test_book_results.py` checks that the files are in step.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scxr import published
from scxr.evaluate.statistics import score_interval

BOOK = Path(__file__).resolve().parent.parent / "book"
METHODS = {"moco-v2": "MoCo v2", "barlow": "BarlowTwins", "spark": "SparK"}
MODES = {"probe": "probe", "finetune": "fine-tuned"}


def named(table: pd.DataFrame) -> pd.DataFrame:
    """Methods and modes as a reader calls them."""
    return table.assign(method=table["method"].map(METHODS), mode=table["mode"].map(MODES))


def wide(table: pd.DataFrame, row: str, column: str) -> pd.DataFrame:
    """A mode, method and `row` a line, the shot counts side by side."""
    keys = ["mode", "method", row]
    order = table[keys].drop_duplicates()
    shots = table.pivot(index=keys, columns="shots", values=column).add_suffix(" shots")
    shots = shots.rename(columns={"1 shots": "1 shot"})
    return order.merge(shots.reset_index(), on=keys)


def averages() -> pd.DataFrame:
    """Published mean AUC over ten findings."""
    starts = {"ssl": "SSL", "imagenet": "ImageNet", "random": "random"}
    table = named(published.averages()).rename(columns=starts)
    table = table.melt(["mode", "method", "shots"], list(starts.values()), "start", "auc")
    table = table.sort_values(["mode", "method"], ascending=[False, True], kind="stable")
    return wide(table.assign(auc=table["auc"].map("{:.3f}".format)), "start", "auc")


def ahead() -> pd.DataFrame:
    """For how many of the ten findings SSL has the higher published mean."""
    parts = [
        named(published.wins(versus)).assign(**{"ahead of": name})
        for versus, name in (("imagenet", "ImageNet"), ("random", "random"))
    ]
    table = pd.concat(parts).sort_values(["mode", "method"], ascending=[False, True], kind="stable")
    return wide(table, "ahead of", "won")


def by_finding() -> pd.DataFrame:
    """Published AUC at 50 shots, linear probe: one row a finding."""
    table = published.fewshot().query("mode == 'probe' and shots == 50")
    ssl = table.query("init == 'ssl'").pivot(index="finding", columns="method", values="auc_mean")
    ssl = ssl[list(METHODS)].rename(columns=METHODS)
    moco = table.query("method == 'moco-v2'")
    baselines = moco.pivot(index="finding", columns="init", values="auc_mean")
    ssl["ImageNet"], ssl["random"] = baselines["imagenet"], baselines["random"]
    ssl = ssl.map("{:.3f}".format)
    counts = published.finding_counts().set_index("finding")
    ssl.insert(0, "held-out positives", counts["val"].reindex(ssl.index))
    ssl.insert(0, "training positives", counts["train"].reindex(ssl.index))
    return ssl.sort_values("held-out positives", ascending=False).reset_index()


def costs() -> pd.DataFrame:
    """Published hours and dollars on one L4."""
    table = published.training_cost()
    columns = {
        "method": "method",
        "backbone": "backbone",
        "batch": "batch",
        "epochs": "epochs",
        "failed_runs": "failed runs",
        "final_run_hours": "hours of the final run",
        "total_hours": "hours in all",
        "cost_usd": "US dollars",
    }
    return table[list(columns)].rename(columns=columns)


def certainty() -> pd.DataFrame:
    """What an AUC is worth: 95 % score interval by held-out patients with the finding."""
    rows = []
    for patients in (4, 6, 10, 20, 50, 100, 200):
        row: dict[str, object] = {"held-out patients with the finding": patients}
        for value in (0.75, 0.9):
            low, high = score_interval(value, patients, patients)
            row[f"an AUC of {value:g} means"] = f"{low:.2f} to {high:.2f}"
        row["an AUC of 1 means at least"] = f"{score_interval(1.0, patients, patients)[0]:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


TABLES = {
    "field-guide-certainty.csv": certainty,
    "results-averages.csv": averages,
    "results-ahead.csv": ahead,
    "results-findings.csv": by_finding,
    "results-costs.csv": costs,
}


def main() -> None:
    """Write all tables."""
    for name, make in TABLES.items():
        make().to_csv(BOOK / name, index=False)


if __name__ == "__main__":
    main()
