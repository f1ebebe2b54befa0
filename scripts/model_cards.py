"""Measure the encoders of the quick presets for their cards (`python scripts/model_cards.py`).

Writes the tables of book/model-cards.md: `model-card-moco.csv` and its like, AUC and interval of
each finding at 20 shots a class; `model-card-means.csv`, the mean over findings by shots; and
`model-card-recipes.csv`, the presets as the package has them. Runs come from the cache where a
preset has not changed; otherwise they take about 75 s each on two idle cores.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scxr.data import RadiographStore, phantom_store
from scxr.data.episodes import choose_findings
from scxr.evaluate.inits import load_inits
from scxr.evaluate.probe import evaluate_probe
from scxr.methods import METHODS, preset_settings
from scxr.methods.base import Settings
from scxr.pretrain import pretrain

BOOK = Path(__file__).resolve().parent.parent / "book"
BASELINES = ("random", "pixels")
SHOTS = (1, 5, 10, 20, 50)
SHOWN = 20  # shots of the table by finding
TRIALS = 10


def recipe(settings: Settings) -> dict[str, str]:
    """One preset in a reader's words."""
    views = settings.augmentation
    low, high = views.crop_scale
    return {
        "backbone": settings.backbone,
        "pixels": str(settings.image_size),
        "steps": str(settings.steps),
        "batch": str(settings.batch_size),
        "optimiser": f"{settings.optimizer}, lr {settings.lr:g}",
        "crop": f"{low:g} to {high:g} of the area",
    }


def recipes() -> pd.DataFrame:
    """The quick presets, one row each."""
    rows = [
        {"encoder": method.__name__, **recipe(preset_settings(name, "quick", {}))}
        for name, method in METHODS.items()
    ]
    return pd.DataFrame(rows)


def by_finding(scores: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """AUC with its interval at `SHOWN` shots: one row a finding, one column an encoder."""
    shown = scores[scores["shots"] == SHOWN]
    texts = shown.assign(
        text=[f"{r.auc_mean:.2f} ({r.ci_low:.2f} to {r.ci_high:.2f})" for r in shown.itertuples()]
    )
    wide = texts.pivot(index="finding", columns="init", values="text")[list(labels)]
    patients = shown.groupby("finding")["val_patients"].first()
    wide.insert(0, "patients", patients)
    return wide.rename(columns=labels).reset_index()


def means(scores: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    """Mean AUC over findings: one row an encoder, one column a shot count."""
    wide = scores.pivot_table(index="init", columns="shots", values="auc_mean").loc[list(labels)]
    wide = wide.map("{:.3f}".format).rename(index=labels, columns=lambda n: f"{n} shots")
    return wide.rename_axis("encoder").reset_index()


def measure(runs: dict[str, Path], target: RadiographStore) -> None:
    """Probe finished runs, by method, and write both tables."""
    encoders = load_inits(runs.values(), BASELINES, target)
    scores = evaluate_probe(
        encoders, target, choose_findings(target.table), shots=SHOTS, trials=TRIALS, progress=False
    )
    labels = {path.name: METHODS[name].__name__ for name, path in runs.items()}
    labels |= {name: name for name in BASELINES}
    wide = by_finding(scores, labels)
    for name in runs:
        own = METHODS[name].__name__
        columns = ["finding", "patients", own, *BASELINES]
        wide[columns].to_csv(BOOK / f"model-card-{name}.csv", index=False)
    means(scores, labels).to_csv(BOOK / "model-card-means.csv", index=False)


def main() -> None:
    """Pretrain what is missing, probe, write the tables."""
    recipes().to_csv(BOOK / "model-card-recipes.csv", index=False)
    pool = phantom_store("A")
    measure({name: pretrain(name, pool).path for name in METHODS}, phantom_store("B"))


if __name__ == "__main__":
    main()
