"""The study behind the quick presets: settings tried, and what a probe makes of them.

usage: preset_study.py [--trials 5] [--only barlow,moco]

Writes book/preset-study.csv, one row a run: method, what differs from the preset that was current
when the study was made, seed, and the mean AUC over the target hospital's findings at 1 to 50
shots, beside random weights (torch's own batch-norm statistics, the stronger of the two random
nets) and pixels. Runs are kept in the cache: about 75 s each on two idle cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from scxr.data import phantom_store
from scxr.data.episodes import choose_findings
from scxr.evaluate.inits import load_inits
from scxr.evaluate.probe import evaluate_probe
from scxr.pretrain import pretrain

OUT = Path(__file__).parents[1] / "book/preset-study.csv"
SHOTS = (1, 5, 10, 20, 50)
SMALL_BATCHES = {"steps": 320, "batch_size": 64, "augmentation.crop_scale": (0.25, 1.0)}
# Every row is kept, also of what did not work; the presets follow from the best of a method.
STUDY: list[tuple[str, dict[str, object], int]] = [
    ("moco", {"steps": 160, "lr": 2e-3}, 0),
    ("moco", {"steps": 160, "lr": 1e-3}, 0),
    ("moco", {"steps": 160, "lr": 5e-4}, 0),
    ("moco", {"steps": 160, "lr": 2e-4}, 0),
    ("moco", {**SMALL_BATCHES, "lr": 4e-4}, 0),
    ("moco", {**SMALL_BATCHES, "lr": 8e-4}, 0),
    ("moco", {**SMALL_BATCHES, "lr": 4e-4}, 1),
    ("moco", {**SMALL_BATCHES, "lr": 4e-4}, 2),
    ("barlow", {"steps": 120, "lr": 2e-3}, 0),
    ("barlow", {"steps": 120, "lr": 1e-3}, 0),
    ("barlow", {"steps": 120, "lr": 5e-4}, 0),
    ("barlow", {"steps": 120, "lr": 1e-3}, 1),
    ("barlow", {"steps": 120, "lr": 1e-3}, 2),
    ("vicreg", {"steps": 120, "lr": 1e-3}, 0),
    ("spark", {"steps": 130, "lr": 1e-3}, 0),
    ("dino", {"steps": 110, "lr": 1e-3}, 0),
]


def worded(changes: dict[str, object]) -> str:
    """Settings as a reader of the table wants them."""
    return ", ".join(f"{name.split('.')[-1]} {value}" for name, value in changes.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--only", default="", help="methods, separated by commas")
    options = parser.parse_args()
    wanted = set(filter(None, options.only.split(",")))
    pool, target = phantom_store("A"), phantom_store("B")
    findings = choose_findings(target.table)
    told = pd.read_csv(OUT).to_dict("records") if OUT.is_file() and wanted else []
    told = [row for row in told if row["method"] not in {*wanted, "random", "pixels"}]

    def report(method: str, changes: dict[str, object], seed: int, init: str, inits) -> None:
        scores = evaluate_probe(
            inits, target, findings, shots=SHOTS, trials=options.trials, progress=False
        )
        means = scores[scores["init"] == init].groupby("shots")["auc_mean"].mean()
        told.append(
            {"method": method, "settings": worded(changes), "seed": seed}
            | {f"{shots} shots": round(float(means[shots]), 3) for shots in SHOTS}
        )
        pd.DataFrame(told).to_csv(OUT, index=False)

    for method, changes, seed in STUDY:
        if not wanted or method in wanted:
            run = pretrain(method, pool, settings=dict(changes), seed=seed)
            report(method, changes, seed, run.path.name, load_inits([run.path], [], target))
    for init in ("random", "pixels"):
        report(init, {}, 0, init, load_inits([run.path], [init], target))


if __name__ == "__main__":
    main()
