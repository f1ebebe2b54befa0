"""Grad-CAM of runs and baselines for one finding, as a figure and a table: `scxr explain`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from scxr import figures
from scxr.data.store import RadiographStore
from scxr.errors import InputError
from scxr.evaluate.inits import load_inits
from scxr.explain.findings import explain_finding
from scxr.explain.localisation import explained_table


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
) -> tuple[Figure, pd.DataFrame]:
    """What runs and baselines look at for one finding, in held-out patients.

    Args:
        runs: folders of finished runs.
        finding: as in the store's table.
        baselines: from `scxr.evaluate.inits.BASELINES`; raw pixels have no map.
        images: how many to draw; the numbers are over all that have the region.
        shots: labelled images a class behind the probe.
        stage: "layer1" to "layer4".
        structure: region to score against; the finding's own when None.

    Returns:
        A figure, inits by images, and `explained_table`: localisation where the store has regions
        of the finding, else the probes' AUC alone.
    """
    if images < 1:
        raise InputError("Draw at least one image.")
    encoders = load_inits(runs, baselines, store)
    explained = explain_finding(
        encoders, store, finding, stage=stage, shots=shots, structure=structure, seed=seed
    )
    figure = figures.cam_grid(
        explained.images[:images],
        {name: maps[:images] for name, maps in explained.cams.items()},
        None if explained.masks is None else explained.masks[:images],
        title=f"{explained.finding}, {stage}",
        notes={name: f"AUC {value:.2f}" for name, value in explained.aucs.items()},
    )
    return figure, explained_table(explained)
