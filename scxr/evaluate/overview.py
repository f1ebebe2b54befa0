"""The whole experiment from run folders to one table: `scxr evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from scxr.data.episodes import choose_findings
from scxr.data.store import NORMAL, RadiographStore
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate.experiment import SHOTS
from scxr.evaluate.finetune import evaluate_finetune
from scxr.evaluate.inits import load_inits
from scxr.evaluate.probe import evaluate_probe

log = logging.getLogger(__name__)

MODES = ("probe", "finetune")


def evaluate(
    runs: Iterable[str | Path],
    store: RadiographStore,
    *,
    mode: str = "probe",
    findings: Sequence[str] = (),
    shots: Iterable[int] = SHOTS,
    trials: int = 10,
    baselines: Iterable[str] = ("random", "pixels"),
    imagenet_weights: Path | None = None,
    min_train: int = 15,
    min_val: int = 6,
    negatives: str = NORMAL,
    setting: str = "sound",
    seed: int = 42,
    **options: Any,
) -> pd.DataFrame:
    """Runs beside baselines, few-shot, on the same episodes, with intervals over patients.

    Args:
        runs: folders of finished runs.
        store: with labels.
        mode: "probe" or "finetune"; fine-tuning is the quick recipe where there is no GPU, and
            leaves raw pixels out.
        findings: those with `min_train` training and `min_val` validation images when empty.
        baselines, imagenet_weights: see `scxr.evaluate.inits.load_inits`.
        **options: as in `probe_scores` or `finetune_scores`.

    Returns:
        `scxr.evaluate.results.RESULT_COLUMNS`.
    """
    if mode not in MODES:
        raise InputError(f"Unknown mode {mode!r}: choose from {', '.join(MODES)}.")
    encoders = load_inits(runs, baselines, store, imagenet_weights=imagenet_weights)
    chosen = list(findings) or choose_findings(store.table, min_train, min_val)
    if not chosen:
        raise InputError(
            f"No finding of {store.path} has {min_train} training and {min_val} validation images: "
            "lower --min-train and --min-val, or name findings with --findings."
        )
    options |= {"seed": seed, "negatives": negatives, "setting": setting}
    if mode == "probe":
        return evaluate_probe(encoders, store, chosen, shots, trials, **options)
    trainable = {name: e for name, e in encoders.items() if isinstance(e, Encoder)}
    for name in encoders.keys() - trainable.keys():
        log.info("%s has nothing to fine-tune and is left out.", name)
    options.setdefault("quick", not torch.cuda.is_available())
    return evaluate_finetune(trainable, store, chosen, shots, trials, **options)
