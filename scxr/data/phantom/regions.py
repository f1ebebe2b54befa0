"""The anatomical regions of a projected scene, as ground-truth masks."""

from __future__ import annotations

import numpy as np

from scxr.data.phantom.geometry import Mask
from scxr.data.phantom.thorax import Scene

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
