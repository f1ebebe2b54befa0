"""The anatomical regions of a projected scene, as ground-truth masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from scxr.data.phantom.geometry import Mask
from scxr.data.phantom.thorax import Scene

LEAST = 30  # pixels: a smaller island of an organ or a pattern is no region to ask about
_BONES = ("ribs", "clavicles", "spine")
_LESIONS = ("calcified granuloma", "callus rib fracture", "fibrotic band", "pulmonary mass")

REGIONS = (
    "left_lung",
    "right_lung",
    "heart",
    "mediastinum",
    "retrocardiac",
    "diaphragm",
    "spine",
    "clavicles",
    "ribs",
)


def regions(scene: Scene) -> dict[str, Mask]:
    """The masks of REGIONS. Lungs exclude what the heart and the mediastinum cover."""
    frame = scene.frame
    above = frame.y < scene.dome
    heart = (scene.heart > 0.12) & above
    great = (scene.mediastinum > 0.12) & above & (frame.y > scene.anatomy.apex)
    lung = (scene.air > 0.15) & ~heart & ~great
    cage = (np.abs(frame.x) < scene.lateral * 1.03) & (frame.y > scene.anatomy.apex - 0.05)
    return {
        "left_lung": lung & frame.left,
        "right_lung": lung & ~frame.left,
        "heart": heart,
        "mediastinum": great | heart,
        "retrocardiac": heart & (scene.air > 0.15) & frame.left,
        "diaphragm": (np.abs(frame.y - scene.dome) < 0.05) & (np.abs(frame.x) < scene.lateral),
        "spine": np.abs(scene.spine) < 1,
        "clavicles": scene.clavicles > 0.3,
        "ribs": ((scene.posterior_ribs > 0.3) | (scene.anterior_ribs > 0.3)) & cage,
    }


def without_islands(name: str, mask: Mask) -> Mask:
    """Takes islands of fewer than LEAST pixels out of the mask; its largest part always stays.

    What consists of separate parts by nature (ribs, several granulomas) is left as it is.
    """
    if name in _BONES or name in _LESIONS:
        return mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    labels, count = ndimage.label(mask[box])
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        keep = sizes >= LEAST
        keep[sizes.argmax()] = True
        mask[box] = keep[labels]
    return mask
