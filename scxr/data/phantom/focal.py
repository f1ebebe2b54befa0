"""Findings with one place: granuloma, callus, hernia, band and mass.

Each function adds optical depth to the scene and returns a `Lesion`. Arguments: the scene, the
conspicuity in [0, 1], the side (-1 the patient's right, +1 left), and the case's generator, which
places and shapes the finding. Contrast, size and number grow with the conspicuity; the two numbers
of each `a + b * conspicuity` were chosen with `scripts/phantom_difficulty.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scxr.data.phantom import anatomy as body
from scxr.data.phantom.geometry import (
    KNOTS,
    Ellipse,
    Mask,
    Picture,
    blur,
    ramp,
    sample_curves,
    splat,
)
from scxr.data.phantom.randomness import Draws
from scxr.data.phantom.thorax import Scene, posterior_course


@dataclass(frozen=True)
class Lesion:
    """What a finding changed: its mask (H, W), and the centres (x, y) of its parts.

    The centres do not depend on the size of the picture; reports are written from them.
    """

    mask: Mask
    places: tuple[tuple[float, float], ...]


def place_in_lung(
    scene: Scene,
    draws: Draws,
    side: float,
    height: tuple[float, float],
    across: tuple[float, float],
) -> tuple[float, float]:
    """A point of a lung: fractions of apex-to-diaphragm height and of mediastinum-to-ribs width."""
    anatomy = scene.anatomy
    top, row = anatomy.apex, 0 if side < 0 else 1
    dome = anatomy.dome[row] - anatomy.elevation[row] - 0.1 * anatomy.shrink
    y = top + draws.uniform(*height) * (dome - top)
    outer = float(np.interp(y, KNOTS, body.lateral_border(anatomy)[row]))
    inner = 0.15 if side < 0 or y < 0 else 0.15 + 0.2 * min(max(y / 0.3, 0.0), 1.0)
    return side * (inner + draws.uniform(*across) * (outer - inner)), y


def _nothing(scene: Scene) -> Mask:
    return np.zeros(scene.air.shape, dtype=bool)


def calcified_granuloma(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """Small, round, very dense nodules: one, or a few that stayed from the same infection."""
    draws = Draws(rng, 32)
    mask, places = _nothing(scene), []
    x, y = place_in_lung(scene, draws, side, (0.15, 0.9), (0.15, 0.85))
    more = int(draws.uniform(0.2, 1.1 + 3.6 * conspicuity))
    for number in range(1 + more):
        if number:  # a satellite, in the same lung
            x, y = place_in_lung(scene, draws, side, (0.15, 0.9), (0.15, 0.85))
        radius = (0.03 + 0.024 * conspicuity) * (1.0 if not number else draws.uniform(0.65, 1.0))
        nodule = Ellipse(x, y, radius, radius * draws.uniform(0.8, 1.0), draws.uniform(0, 3))
        window = nodule.window(scene.frame, spare=1.2)
        inside = nodule.inside(scene.frame, window)
        scene.add(window, (0.38 + 0.55 * conspicuity) * ramp(inside, -0.2, 0.5))
        mask[window] |= inside > -scene.frame.pixel / radius  # a pixel counts when it is touched
        places.append((x, y))
    return Lesion(mask, tuple(places))


def callus_rib_fracture(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """Dense fusiform bulges around one to four neighbouring posterolateral ribs, with a step."""
    draws = Draws(rng, 32)
    anatomy, mask, places = scene.anatomy, _nothing(scene), []
    count = 1 + int(draws.uniform(0.2, 0.8 + 3.1 * conspicuity))
    first = 2 + int(draws.uniform(0, 8 - count))
    q = draws.uniform(0.5, 0.9)
    for rib in range(first, first + count):
        x, y, tilt = rib_point(scene, rib, min(q + draws.uniform(-0.05, 0.05), 0.95), side)
        half = anatomy.rib_width * (1.2 + 0.6 * conspicuity)
        callus = Ellipse(x, y, half * draws.uniform(1.9, 2.5), half, tilt)
        window = callus.window(scene.frame)
        inside = callus.inside(scene.frame, window)
        bulge = ramp(inside, -0.1, 0.7)
        line = np.exp(-(((scene.frame.x[window] - x) * (1 / 0.012)) ** 2))
        scene.add(window, (0.3 + 0.45 * conspicuity) * bulge * (1 - 0.35 * line))
        mask[window] |= inside > 0
        places.append((x, y))
    return Lesion(mask, tuple(places))


def rib_point(scene: Scene, rib: int, q: float, side: float) -> tuple[float, float, float]:
    """(x, y, tilt) of a posterior rib at the fraction q of the way to the lateral border."""
    anatomy, row = scene.anatomy, 0 if side < 0 else 1
    level = float(body.rib_levels(anatomy)[rib])
    lateral, y = body.lateral_border(anatomy)[row], level
    course = posterior_course(q)
    for _ in range(3):  # the slope depends on the height it leads to
        slope = anatomy.rib_slope * (0.75 + 0.5 * min(max(y + 0.5, 0.0), 1.0))
        y = level + course * slope
    outer = float(np.interp(y, KNOTS, lateral))
    ahead = posterior_course(q + 0.02) - course
    return side * q * outer, y, side * float(np.arctan2(ahead * slope, 0.02 * outer))


def hiatal_hernia(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """A rounded retrocardiac pouch of stomach above the diaphragm, often with air over fluid."""
    draws = Draws(rng, 16)
    anatomy, frame = scene.anatomy, scene.frame
    radius = 0.11 + 0.13 * conspicuity
    x = 0.3 * scene.turn + draws.uniform(-0.09, 0.14)
    y = float(np.interp(x, KNOTS, body.domes(anatomy))) - radius * draws.uniform(0.55, 0.85)
    pouch = Ellipse(x, y, radius * draws.uniform(1.0, 1.35), radius, draws.uniform(-0.25, 0.25))
    window = pouch.window(frame)
    inside = pouch.inside(frame, window)
    thickness = np.sqrt(np.maximum(inside, 0))
    strength = 0.24 + 0.3 * conspicuity
    depth = strength * (0.65 * thickness + 0.35 * ramp(inside, -0.1, 0.25))
    # At the midline the pouch takes the place of tissue as dense; towards the lungs, of air.
    depth *= 0.35 + 0.65 * np.minimum(1, 1.5 * scene.air[window])
    if draws.chance(0.8):
        level = y + radius * draws.uniform(-0.2, 0.45)
        gas = ramp(level - frame.y[window], -0.012, 0.012) * ramp(inside, 0.0, 0.35)
        depth -= (0.2 + 0.42 * conspicuity) * gas * np.maximum(thickness, 0.5)
    scene.add(window, depth)
    mask = _nothing(scene)
    mask[window] = inside > 0
    return Lesion(mask, ((x, y),))


def fibrotic_band(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """Linear opacities, straight or slightly bent, anywhere in a lung; not along the vessels."""
    draws = Draws(rng, 32)
    frame = scene.frame
    count = 1 + int(draws.uniform(0.2, 0.9 + 2.4 * conspicuity))
    bands, places = np.zeros_like(scene.air), []
    half = 0.013 + 0.013 * conspicuity
    for _ in range(count):
        x, y = place_in_lung(scene, draws, side, (0.2, 0.92), (0.3, 0.7))
        length = 0.38 + 0.34 * draws.unit()
        angle = draws.uniform(-0.6, 0.6) if draws.chance(0.75) else draws.uniform(0.9, 1.6)
        c, s = float(np.cos(angle)), float(np.sin(angle))
        start = (np.array([x - c * length / 2]), np.array([y - s * length / 2]))
        bend = np.array([draws.uniform(-0.25, 0.25)])
        course = (np.array([angle]), np.array([length]), bend)
        px, py, t, _, step = sample_curves(frame, *start, *course)
        density = (0.19 + 0.26 * conspicuity) * 2.5 * half
        fade = np.minimum(1, 6 * np.minimum(t, 1 - t) + 0.2)
        bands += splat(frame, px, py, density * step * fade)
        places.append((x, y))
    band = blur(bands, half / frame.pixel) * (scene.air > 0.05)
    scene.depth += band
    return Lesion(band > max(0.2 * float(band.max()), 1e-6), tuple(places))


def pulmonary_mass(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """Rounded, lobulated or spiculated opacities, 3.3 to 8 cm across: one, or up to three."""
    draws = Draws(rng, 32)
    mask, places = _nothing(scene), []
    count = 1 + int(draws.uniform(0.2, 0.8 + 1.8 * conspicuity))
    for number in range(count):
        radius = (0.09 + 0.12 * conspicuity**1.3) * (1.0 if not number else draws.uniform(0.6, 0.9))
        x, y = place_in_lung(scene, draws, side, (0.15, 0.88), (0.2, 0.8))
        whole = Ellipse(x, y, radius, radius * draws.uniform(0.8, 1.0), draws.uniform(0, 3))
        window = scene.frame.window(x, y, 1.5 * radius)
        inside = whole.inside(scene.frame, window)
        inside += _lobes(scene, x, y, window, draws)
        strength = 0.18 + 0.28 * conspicuity
        thickness = np.sqrt(np.clip(inside, 0, 1))
        body_ = strength * (0.65 * thickness + 0.35 * ramp(inside, -0.15, 0.25))
        scene.add(window, body_ * np.minimum(1, 3 * scene.air[window]))
        mask[window] |= (inside > 0) & (scene.air[window] > 0.03)
        places.append((x, y))
        side = side if draws.chance(0.6) else -side
    return Lesion(mask, tuple(places))


def _lobes(scene: Scene, x: float, y: float, window: tuple[slice, slice], draws: Draws) -> Picture:
    """An outline that undulates with the direction from the centre."""
    dx, dy = scene.frame.x[window] - x, scene.frame.y[window] - y
    direction = np.arctan2(dy, dx)
    count, phase = 2 + int(draws.uniform(0, 3)), draws.uniform(0, 6.28)
    wave = draws.uniform(0.04, 0.16) * (2 / count) * np.sin(direction * count + phase)
    spikes = draws.uniform(0.0, 0.09) * np.sin(direction * (9 + 2 * count) + 2 * phase)
    return (wave + spikes).astype(np.float32)
