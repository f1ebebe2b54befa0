"""Maps that have not looked at the picture: what a network's map has to beat."""

from __future__ import annotations

import numpy as np

from scxr.data.episodes import is_validation
from scxr.data.store import RadiographStore, has_finding

CENTRE_PRIOR = "centre prior"
ATLAS_PRIOR = "atlas prior"


def centre_prior(height: int, width: int) -> np.ndarray:
    """(H, W) in [0, 1]: a Gaussian in the middle, its standard deviation a quarter of each side."""
    y = (np.arange(height) + 0.5 - height / 2) / (height / 4)
    x = (np.arange(width) + 0.5 - width / 2) / (width / 4)
    bump = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)
    return (bump / bump.max()).astype(np.float32)


def atlas_prior(store: RadiographStore, finding: str, structure: str) -> np.ndarray | None:
    """(H, W) in [0, 1]: where the region usually is, the mean of the training patients' masks.

    It knows the outlines of all training images of the finding, more than any probe was told, and
    nothing of the picture at hand.

    Returns:
        None where no training image of the finding has that region marked.
    """
    table = store.table
    training = ~is_validation(table["patient"])
    rows = np.flatnonzero(training & has_finding(table["findings"], finding))
    if not len(rows):
        return None
    masks = store.masks(rows, structure)
    marked = masks[masks.any(axis=(1, 2))]
    if not len(marked):
        return None
    mean = marked.mean(axis=0, dtype=np.float64)
    return (mean / mean.max()).astype(np.float32)
