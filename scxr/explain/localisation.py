"""Does the map lie on the finding? Three numbers, and what a map that knows nothing would score.

After Saporta et al. 2022 (CheXlocalize, doi:10.1038/s42256-022-00536-x), per picture:

- hit: the pointing game (Zhang et al. 2018, arXiv:1608.00507), is the peak inside the region?
- energy inside: the share of the map's sum inside (Wang et al. 2020, arXiv:1910.01279).
- IoU after Otsu: intersection over union of region and map, cut at Otsu's threshold (1979).

Many findings sit near the middle, and regions differ in size. So always compare

- with `share`, the part of the picture that the region covers, which is the energy inside of a map
  that is the same everywhere: `enrichment` is energy inside / share, how many times more attention
  falls on the region than on an average pixel;
- with the centre prior, a blob in the middle, and the atlas prior, the place where training
  patients have that finding (`scxr.explain.priors`): neither has seen the picture;
- with random weights, and with the maps of the same network after its weights were drawn anew
  (`scxr.explain.randomisation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pandas as pd

from scxr.errors import InputError
from scxr.evaluate.statistics import mean_interval
from scxr.explain.priors import CENTRE_PRIOR, centre_prior

__all__ = [
    "CENTRE_PRIOR",
    "MEASURES",
    "centre_prior",
    "energy_inside",
    "hit",
    "iou_otsu",
    "measure",
    "summarise_maps",
    "summarise_scores",
]

MEASURES = ("hit", "energy_inside", "iou_otsu", "enrichment")


def hit(cam: np.ndarray, mask: np.ndarray) -> float:
    """1 where the map's peak lies in the region, else 0; a shared peak counts by its share.

    Args:
        cam: (H, W), not negative. A map that is 0 everywhere points nowhere and scores 0.
        mask: (H, W) bool, not empty.
    """
    mask = _region(cam, mask)
    peak = cam == cam.max()
    return float(mask[peak].mean()) if cam.max() > 0 else 0.0


def energy_inside(cam: np.ndarray, mask: np.ndarray) -> float:
    """Share of the map's sum that lies in the region, 0 to 1; arguments as in `hit`."""
    mask = _region(cam, mask)
    total = float(cam.sum(dtype=np.float64))
    return float(cam[mask].sum(dtype=np.float64)) / total if total > 0 else 0.0


def iou_otsu(cam: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of the region and the map above Otsu's threshold; as in `hit`."""
    mask = _region(cam, mask)
    if cam.max() <= 0:
        return 0.0
    grey = np.rint(255 * cam / cam.max()).astype(np.uint8)
    threshold, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    hot = grey > threshold
    return float((hot & mask).sum() / (hot | mask).sum())


def _region(cam: np.ndarray, mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask, dtype=bool)
    if np.shape(cam) != mask.shape:
        raise InputError(f"The map is {np.shape(cam)}, but the region is {mask.shape}.")
    if not mask.any():
        raise InputError("The region is empty: score only pictures in which it is marked.")
    return mask


def measure(cams: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """All measures for (n, H, W) maps and regions, one row a picture.

    Returns:
        `MEASURES`, the region's `share`, and `blank`: whether the map is 0 everywhere.
    """
    rows = []
    for cam, mask in zip(cams, masks, strict=True):
        share, energy = float(np.mean(mask)), energy_inside(cam, mask)
        rows.append(
            {
                "hit": hit(cam, mask),
                "energy_inside": energy,
                "iou_otsu": iou_otsu(cam, mask),
                "enrichment": energy / share,
                "share": share,
                "blank": float(cam.max() <= 0),
            }
        )
    return pd.DataFrame(rows)


def summarise_maps(
    cams: Mapping[str, np.ndarray],
    masks: np.ndarray,
    patients: np.ndarray,
    priors: Mapping[str, np.ndarray] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Means and intervals for maps of several inits, and for maps that have not looked.

    Args:
        cams: name of the init -> (n, H, W) maps.
        masks: (n, H, W) bool, none empty.
        patients: (n,) whose pictures they are; the bootstrap draws patients.
        priors: name -> (H, W), the same map for every picture; the centre prior when None.
        **options: level, repeats and seed as in `scxr.evaluate.statistics.mean_interval`.

    Returns:
        As `summarise_scores`.
    """
    priors = {CENTRE_PRIOR: centre_prior(*masks.shape[1:])} if priors is None else priors
    still = {name: np.broadcast_to(prior, masks.shape) for name, prior in priors.items()}
    frames = [
        measure(maps, masks).assign(init=init, patient=patients)
        for init, maps in {**cams, **still}.items()
    ]
    return summarise_scores(pd.concat(frames, ignore_index=True), ["init"], **options)


def summarise_scores(scores: pd.DataFrame, by: list[str], **options: Any) -> pd.DataFrame:
    """Mean of every measure, with bootstrap intervals over patients, for each group of rows.

    Args:
        scores: columns of `measure`, `patient`, and those in `by`, one row a picture.
        by: what makes a group; the order of the rows is kept.
        **options: level, repeats and seed as in `scxr.evaluate.statistics.mean_interval`.

    Returns:
        `by`, images, patients, share and blank (means), and for each of `MEASURES` its mean,
        `_low` and `_high`.
    """
    rows = []
    for key, group in scores.groupby(by, sort=False):
        patients = group["patient"].to_numpy()
        row: dict[str, Any] = dict(zip(by, key, strict=True))
        row |= {"images": len(group), "patients": len(np.unique(patients))}
        row |= {name: float(group[name].mean()) for name in ("share", "blank")}
        for name in MEASURES:
            values = group[name].to_numpy()
            low, high = mean_interval(values, patients, **options)
            row |= {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)
