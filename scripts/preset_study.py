"""The study behind the quick presets: settings tried, and what a probe makes of them.

usage: preset_study.py [--trials 5] [--only barlow,moco]

Writes book/preset-study.csv, one row a run: method, steps and learning rate and what else differs
from the defaults of the method's settings, seed, and the mean AUC over the target hospital's
findings at 1 to 50 shots, beside random weights (torch's own batch-norm statistics, the stronger of
the two random nets) and pixels. Runs are kept in the cache: about 75 s each on two idle cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from scxr.data import phantom_store
from scxr.data.episodes import choose_findings
from scxr.evaluate.inits import load_inits
from scxr.evaluate.probe import evaluate_probe
from scxr.methods import METHODS, Settings
from scxr.pretrain import pretrain

OUT = Path(__file__).parents[1] / "book/preset-study.csv"
SHOTS = (1, 5, 10, 20, 50)
V2: dict[str, object] = {
    "symmetric": False,
    "head_layers": 2,
    "output_norm": False,
    "temperature": 0.1,
}
THREE = {**V2, "head_layers": 3, "temperature": 0.2}
V3 = {**THREE, "output_norm": True}
BOTH = {**V3, "symmetric": True}
VIT: dict[str, object] = {"backbone": "vit_tiny", "stem": "patch16"}
SMALL_BATCHES = {**V2, "steps": 320, "batch_size": 64, "augmentation.crop_scale": (0.25, 1.0)}
# Every row is kept, also of what did not work; the presets follow from the best of a method.
STUDY: list[tuple[str, dict[str, object], int]] = [
    ("moco", {**V2, "steps": 160, "lr": 2e-3}, 0),
    ("moco", {**V2, "steps": 160, "lr": 1e-3}, 0),
    ("moco", {**V2, "steps": 160, "lr": 5e-4}, 0),
    ("moco", {**V2, "steps": 160, "lr": 2e-4}, 0),
    ("moco", {**SMALL_BATCHES, "lr": 4e-4}, 0),
    ("moco", {**SMALL_BATCHES, "lr": 8e-4}, 0),
    ("moco", {**SMALL_BATCHES, "lr": 4e-4}, 1),
    ("moco", {**SMALL_BATCHES, "lr": 4e-4}, 2),
    ("moco", {**V3, "steps": 160, "lr": 1e-3}, 0),
    (
        "moco",
        {**THREE, "steps": 160, "lr": 1e-3, "variance_weight": 1.0, "covariance_weight": 0.1},
        0,
    ),
    ("moco", {**BOTH, "steps": 80, "lr": 1e-3}, 0),
    ("moco", {**BOTH, "steps": 80, "lr": 1e-3, "covariance_weight": 0.1}, 0),
    ("moco", {**BOTH, "steps": 90, "lr": 1e-3, "temperature": 0.5}, 0),
    ("moco", {**BOTH, "steps": 90, "lr": 2e-3}, 0),
    ("moco", {**BOTH, "steps": 90, "lr": 1e-3}, 0),
    ("moco", {**BOTH, "steps": 90, "lr": 1e-3}, 1),
    ("moco", {**BOTH, "steps": 90, "lr": 1e-3}, 2),
    ("barlow", {"steps": 120, "lr": 2e-3}, 0),
    ("barlow", {"steps": 120, "lr": 1e-3}, 0),
    ("barlow", {"steps": 120, "lr": 5e-4}, 0),
    ("barlow", {"steps": 120, "lr": 1e-3}, 1),
    ("barlow", {"steps": 120, "lr": 1e-3}, 2),
    ("vicreg", {"steps": 120, "lr": 1e-3}, 0),
    ("spark", {"steps": 130, "lr": 1e-3}, 0),
    ("dino", {**VIT, "steps": 110, "lr": 5e-4}, 0),
    ("dino", {"steps": 110, "lr": 1e-3}, 0),
]
BASELINES = [("random", 0), ("random", 1), ("random", 2), ("pixels", 0)]


def worded(method: str, changes: dict[str, object]) -> str:
    """Settings as a reader of the table wants them, those at their default left out."""
    default = type(METHODS[method].presets["quick"])() if method in METHODS else Settings()
    always = {name: changes[name] for name in ("steps", "lr") if name in changes}
    others = {n: value for n, value in changes.items() if getattr(default, n, None) != value}
    return ", ".join(f"{n.split('.')[-1]} {value}" for n, value in (always | others).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--only", default="", help="methods, separated by commas")
    options = parser.parse_args()
    wanted = set(filter(None, options.only.split(",")))
    pool, target = phantom_store("A"), phantom_store("B")
    findings = choose_findings(target.table)
    told = pd.read_csv(OUT).to_dict("records") if OUT.is_file() and wanted else []
    told = [row for row in told if row["method"] not in wanted]

    def report(method: str, changes: dict[str, object], seed: int, init: str, inits) -> None:
        scores = evaluate_probe(
            inits, target, findings, shots=SHOTS, trials=options.trials, progress=False
        )
        means = scores[scores["init"] == init].groupby("shots")["auc_mean"].mean()
        told.append(
            {"method": method, "settings": worded(method, changes), "seed": seed}
            | {f"{shots} shots": round(float(means[shots]), 3) for shots in SHOTS}
        )
        rows = pd.DataFrame(told).fillna("")
        rows.drop_duplicates(["method", "settings", "seed"], keep="last").to_csv(OUT, index=False)

    for method, changes, seed in STUDY:
        if not wanted or method in wanted:
            run = pretrain(method, pool, settings=dict(changes), seed=seed)
            report(method, changes, seed, run.path.name, load_inits([run.path], [], target))
            if "backbone" in changes:  # its rival is another random net
                report("random", VIT, seed, "random", load_inits([run.path], ["random"], target))
    for init, seed in BASELINES:
        report(init, {}, seed, init, load_inits([run.path], [init], target, seed=seed))


if __name__ == "__main__":
    main()
