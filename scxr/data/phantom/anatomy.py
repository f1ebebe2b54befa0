"""The anatomy of one patient: a few dozen numbers, shared by all the patient's radiographs.

Proportions follow what a posteroanterior radiograph shows: the heart and the gastric bubble on the
patient's left (the image's right), the right hemidiaphragm higher than the left, the left hilum
higher than the right, the aortic knob on the left. Patients differ in build, age, volume of the
lungs, heart, ribs and soft tissue, as people do. Units and axes as in `geometry`.
"""

from __future__ import annotations

import math
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
    inflation: float  # 0 usual .. 1 barrel chest with flat domes and few vessels
    width: float  # half width of the rib cage inside
    apex: float  # y of the lung apices
    shoulder: float  # how soon the cage widens below the apices
    flare: float  # > 0: wider at the base than in the middle
    asymmetry: float  # width of the left lung over the right
    dome: tuple[float, float]  # y of the tops of the hemidiaphragms, patient's right first
    sulcus: tuple[float, float]  # how far the costophrenic angles lie below the tops
    heart: float  # relative size of the heart
    heart_x: float
    heart_y: float
    heart_tilt: float
    heart_shape: float  # width of the left ventricle over its height, 1 = usual
    fat_pad: tuple[float, float]  # depth of the cardiophrenic fat, patient's right first
    mediastinum: float  # relative width of the upper mediastinum
    knob: float  # radius of the aortic knob
    unfolding: float  # how far the aorta bulges with age, 0..1
    calcified: float  # depth of calcium in the knob's wall, 0 = none
    column: float  # half width of the spine
    scoliosis: tuple[float, float, float]  # sway of the spine, its frequency and phase
    rib_width: float
    rib_slope: float
    rib_start: float  # height of the first rib at the spine, from the apex
    rib_spread: float  # exponent of the spacing: < 1 crowds the lower ribs
    rib_density: float
    cartilage: float  # density of the anterior ribs
    clavicle: float  # height of the clavicles
    clavicle_slope: float
    scapula: float  # distance of the shoulder blades from the cage
    breast: float
    breast_place: tuple[float, float]  # |x| of its centre, and height over the base
    breast_sides: tuple[float, float]  # relative size; 0 after a mastectomy
    bubble: tuple[float, float, float, float]  # gastric bubble: x, half width and height, fluid
    colon: tuple[float, float]  # gas in the splenic flexure: half width (0 = none), x
    vascular: float  # density of the vessels
    hila: float  # depth of the hila beyond that of the vessels
    elevation: tuple[float, float] = (0.0, 0.0)  # raised hemidiaphragm, patient's right first
    shrink: float = 0.0  # loss of volume at the bases

    @property
    def base(self) -> float:
        return max(self.dome)


def draw_anatomy(draws: Draws, female: bool, age: int) -> Anatomy:
    """The anatomy of a patient of the given sex and age (years)."""
    years = (age - 55) / 30
    habitus = min(max(draws.normal(0.45, 0.36), 0.0), 1.0)
    inflated = draws.unit() ** 2 if draws.chance(0.1 + 0.16 * min(max(years, 0.0), 1.0)) else 0.0
    tall = draws.normal(0.0, 1.0)  # long and narrow, or short and broad
    right = draws.normal(0.41, 0.075) + 0.03 * tall - 0.09 * habitus + 0.1 * inflated
    left = right + draws.normal(0.05, 0.04)
    sulcus = draws.uniform(0.17, 0.36) * (1 - 0.35 * inflated)
    large = 0.2 * draws.unit() if draws.chance(0.15) else 0.0
    return Anatomy(
        female=female,
        age=age,
        habitus=habitus,
        inflation=inflated,
        width=draws.normal(0.69, 0.045) - 0.02 * female - 0.014 * tall + 0.03 * inflated,
        apex=draws.normal(-0.77, 0.04) - 0.015 * tall,
        shoulder=draws.normal(1.28, 0.13),
        flare=draws.normal(0.03, 0.05),
        asymmetry=draws.normal(0.975, 0.02),
        dome=(right, left),
        sulcus=(sulcus, sulcus * draws.uniform(0.85, 1.1)),
        heart=draws.normal(0.9, 0.1) + 0.05 * years + 0.06 * habitus - 0.14 * inflated + large,
        heart_x=draws.normal(0.105, 0.026),
        heart_y=right - draws.uniform(0.09, 0.19),
        heart_tilt=draws.normal(0.55, 0.13) - 0.15 * habitus + 0.2 * inflated,
        heart_shape=draws.normal(1.0, 0.09),
        fat_pad=(habitus * draws.uniform(0.0, 0.14), habitus * draws.uniform(0.0, 0.2)),
        mediastinum=draws.normal(0.96, 0.11) + 0.14 * habitus,
        knob=draws.normal(0.076, 0.012) + 0.016 * years,
        unfolding=min(max(draws.normal(0.35 + 0.45 * years, 0.22), 0.0), 1.0),
        calcified=0.3 * draws.unit() if draws.chance(max(years, 0.0)) else 0.0,
        column=draws.normal(0.092, 0.008),
        scoliosis=(draws.normal(0.0, 0.03), draws.uniform(1.8, 3.4), draws.uniform(-0.8, 1.2)),
        rib_width=draws.normal(0.031, 0.0035) - 0.002 * female,
        rib_slope=draws.normal(1.0, 0.2) - 0.2 * inflated,
        rib_start=draws.normal(-0.03, 0.03),
        rib_spread=draws.normal(0.93, 0.07),
        rib_density=max(draws.normal(1.0, 0.3) - 0.15 * years, 0.3),
        cartilage=draws.uniform(0.3, 0.8),
        clavicle=draws.normal(-0.68, 0.05),
        clavicle_slope=draws.normal(0.3, 0.07),
        scapula=draws.normal(0.15, 0.05),
        breast=draws.uniform(0.3, 1.0) if female else 0.3 * habitus,
        breast_place=(draws.normal(0.44, 0.045), draws.normal(0.15, 0.07)),
        breast_sides=_sides(draws, female),
        bubble=(
            draws.normal(0.33, 0.05),
            draws.uniform(0.04, 0.18),
            draws.uniform(0.03, 0.1),
            draws.uniform(-0.6, 1.2),
        ),
        colon=(draws.uniform(0.07, 0.16) * draws.chance(0.35), draws.uniform(0.45, 0.6)),
        vascular=draws.normal(1.0, 0.26) - 0.35 * inflated,
        hila=max(draws.normal(0.07, 0.06), 0.0),
    )


def _sides(draws: Draws, female: bool) -> tuple[float, float]:
    """Relative size of the right and the left breast; one is missing in a few women."""
    lost, which = female and draws.chance(0.04), draws.sign()
    even = draws.normal(1.0, 0.08)
    return (0.0 if lost and which < 0 else even, 0.0 if lost and which > 0 else 2 - even)


def cardiothoracic_ratio(anatomy: Anatomy) -> float:
    """Width of the heart over the inner width of the chest; above 0.5 is called enlarged on PA."""
    c, s = math.cos(anatomy.heart_tilt), math.sin(anatomy.heart_tilt)
    shape = anatomy.heart_shape
    left = 0.05 + anatomy.heart * math.hypot(0.36 * shape * c, 0.25 / shape * s)
    right = 0.115 + 0.18 * anatomy.heart  # see `thorax`, which draws it so
    return (left + right) / (anatomy.width * (1 + anatomy.asymmetry))


def lateral_border(anatomy: Anatomy) -> NDArray:
    """|x| of the outer lung border at KNOTS, (2, knots): the patient's right, then left."""
    t = np.clip((KNOTS - anatomy.apex) / (anatomy.base + 0.12 - anatomy.apex), 0, 1)
    rise = np.sqrt(1 - (1 - np.minimum(t * anatomy.shoulder, 1)) ** 2.6)
    right = 0.285 + (anatomy.width - 0.285) * rise + anatomy.flare * (t - 0.7)
    shrunk = 1 - 0.09 * anatomy.shrink * t
    return np.stack([right, right * anatomy.asymmetry]) * shrunk


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
    chest = anatomy.width + 0.15 + 0.24 * stout + 0.03 * anatomy.female * anatomy.breast
    shoulder = anatomy.clavicle
    y = shoulder + np.array([-1.0, -0.42, -0.27, -0.15, 0.0, 0.22, 0.42, 0.62, 0.95, 1.3, 2.3])
    neck = 0.24 + 0.07 * stout
    reach = [neck, neck, neck + 0.07, 0.68, 1.02, 1.2, 1.14 + 0.1 * stout, chest + 0.09, chest]
    reach += [chest - 0.03 + 0.07 * stout, chest + 0.08 * stout]
    outline = np.interp(KNOTS, y, reach)
    kernel = np.hanning(61)
    smooth = np.convolve(np.pad(outline, 30, mode="edge"), kernel / kernel.sum(), mode="valid")
    return smooth


def rib_levels(anatomy: Anatomy) -> NDArray:
    """Height of each rib at the spine, (RIBS,): closer together at the apex and at the base."""
    k = np.arange(RIBS)
    span = anatomy.base + 0.16 - 0.10 * anatomy.shrink - anatomy.apex
    return anatomy.apex + anatomy.rib_start + span * (k / (RIBS - 1)) ** anatomy.rib_spread


def spine_centre(anatomy: Anatomy) -> NDArray:
    """x of the spine at KNOTS."""
    sway, frequency, phase = anatomy.scoliosis
    return sway * np.sin(frequency * KNOTS + phase)
