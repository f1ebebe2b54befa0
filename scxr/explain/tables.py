"""Does the map lie on the finding? One answer a picture, and one a finding and init.

The table is drawn by `scxr.figures.localisation_forest`; `attention_differences` puts the
inits in pairs, picture by picture, which is what a claim about pretraining rests on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scxr.data.store import RadiographStore
from scxr.errors import InputError
from scxr.evaluate.features import AnyEncoder
from scxr.evaluate.statistics import mean_interval
from scxr.explain.findings import Explanation, fit_finding
from scxr.explain.gradcam import DEFAULT
from scxr.explain.localisation import measure, summarise_scores

log = logging.getLogger(__name__)

OWN = "own"
"""Stands for a finding's own region in a list of structures."""
GROUP = ["finding", "structure", "stage", "method", "mode", "init"]
Structures = Mapping[str, str | Sequence[str]] | Sequence[str]


def explained_scores(explained: Explanation) -> pd.DataFrame:
    """One row a picture and init, the priors among the inits.

    Returns:
        `GROUP`, row (of the store), patient, auc (of the head; NaN for a prior), and the columns
        of `scxr.explain.localisation.measure`.

    Raises:
        InputError: the explanation has no regions.
    """
    masks = explained.masks
    if masks is None:
        raise InputError(
            f"No region of '{explained.finding}' is known for these images: there is nothing to "
            "compare the maps with."
        )
    about = {name: getattr(explained, name) for name in GROUP[:-1]}
    about |= {"row": explained.rows, "patient": explained.patients}
    priors = {name: np.broadcast_to(m, masks.shape) for name, m in explained.priors.items()}
    frames = [
        measure(maps, masks).assign(**about, init=init, auc=explained.aucs.get(init, np.nan))
        for init, maps in {**explained.cams, **priors}.items()
    ]
    table = pd.concat(frames, ignore_index=True)
    first = [*GROUP, "row", "patient", "auc"]
    return table[[*first, *(name for name in table if name not in first)]]


def explained_table(explained: Explanation) -> pd.DataFrame:
    """An explanation in numbers: one row an init, with localisation where regions are known."""
    if explained.masks is not None:
        return summarise(explained_scores(explained))
    about = {name: getattr(explained, name) for name in GROUP[:-1]}
    table = pd.DataFrame({"init": list(explained.cams)}).assign(
        **about,
        auc=list(explained.aucs.values()),
        images=len(explained.rows),
        patients=len(np.unique(explained.patients)),
    )
    return table[[*GROUP, "auc", "images", "patients"]]


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Means and 95 % intervals over patients of `localisation_scores`.

    Returns:
        `GROUP`, auc, and the columns of `scxr.explain.localisation.summarise_scores`.
    """
    table = summarise_scores(scores, GROUP)
    aucs = scores.groupby(GROUP, sort=False)["auc"].first()
    table.insert(len(GROUP), "auc", aucs.to_numpy())
    return table


def localisation_scores(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    findings: Sequence[str],
    *,
    structures: Structures | None = None,
    stage: str | Sequence[str] = "layer4",
    method: str = DEFAULT,
    images: int | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Findings x inits: does the map of each held-out picture lie on the finding?

    Args:
        encoders: name of the init -> encoder with stages.
        findings: as in the store's table.
        structures: the region to score against, where it is not the finding's own: finding ->
            region or regions (for example {"hiatal hernia": "retrocardiac"}), or regions for every
            finding alike (for example ["own", "lungs", "heart"]). Of several regions, one that no
            held-out image of the finding has is left out.
        stage: "layer1" to "layer4", or several.
        method, images: as in `scxr.explain.findings.explain_finding`.
        **options: as in `scxr.explain.findings.fit_finding`: mode, shots, trial, seed, negatives...

    Returns:
        As `explained_scores`.

    Raises:
        InputError: a store without regions, a region that it lacks, findings whose held-out images
            have none.
    """
    if not store.has_masks:
        raise InputError(
            f"The store {store.path} has no regions to compare maps with: import masks or boxes, "
            "or use the phantom."
        )
    if not findings:
        raise InputError("There is nothing to localise: give at least one finding.")
    for region in {name for f in findings for name in _regions_of(f, structures)} - {OWN}:
        store.masks([], region)  # refuse one that the store lacks before anything is computed
    stages = [stage] if isinstance(stage, str) else list(stage)
    frames = []
    for finding in findings:
        wanted = _regions_of(finding, structures)
        fitted = fit_finding(encoders, store, finding, **options)
        wanted = [fitted.episode.finding if name == OWN else name for name in wanted]
        found = 0
        for region in wanted:
            try:
                told = [
                    fitted.explain(
                        region, stage=s, method=method, images=images, device=options.get("device")
                    )
                    for s in stages
                ]
            except InputError as error:
                if len(wanted) == 1 or region not in store.structures:
                    raise
                log.info("%s It is left out.", error)
                continue
            found += 1
            frames += [explained_scores(each) for each in told]
        if not found:
            raise InputError(
                f"None of the held-out images of '{finding}' has any of the regions "
                f"{', '.join(wanted)}: choose other regions."
            )
    return pd.concat(frames, ignore_index=True)


def _regions_of(finding: str, structures: Structures | None) -> list[str]:
    chosen = structures.get(finding, OWN) if isinstance(structures, Mapping) else structures
    names = [chosen or OWN] if chosen is None or isinstance(chosen, str) else list(chosen)
    if not names:
        raise InputError(f"There is no region to compare with for '{finding}': give at least one.")
    return names


def localisation_table(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    findings: Sequence[str],
    **options: Any,
) -> pd.DataFrame:
    """Findings x inits: does the map lie on the finding, in held-out patients?

    Arguments and errors as in `localisation_scores`; the centre prior and the atlas prior (see
    `scxr.explain.priors`) are among the inits.

    Returns:
        As `summarise`.
    """
    return summarise(localisation_scores(encoders, store, findings, **options))


def attention_differences(
    scores: pd.DataFrame, baselines: Iterable[str], value: str = "enrichment"
) -> pd.DataFrame:
    """Init minus baseline on the same pictures, finding by finding and over all of them.

    Args:
        scores: of `localisation_scores`, of one stage.
        baselines: inits to compare with ("random", "centre prior", ...); those that `scores` lacks
            are left out.
        value: the measure.

    Returns:
        baseline, init, finding ("all" for all together), structure, difference (mean over
        pictures), low, high (95 %, bootstrap over patients), images; for "all" also findings and
        won, the number of findings with a positive mean. The intervals of single findings are not
        corrected for their number.
    """
    picture = ["finding", "structure", "row", "patient"]
    if scores.duplicated([*picture, "init"]).any():
        raise InputError("There are several maps of a picture: compare one stage and mode alone.")
    wide = scores.pivot(index=picture, columns="init", values=value)
    names = list(dict.fromkeys(scores["init"]))
    rows = []
    for baseline in (name for name in baselines if name in names):
        for init in (name for name in names if name != baseline):
            difference = (wide[init] - wide[baseline]).dropna()
            single = [
                {"finding": finding, "structure": structure} | _mean(part)
                for (finding, structure), part in difference.groupby(
                    ["finding", "structure"], sort=False
                )
            ]
            won = sum(row["difference"] > 0 for row in single)
            whole = {"finding": "all", "structure": "all"} | _mean(difference)
            whole |= {"findings": len(single), "won": won}
            rows += [{"baseline": baseline, "init": init} | row for row in [*single, whole]]
    return pd.DataFrame(rows)


def _mean(difference: pd.Series) -> dict[str, Any]:
    patients = difference.index.get_level_values("patient").to_numpy()
    low, high = mean_interval(difference.to_numpy(), patients)
    mean = float(difference.mean())
    return {"difference": mean, "low": low, "high": high, "images": len(difference)}
