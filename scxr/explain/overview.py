"""From runs to figures and tables: `scxr explain`, for one finding or for all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scxr import figures
from scxr.data.episodes import choose_findings, is_validation
from scxr.data.store import RadiographStore, has_finding
from scxr.errors import InputError
from scxr.evaluate.inits import load_inits
from scxr.explain.findings import explain_finding
from scxr.explain.tables import OWN, Structures, explained_table, localisation_table

log = logging.getLogger(__name__)


def explain(
    runs: Iterable[str | Path],
    store: RadiographStore,
    finding: str,
    *,
    baselines: Iterable[str] = ("random",),
    images: int = 3,
    shots: int = 50,
    stage: str = "layer4",
    structure: str | None = None,
    seed: int = 42,
    **options: Any,
) -> tuple[Figure, pd.DataFrame]:
    """What runs and baselines look at for one finding, in held-out patients.

    Args:
        runs: folders of finished runs.
        finding: as in the store's table.
        baselines: from `scxr.evaluate.inits.BASELINES`; raw pixels have no map.
        images: how many to draw; the numbers are over all that have the region.
        shots: labelled images a class behind the head.
        stage: "layer1" to "layer4".
        structure: region to score against; the finding's own when None or "own".
        **options: mode, method, negatives, ... as in `scxr.explain.findings.explain_finding`.

    Returns:
        A figure, inits by images, each map over the picture as that network was shown it, and
        `explained_table`: localisation where the store has regions of the finding, else the heads'
        AUC alone.
    """
    if images < 1:
        raise InputError("Draw at least one image.")
    encoders = load_inits(runs, baselines, store)
    explained = explain_finding(
        encoders,
        store,
        finding,
        stage=stage,
        shots=shots,
        structure=None if structure == OWN else structure,
        seed=seed,
        **options,
    )
    figure = figures.cam_grid(
        explained.images[:images],
        {name: maps[:images] for name, maps in explained.cams.items()},
        None if explained.masks is None else explained.masks[:images],
        seen={name: seen[:images] for name, seen in explained.seen.items()},
        title=f"{explained.finding}, {stage}, {explained.method}",
        notes={name: f"AUC {value:.2f}" for name, value in explained.aucs.items()},
    )
    return figure, explained_table(explained)


def localise(
    runs: Iterable[str | Path],
    store: RadiographStore,
    findings: Sequence[str] | None = None,
    *,
    baselines: Iterable[str] = ("random",),
    structures: Structures | None = None,
    stage: str | Sequence[str] = "layer4",
    measure: str = "enrichment",
    min_train: int = 15,
    min_val: int = 6,
    **options: Any,
) -> tuple[Figure, pd.DataFrame]:
    """Does pretraining put attention in the right place, and is it consistent across findings?

    Args:
        runs: folders of finished runs.
        findings: as in the store's table; None for all with enough images (`min_train`, `min_val`)
            that have regions in held-out patients.
        baselines: from `scxr.evaluate.inits.BASELINES`; "random" is drawn as a reference.
        structures: regions to compare with, see `scxr.explain.tables.localisation_scores`.
        stage: "layer1" to "layer4"; the figure shows one.
        measure: what the figure shows, one of `scxr.explain.localisation.MEASURES`.
        **options: method, mode, shots, negatives, ... as in `localisation_scores`.

    Returns:
        `scxr.figures.localisation_forest` and the table of `localisation_table`.
    """
    chosen = findings or _localisable(store, structures, min_train, min_val)
    encoders = load_inits(runs, baselines, store)
    table = localisation_table(
        encoders, store, chosen, structures=structures, stage=stage, **options
    )
    return figures.localisation_forest(table, measure=measure), table


def _localisable(
    store: RadiographStore, structures: Structures | None, min_train: int, min_val: int
) -> list[str]:
    """Findings with enough images, and with their region in a held-out patient."""
    enough = choose_findings(store.table, min_train, min_val)
    if structures is not None and OWN not in structures:
        return [f for f in enough if f in structures] if isinstance(structures, dict) else enough
    held_out = is_validation(store.table["patient"])
    marked = [
        finding
        for finding in enough
        if finding in store.structures
        and store.masks(held_out & has_finding(store.table["findings"], finding), finding).any()
    ]
    left_out = [finding for finding in enough if finding not in marked]
    if left_out:
        log.info("No regions of held-out patients are known for %s.", ", ".join(left_out))
    if not marked:
        raise InputError(
            f"No finding of the store {store.path} has both enough images and regions of its own "
            "in held-out patients: name findings, and regions to compare them with."
        )
    return marked
