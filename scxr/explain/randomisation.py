"""Does a map owe anything to the weights? Draw them anew, from the top down, and look again.

Adebayo et al. 2018, arXiv:1810.03292: a map that stays the same when the network has forgotten
what it learned shows the picture, not the network. Head, last stage, and so on to the stem are
replaced by freshly initialised ones, batch norm's statistics included, each together with all
above it; the map of what is left is compared with the original one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.evaluate.features import STAGES
from scxr.evaluate.heads import Classifier
from scxr.evaluate.statistics import mean_interval
from scxr.explain.findings import Explanation
from scxr.explain.gradcam import class_activation_maps
from scxr.seeds import generator, seed_for

LEVELS = ("head", *reversed(STAGES), "stem")


def cascade(model: Classifier, seed: int = 0) -> Iterator[tuple[str, Classifier]]:
    """The network with its head random, then its last stage too, ... down to the stem.

    The new head has the length of the old one; the new stages are those of an untrained encoder.
    `model` is left as it is; every level is a copy of its own.
    """
    encoder = model.encoder
    fresh = build_encoder(**encoder.config, seed=seed_for(seed, "randomisation")).state_dict()
    current = copy.deepcopy(model).cpu()
    weight = current.head.weight
    drawn = torch.randn(weight.shape, generator=generator(seed, "randomisation", "head"))
    with torch.no_grad():
        weight.copy_(drawn * weight.norm() / drawn.norm())
    yield "head", copy.deepcopy(current)
    state = current.encoder.state_dict()
    for level in LEVELS[1:]:
        for name in state:
            if _level_of(name) == level:
                state[name].copy_(fresh[name])  # the state dict shares the network's memory
        yield level, copy.deepcopy(current)


def _level_of(name: str) -> str | None:
    """The part of the encoder that a weight belongs to; None for the normalisation constants."""
    parts = name.split(".")
    if parts[0] != "trunk":
        return None
    return parts[1] if parts[1] in STAGES else "stem"


def randomisation(
    explained: Explanation, *, images: int | None = 32, seed: int = 0
) -> pd.DataFrame:
    """How much of an explanation's maps is left when the weights are drawn anew, top to bottom.

    Args:
        explained: with its `models`, as `explain_finding` makes it.
        images: at most so many; None for all.
        seed: of the new weights.

    Returns:
        One row an init and level: finding, stage, method, init, randomised (everything from the
        head down to this part), images, patients, and, each with a 95 % interval over patients
        (`_low`, `_high`), rank_correlation (Spearman, of the maps as shown) and ssim (Wang et al.
        2004). 1: nothing changed, so the map owes nothing to what was forgotten. A map without any
        variation has no rank correlation and counts as NaN.
    """
    if not explained.models:
        raise InputError("This explanation does not hold its networks: use explain_finding.")
    pictures = torch.from_numpy(explained.images[:images])[:, None]
    patients = explained.patients[:images]
    rows = []
    for init, model in explained.models.items():
        original = explained.cams[init][:images]
        for level, changed in cascade(model, seed):
            maps = class_activation_maps(
                changed, None, pictures, explained.stage, method=explained.method
            )
            row: dict[str, Any] = {"finding": explained.finding, "stage": explained.stage}
            row |= {"method": explained.method, "init": init, "randomised": level}
            row |= {"images": len(maps), "patients": len(np.unique(patients))}
            rows.append(row | _alike(original, maps, patients))
    return pd.DataFrame(rows)


def _alike(original: np.ndarray, maps: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    pairs = list(zip(original, maps, strict=True))
    numbers: dict[str, float] = {}
    for name, values in (
        ("rank_correlation", [rank_correlation(a, b) for a, b in pairs]),
        ("ssim", [ssim(a, b) for a, b in pairs]),
    ):
        known = np.array(values)
        low, high = mean_interval(known, patients)
        mean = float(np.nanmean(known)) if np.isfinite(known).any() else float("nan")
        numbers |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return numbers


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, over all pixels, -1 to 1; NaN where a map is the same everywhere."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two maps (H, W) in [0, 1], -1 to 1.

    Wang et al. 2004, doi:10.1109/TIP.2003.819861: Gaussian window of 11 pixels with a standard
    deviation of 1.5, K1 = 0.01, K2 = 0.03; only where the window lies within the maps.
    """
    side = 5  # half the window
    if min(a.shape) <= 2 * side:
        raise InputError(f"Maps of {a.shape} are smaller than the window of 11 x 11 pixels.")

    def blur(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, radius=side)[side:-side, side:-side]

    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(np.square(a)) - mean_a**2, blur(np.square(b)) - mean_b**2
    shared = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    return float((value / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())
