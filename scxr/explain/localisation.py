"""Does the map lie on the finding? Three numbers, and what a map that knows nothing would score.

After Saporta et al. 2022 (CheXlocalize, doi:10.1038/s42256-022-00536-x), per picture:

- hit: the pointing game (Zhang et al. 2018, arXiv:1608.00507), is the peak inside the region?
- energy inside: the share of the map's sum inside (Wang et al. 2020, arXiv:1910.01279).
- IoU after Otsu: intersection over union of region and map, cut at Otsu's threshold (1979).

Many findings sit near the middle, and regions differ in size: always compare with the centre
prior and with `share`, the part of the picture that the region covers, which is the energy inside
of a map that is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd

from scxr.data.store import RadiographStore
from scxr.errors import InputError
from scxr.evaluate.features import AnyEncoder
from scxr.evaluate.statistics import mean_interval
from scxr.explain.findings import Explanation, explain_finding

MEASURES = ("hit", "energy_inside", "iou_otsu")
CENTRE_PRIOR = "centre prior"


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


def centre_prior(height: int, width: int) -> np.ndarray:
    """(H, W) in [0, 1]: a Gaussian in the middle, its standard deviation a quarter of each side."""
    y = (np.arange(height) + 0.5 - height / 2) / (height / 4)
    x = (np.arange(width) + 0.5 - width / 2) / (width / 4)
    bump = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)
    return (bump / bump.max()).astype(np.float32)


def measure(cams: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """All measures for (n, H, W) maps and regions: one row a picture, and the region's `share`."""
    rows = [
        {
            "hit": hit(cam, mask),
            "energy_inside": energy_inside(cam, mask),
            "iou_otsu": iou_otsu(cam, mask),
            "share": float(np.mean(mask)),
        }
        for cam, mask in zip(cams, masks, strict=True)
    ]
    return pd.DataFrame(rows, columns=[*MEASURES, "share"])


def summarise_maps(
    cams: Mapping[str, np.ndarray],
    masks: np.ndarray,
    patients: np.ndarray,
    *,
    level: float = 0.95,
    repeats: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean of every measure for every init, and for the centre prior, with bootstrap intervals.

    Args:
        cams: name of the init -> (n, H, W) maps.
        masks: (n, H, W) bool, none empty.
        patients: (n,) whose pictures they are; the bootstrap draws patients.

    Returns:
        init, images, patients, share (mean), and for each of `MEASURES` its mean, `_low`, `_high`.
    """
    prior = np.broadcast_to(centre_prior(*masks.shape[1:]), masks.shape)
    rows = []
    for init, maps in {**cams, CENTRE_PRIOR: prior}.items():
        frame = measure(maps, masks)
        row: dict[str, Any] = {
            "init": init,
            "images": len(frame),
            "patients": len(np.unique(patients)),
            "share": float(frame["share"].mean()),
        }
        for name in MEASURES:
            values = frame[name].to_numpy()
            low, high = mean_interval(values, patients, level=level, repeats=repeats, seed=seed)
            row |= {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def explained_table(explained: Explanation) -> pd.DataFrame:
    """An explanation in numbers: one row an init, with localisation where regions are known."""
    head = {"finding": explained.finding, "structure": explained.structure}
    head |= {"stage": explained.stage}
    if explained.masks is None:
        table = pd.DataFrame(
            {
                "init": list(explained.cams),
                "images": len(explained.rows),
                "patients": len(np.unique(explained.patients)),
            }
        )
    else:
        table = summarise_maps(explained.cams, explained.masks, explained.patients)
    table.insert(1, "auc", table["init"].map(explained.aucs))
    for position, (name, value) in enumerate(head.items()):
        table.insert(position, name, value)
    return table


def localisation_table(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    findings: Sequence[str],
    *,
    structures: Mapping[str, str] | None = None,
    stage: str = "layer4",
    **options: Any,
) -> pd.DataFrame:
    """Findings x inits: does the probe's Grad-CAM lie on the finding, in held-out patients?

    Args:
        encoders: name of the init -> encoder with stages.
        findings: each needs regions in the store.
        structures: finding -> name of the region to score against, where it is not the finding's
            own (for example {"hiatal hernia": "retrocardiac"}).
        stage: "layer1" to "layer4".
        **options: as in `explain_finding`.

    Returns:
        finding, structure, stage, auc (of the probe that is explained), then the columns of
        `summarise_maps`; the centre prior is one of the inits.

    Raises:
        InputError: a store without regions, a finding whose held-out images have none.
    """
    if not store.has_masks:
        raise InputError(
            f"The store {store.path} has no regions to compare maps with: import masks or boxes, "
            "or use the phantom."
        )
    if not findings:
        raise InputError("There is nothing to localise: give at least one finding.")
    frames = []
    for finding in findings:
        structure = (structures or {}).get(finding, finding)
        explained = explain_finding(
            encoders, store, finding, structure=structure, stage=stage, **options
        )
        frames.append(explained_table(explained))
    return pd.concat(frames, ignore_index=True)
