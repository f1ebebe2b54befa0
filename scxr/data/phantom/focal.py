"""Findings with one place: granuloma, callus, hernia, band and mass.

Each function adds optical depth to the scene and returns the mask (H, W) of the finding.
Arguments: the scene, the conspicuity in [0, 1], the side (-1 the patient's right, +1 left), and the
case's generator, which places and shapes the finding.
"""

from __future__ import annotations

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


def calcified_granuloma(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Mask:
    """A small, round, very dense nodule; sometimes with a smaller satellite."""
    draws = Draws(rng, 16)
    mask = np.zeros(scene.air.shape, dtype=bool)
    x, y = place_in_lung(scene, draws, side, (0.12, 0.95), (0.15, 0.9))
    radius = 0.029 + 0.022 * conspicuity
    nodules = [Ellipse(x, y, radius, radius * draws.uniform(0.8, 1.0), draws.uniform(0, 3))]
    if draws.chance(0.55):
        angle, away = draws.uniform(0, 6.28), draws.uniform(2.2, 4.0) * radius
        small = radius * draws.uniform(0.5, 0.75)
        nodules.append(
            Ellipse(x + away * float(np.cos(angle)), y + away * float(np.sin(angle)), small, small)
        )
    for nodule in nodules:
        window = nodule.window(scene.frame)
        inside = nodule.inside(scene.frame, window)
        scene.add(window, (0.45 + 0.45 * conspicuity) * ramp(inside, -0.2, 0.5))
        mask[window] |= inside > -0.1
    return mask


def callus_rib_fracture(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Mask:
    """A dense fusiform bulge around one or two neighbouring posterolateral ribs, with a step."""
    draws = Draws(rng, 16)
    anatomy, mask = scene.anatomy, np.zeros(scene.air.shape, dtype=bool)
    first = 3 + int(draws.uniform(0, 5))
    ribs = [first, first + 1] if draws.chance(0.5) else [first]
    q = draws.uniform(0.5, 0.92)
    for rib in ribs:
        x, y, tilt = rib_point(scene, rib, min(q + draws.uniform(-0.04, 0.04), 0.95), side)
        half = anatomy.rib_width * (1.25 + 0.5 * conspicuity)
        callus = Ellipse(x, y, half * draws.uniform(1.9, 2.5), half, tilt)
        window = callus.window(scene.frame)
        inside = callus.inside(scene.frame, window)
        bulge = ramp(inside, -0.1, 0.7)
        line = np.exp(-(((scene.frame.x[window] - x) * (1 / 0.012)) ** 2))
        scene.add(window, (0.2 + 0.22 * conspicuity) * bulge * (1 - 0.35 * line))
        mask[window] |= inside > 0
    return mask


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


def hiatal_hernia(scene: Scene, conspicuity: float, side: float, rng: np.random.Generator) -> Mask:
    """A rounded retrocardiac pouch of stomach above the diaphragm, often with air over fluid."""
    draws = Draws(rng, 16)
    anatomy, frame = scene.anatomy, scene.frame
    radius = 0.125 + 0.1 * conspicuity
    x = 0.3 * scene.turn + draws.uniform(-0.09, 0.14)
    y = float(np.interp(x, KNOTS, body.domes(anatomy))) - radius * draws.uniform(0.55, 0.85)
    pouch = Ellipse(x, y, radius * draws.uniform(1.0, 1.35), radius, draws.uniform(-0.25, 0.25))
    window = pouch.window(frame)
    inside = pouch.inside(frame, window)
    thickness = np.sqrt(np.maximum(inside, 0))
    strength = 0.24 + 0.22 * conspicuity
    depth = strength * (0.65 * thickness + 0.35 * ramp(inside, -0.1, 0.25))
    # At the midline the pouch takes the place of tissue as dense; towards the lungs, of air.
    depth *= 0.35 + 0.65 * np.minimum(1, 1.5 * scene.air[window])
    if draws.chance(0.8):
        level = y + radius * draws.uniform(-0.2, 0.45)
        gas = ramp(level - frame.y[window], -0.012, 0.012) * ramp(inside, 0.0, 0.35)
        depth -= (0.28 + 0.34 * conspicuity) * gas * np.maximum(thickness, 0.5)
    scene.add(window, depth)
    mask = np.zeros(scene.air.shape, dtype=bool)
    mask[window] = inside > 0
    return mask


def fibrotic_band(scene: Scene, conspicuity: float, side: float, rng: np.random.Generator) -> Mask:
    """A linear opacity, straight or slightly bent, anywhere in a lung; not along the vessels."""
    draws = Draws(rng, 16)
    frame = scene.frame
    x, y = place_in_lung(scene, draws, side, (0.2, 0.9), (0.35, 0.7))
    length = 0.34 + 0.3 * draws.unit()
    angle = draws.uniform(-0.6, 0.6) if draws.chance(0.75) else draws.uniform(0.9, 1.6)
    half = 0.012 + 0.010 * conspicuity
    c, s = float(np.cos(angle)), float(np.sin(angle))
    start = (np.array([x - c * length / 2]), np.array([y - s * length / 2]))
    bend = np.array([draws.uniform(-0.25, 0.25)])
    px, py, t, _, step = sample_curves(frame, *start, np.array([angle]), np.array([length]), bend)
    density = (0.2 + 0.26 * conspicuity) * 2.5 * half
    mass = density * step * np.minimum(1, 6 * np.minimum(t, 1 - t) + 0.2)
    band = blur(splat(frame, px, py, mass), half / frame.pixel) * (scene.air > 0.05)
    scene.depth += band
    return band > 0.2 * float(band.max()) if band.any() else band > 0


def pulmonary_mass(scene: Scene, conspicuity: float, side: float, rng: np.random.Generator) -> Mask:
    """A rounded, lobulated or spiculated opacity, 3.3 to 7 cm across."""
    draws = Draws(rng, 16)
    radius = 0.09 + 0.1 * conspicuity**1.5
    x, y = place_in_lung(scene, draws, side, (0.15, 0.88), (0.2, 0.8))
    whole = Ellipse(x, y, radius, radius * draws.uniform(0.8, 1.0), draws.uniform(0, 3))
    window = scene.frame.window(x, y, 1.5 * radius)
    inside = whole.inside(scene.frame, window)
    inside = inside + _lobes(scene, x, y, window, draws)
    strength = 0.17 + 0.18 * conspicuity
    thickness = np.sqrt(np.clip(inside, 0, 1))
    body_ = strength * (0.65 * thickness + 0.35 * ramp(inside, -0.15, 0.25))
    scene.add(window, body_ * np.minimum(1, 3 * scene.air[window]))
    mask = np.zeros(scene.air.shape, dtype=bool)
    mask[window] = (inside > 0) & (scene.air[window] > 0.03)
    return mask


def _lobes(scene: Scene, x: float, y: float, window: tuple[slice, slice], draws: Draws) -> Picture:
    """An outline that undulates with the direction from the centre."""
    dx, dy = scene.frame.x[window] - x, scene.frame.y[window] - y
    direction = np.arctan2(dy, dx)
    count, phase = 2 + int(draws.uniform(0, 3)), draws.uniform(0, 6.28)
    wave = draws.uniform(0.04, 0.16) * (2 / count) * np.sin(direction * count + phase)
    spikes = draws.uniform(0.0, 0.16) * np.sin(direction * (9 + 2 * count) + 2 * phase)
    return (wave + spikes).astype(np.float32)
