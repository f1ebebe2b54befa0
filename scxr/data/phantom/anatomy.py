"""The anatomy of one patient: a few dozen numbers, shared by all the patient's radiographs.

Proportions follow what a posteroanterior radiograph shows: the heart and the gastric bubble on the
patient's left (the image's right), the right hemidiaphragm higher than the left, the left hilum
higher than the right, the aortic knob on the left. Units and axes as in `geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scxr.data.phantom.geometry import KNOTS
from scxr.data.phantom.randomness import Draws

RIBS = 11


@dataclass
class Anatomy:
    """One patient. Findings that change the shape (`elevation`, `shrink`) are set on a copy."""

    female: bool
    age: int
    habitus: float  # 0 slender .. 1 obese
    width: float  # half width of the rib cage inside
    apex: float  # y of the lung apices
    dome: tuple[float, float]  # y of the tops of the hemidiaphragms, patient's right first
    sulcus: tuple[float, float]  # how far the costophrenic angles lie below the tops
    heart: float  # relative size of the heart
    heart_x: float
    heart_y: float
    heart_tilt: float
    knob: float  # radius of the aortic knob
    unfolding: float  # how far the aorta bulges with age, 0..1
    column: float  # half width of the spine
    scoliosis: float
    rib_width: float
    rib_slope: float
    rib_density: float
    clavicle: float  # height of the clavicles
    breast: float
    bubble: tuple[float, float, float]  # gastric bubble: half width, half height, fluid level
    vascular: float  # density of the vessels
    elevation: tuple[float, float] = (0.0, 0.0)  # raised hemidiaphragm, patient's right first
    shrink: float = 0.0  # loss of volume at the bases

    @property
    def base(self) -> float:
        return max(self.dome)


def draw_anatomy(draws: Draws, female: bool, age: int) -> Anatomy:
    """The anatomy of a patient of the given sex and age (years)."""
    years = (age - 55) / 30
    habitus = min(max(draws.normal(0.45, 0.28), 0.0), 1.0)
    width = draws.normal(0.69, 0.04) - 0.02 * female
    right = draws.normal(0.41, 0.075) - 0.06 * habitus
    left = right + draws.normal(0.05, 0.034)
    sulcus = draws.uniform(0.2, 0.34)
    return Anatomy(
        female=female,
        age=age,
        habitus=habitus,
        width=width,
        apex=draws.normal(-0.77, 0.035),
        dome=(right, left),
        sulcus=(sulcus, sulcus * draws.uniform(0.9, 1.05)),
        heart=draws.normal(0.92, 0.08) + 0.05 * years + 0.05 * habitus,
        heart_x=draws.normal(0.105, 0.02),
        heart_y=right - draws.uniform(0.11, 0.18),
        heart_tilt=draws.normal(0.55, 0.09) - 0.15 * habitus,
        knob=draws.normal(0.076, 0.008) + 0.014 * years,
        unfolding=min(max(draws.normal(0.35 + 0.4 * years, 0.15), 0.0), 1.0),
        column=draws.normal(0.092, 0.005),
        scoliosis=draws.normal(0.0, 0.022),
        rib_width=draws.normal(0.031, 0.0025) - 0.002 * female,
        rib_slope=draws.normal(1.0, 0.14),
        rib_density=draws.normal(1.0, 0.25) - 0.12 * years,
        clavicle=draws.normal(-0.68, 0.04),
        breast=draws.uniform(0.45, 1.0) if female else 0.25 * habitus,
        bubble=(draws.uniform(0.06, 0.17), draws.uniform(0.04, 0.095), draws.uniform(-0.3, 1.2)),
        vascular=draws.normal(1.0, 0.16),
    )


def lateral_border(anatomy: Anatomy) -> NDArray:
    """|x| of the outer lung border at KNOTS, (2, knots): the patient's right, then left."""
    t = np.clip((KNOTS - anatomy.apex) / (anatomy.base + 0.12 - anatomy.apex), 0, 1)
    rise = np.sqrt(1 - (1 - np.minimum(t * 1.28, 1)) ** 2.6)
    right = 0.285 + (anatomy.width - 0.285) * rise + 0.03 * (t - 0.7)
    shrunk = 1 - 0.09 * anatomy.shrink * t
    return np.stack([right, right * 0.975]) * shrunk


def medial_border(anatomy: Anatomy) -> NDArray:
    """|x| of the inner lung border at KNOTS, (2, knots): the patient's right, then left."""
    t = np.clip((KNOTS - anatomy.apex) / 0.16, 0, 1)
    inner = 0.285 - 0.185 * np.sqrt(1 - (1 - t) ** 2)
    return np.stack([inner, inner + 0.012])


def domes(anatomy: Anatomy, raised: bool = True) -> NDArray:
    """y of the hemidiaphragms as a function of x at KNOTS; `raised=False` ignores an elevation."""
    result = np.empty_like(KNOTS)
    for side, half in enumerate((KNOTS <= 0, KNOTS > 0)):
        q = np.abs(KNOTS[half]) / anatomy.width
        outer = np.clip((q - 0.5) / 0.5, 0, 1.6)
        inner = np.clip((0.5 - q) / 0.5, 0, 1)
        y = anatomy.dome[side] + anatomy.sulcus[side] * outer**2.1 + 0.1 * inner**2
        if raised:
            lift = anatomy.elevation[side] + 0.11 * anatomy.shrink
            y = y - lift * (1 - 0.85 * np.minimum(outer, 1) ** 3) * (1 - 0.35 * inner**2)
        result[half] = y
    return result


def body_outline(anatomy: Anatomy) -> NDArray:
    """Half width of the body at KNOTS: neck, shoulders with the arms, chest wall, flanks."""
    stout = anatomy.habitus
    chest = anatomy.width + 0.17 + 0.2 * stout + 0.03 * anatomy.female * anatomy.breast
    shoulder = anatomy.clavicle
    y = shoulder + np.array([-1.0, -0.42, -0.27, -0.15, 0.0, 0.22, 0.42, 0.62, 0.95, 1.3, 2.3])
    reach = [0.27, 0.27, 0.34, 0.68, 1.02, 1.2, 1.14 + 0.1 * stout, chest + 0.09, chest]
    reach += [chest - 0.03 + 0.05 * stout, chest + 0.06 * stout]
    outline = np.interp(KNOTS, y, reach)
    kernel = np.hanning(61)
    smooth = np.convolve(np.pad(outline, 30, mode="edge"), kernel / kernel.sum(), mode="valid")
    return smooth


def rib_levels(anatomy: Anatomy) -> NDArray:
    """Height of each rib at the spine, (RIBS,): closer together at the apex and at the base."""
    k = np.arange(RIBS)
    span = anatomy.base + 0.16 - 0.10 * anatomy.shrink - anatomy.apex
    return anatomy.apex - 0.03 + span * (k / (RIBS - 1)) ** 0.93


def spine_centre(anatomy: Anatomy) -> NDArray:
    """x of the spine at KNOTS."""
    return anatomy.scoliosis * np.sin(2.4 * KNOTS + 0.4)
