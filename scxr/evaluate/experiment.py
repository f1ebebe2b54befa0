"""What every few-shot experiment shares: the episodes, the frame of scores, the spare cores.

The episodes are drawn once and handed to every init, so that two inits always differ in nothing
but the init.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from scxr.data.episodes import Episode, draw_episodes, finding_names
from scxr.data.findings import known_finding
from scxr.data.store import NORMAL, RadiographStore
from scxr.errors import InputError
from scxr.evaluate.features import AnyEncoder, bar
from scxr.evaluate.results import SCORE_COLUMNS

log = logging.getLogger(__name__)

SHOTS = (1, 5, 10, 20, 50)
PROCESSES_PAY = 150
"""Tasks (an init, finding and shot count each, some 0.2 s) from which on it is worth the seconds
that another process takes to import torch and scikit-learn."""


def draw_experiment(
    store: RadiographStore,
    findings: Sequence[str],
    shots: Iterable[int] = SHOTS,
    trials: int = 10,
    *,
    seed: int = 42,
    negatives: str = NORMAL,
    single_label: bool = False,
    views: Collection[str] | None = None,
) -> list[Episode]:
    """All episodes of an experiment; a warning says where shots had to be capped.

    Args:
        findings: names as in the store's table.
        shots: labelled images a class.
        trials: draws of a finding and a shot count.
        seed, negatives, single_label, views: as in `scxr.data.episodes.draw_episode`.

    Raises:
        InputError: nothing to evaluate, or a finding that the store cannot provide.
    """
    shots = sorted({int(n) for n in shots})
    if not findings or not shots or trials < 1:
        raise InputError("Nothing to evaluate: give at least one finding, one shot and one trial.")
    known = finding_names(store.table)
    # One finding in two spellings would be two findings to nobody but Python.
    findings = list(dict.fromkeys(known_finding(name, known) for name in findings))
    episodes: list[Episode] = []
    for finding in findings:
        drawn = list(
            draw_episodes(
                store.table,
                finding,
                shots,
                range(trials),
                seed,
                negatives,
                kept=findings,
                single_label=single_label,
                views=views,
            )
        )
        available = drawn[0].positives
        if available < shots[-1]:
            log.warning(
                "%s has only %d training positives: %s shots become %d.",
                finding,
                available,
                " and ".join(str(n) for n in shots if n > available),
                available,
            )
        _warn_of_few_negatives(drawn)
        episodes += drawn
    return episodes


def _warn_of_few_negatives(drawn: Sequence[Episode]) -> None:
    """Episodes of one finding are balanced unless there are too few images without it."""
    most = max(drawn, key=lambda episode: len(episode.train_rows))
    sides = {"training": most.train_labels, "validation": most.val_labels}
    for side, labels in sides.items():
        positives, negatives = int(labels.sum()), int((1 - labels).sum())
        if negatives < positives:
            log.warning(
                "%s has only %d negatives among the %s images, beside %d positives.",
                most.finding,
                negatives,
                side,
                positives,
            )


def draw_and_score(
    score: Callable[..., pd.DataFrame],
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    findings: Sequence[str],
    shots: Iterable[int] = SHOTS,
    trials: int = 10,
    *,
    seed: int = 42,
    negatives: str = NORMAL,
    **options: Any,
) -> pd.DataFrame:
    """Draw the episodes once and let every init be scored on them.

    Args:
        score: `probe_scores` or `finetune_scores`.
        findings, shots, trials, seed, negatives: as in `draw_experiment`.
        **options: of `score`.

    Returns:
        `SCORE_COLUMNS`, one row a validation image, trial, shot count, finding and init.
    """
    episodes = draw_experiment(store, findings, shots, trials, seed=seed, negatives=negatives)
    return score(encoders, store, episodes, **options)


def score_frame(
    init: str, episode: Episode, patients: np.ndarray, scores: np.ndarray
) -> pd.DataFrame:
    """The scores of one episode's validation images as rows of `SCORE_COLUMNS`."""
    values = {
        "init": init,
        "finding": episode.finding,
        "shots": episode.shots,
        "trial": episode.trial,
        "row": episode.val_rows,
        "patient": patients[episode.val_rows],
        "label": episode.val_labels,
        "score": scores,
        "positives": episode.positives,
    }
    return pd.DataFrame(values, columns=list(SCORE_COLUMNS))


def batches(episodes: Sequence[Episode]) -> list[list[Episode]]:
    """Episodes of one finding and shot count together: enough work to send to a process."""
    groups: dict[tuple[str, int], list[Episode]] = {}
    for episode in episodes:
        groups.setdefault((episode.finding, episode.shots), []).append(episode)
    return list(groups.values())


def in_parallel(
    work: Callable[..., pd.DataFrame],
    tasks: list[tuple],
    *,
    label: str,
    jobs: int | None = None,
    threads: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """`work(*task)` for every task, several at a time, the frames one below the other.

    Args:
        jobs: None for all cores, but one where starting processes would cost more than it saves.
        threads: threads instead of processes, for work that runs in torch.
        progress: whether to show a bar, `label` in front, on standard error.
    """
    if jobs is None:
        jobs = (os.cpu_count() or 1) if threads or len(tasks) > PROCESSES_PAY else 1
    options = {"prefer": "threads"} if threads else {}
    with one_torch_thread():
        run = Parallel(n_jobs=jobs, return_as="generator", **options)
        frames = run(delayed(work)(*task) for task in tasks)
        shown = bar(frames, label=label, total=len(tasks), progress=progress)
        return pd.concat(list(shown), ignore_index=True)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch's own threads off: small batches are faster side by side than each cut in pieces."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
