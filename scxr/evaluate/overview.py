"""The whole experiment, from run folders to tables: `scxr evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from scxr.data.episodes import choose_findings
from scxr.data.store import NORMAL, RadiographStore
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate.experiment import SHOTS, draw_and_score
from scxr.evaluate.features import AnyEncoder
from scxr.evaluate.finetune import finetune_scores
from scxr.evaluate.inits import load_inits
from scxr.evaluate.probe import probe_scores
from scxr.evaluate.results import compare, summarise
from scxr.runs import Run

log = logging.getLogger(__name__)

MODES = ("probe", "finetune")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Runs beside baselines on the same episodes, with every score and how it came about.

    Attributes:
        store: whose images were scored.
        runs: name of the init -> the run it comes from; the other inits are baselines.
        encoders: name of the init -> encoder, in the order of the tables.
        mode: "probe" or "finetune".
        settings: what the episodes and heads were made with: shots, trials, seed, negatives,
            setting, and whatever else was asked for.
        scores: `scxr.evaluate.results.SCORE_COLUMNS`; it has the patients' identifiers.
    """

    store: RadiographStore
    runs: dict[str, Run]
    encoders: dict[str, AnyEncoder]
    mode: str
    settings: dict[str, Any]
    scores: pd.DataFrame

    @property
    def findings(self) -> list[str]:
        """In the order of the tables."""
        return list(dict.fromkeys(self.scores["finding"]))

    @property
    def baselines(self) -> list[str]:
        """The inits that are no runs."""
        return [name for name in self.encoders if name not in self.runs]

    @cached_property
    def _results(self) -> pd.DataFrame:
        return summarise(self.scores)

    def results(self) -> pd.DataFrame:
        """`scxr.evaluate.results.RESULT_COLUMNS`, one row an init, finding and shot count."""
        return self._results.copy()

    def best_baseline(self) -> str | None:
        """The baseline with the highest AUC, averaged over findings and shots; None without any.

        It is chosen on the images that it is then compared on, which favours it.
        """
        table = self._results[self._results["init"].isin(self.baselines)]
        means = table.groupby("init", sort=False)["auc_mean"].mean()
        return None if means.empty else str(means.idxmax())

    def comparison(self, baseline: str | None = None, **options: Any) -> pd.DataFrame:
        """Paired differences to `baseline`, corrected as one family: see `compare`.

        Args:
            baseline: any init, which all others are compared with; None for the best baseline,
                which the runs alone are compared with where there are any.
            **options: as in `compare`: test, level, repeats, seed.

        Raises:
            InputError: there is no such init, or nothing to compare it with.
        """
        if baseline is not None:
            return compare(self.scores, baseline, **options)
        best = self.best_baseline()
        if best is None or len(self.encoders) < 2:
            raise InputError(
                "There is nothing to compare with: add a baseline, for example --inits random."
            )
        kept = [*self.runs, best] if self.runs else list(self.encoders)
        return compare(self.scores[self.scores["init"].isin(kept)], best, **options)


def run_evaluation(
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
) -> Evaluation:
    """Runs beside baselines, few-shot, on the same episodes.

    Args:
        runs: folders of finished runs.
        store: with labels.
        mode: "probe" or "finetune"; fine-tuning is the quick recipe where there is no GPU, and
            leaves raw pixels out.
        findings: those with `min_train` training and `min_val` validation images when empty.
        baselines, imagenet_weights: see `scxr.evaluate.inits.load_inits`.
        **options: as in `probe_scores` or `finetune_scores`.
    """
    if mode not in MODES:
        raise InputError(f"Unknown mode {mode!r}: choose from {', '.join(MODES)}.")
    folders = [Path(path) for path in runs]
    encoders = load_inits(folders, baselines, store, imagenet_weights=imagenet_weights)
    opened = [Run.open(path) for path in folders]
    chosen = list(findings) or choose_findings(store.table, min_train, min_val)
    if not chosen:
        raise InputError(
            f"No finding of {store.path} has {min_train} training and {min_val} validation images: "
            "lower --min-train and --min-val, or name findings with --findings."
        )
    score = partial(probe_scores, setting=setting)
    if mode == "finetune":
        encoders = _trainable(encoders)
        options.setdefault("quick", not torch.cuda.is_available())
        score = partial(finetune_scores, setting=setting, seed=seed)
    drawn: dict[str, Any] = {"shots": sorted({int(n) for n in shots}), "trials": trials}
    drawn |= {"seed": seed, "negatives": negatives}
    scores = draw_and_score(score, encoders, store, chosen, **drawn, **options)
    settings = {**drawn, "setting": setting, **options}
    kept = {run.name: run for run in opened if run.name in encoders}
    return Evaluation(store, kept, encoders, mode, settings, scores)


def evaluate(runs: Iterable[str | Path], store: RadiographStore, **options: Any) -> pd.DataFrame:
    """The results of `run_evaluation`, whose arguments it takes, as one table.

    Returns:
        `scxr.evaluate.results.RESULT_COLUMNS`, with intervals over patients.
    """
    return run_evaluation(runs, store, **options).results()


def _trainable(encoders: dict[str, AnyEncoder]) -> dict[str, AnyEncoder]:
    for name, encoder in encoders.items():
        if not isinstance(encoder, Encoder):
            log.info("%s has nothing to fine-tune and is left out.", name)
    kept: dict[str, AnyEncoder] = {
        name: e for name, e in encoders.items() if isinstance(e, Encoder)
    }
    if not kept:
        raise InputError(
            f"There is nothing to fine-tune in {', '.join(encoders)}: name a run, or "
            "--inits random."
        )
    return kept
