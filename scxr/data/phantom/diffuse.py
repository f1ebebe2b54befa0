"""Findings that spread: interstitial and reticular patterns, fibrosis, bronchiectasis, elevation.

The functions have the arguments of `focal` (scene, conspicuity, side, generator), add optical depth
and return a `Lesion`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scxr.data.phantom import anatomy as body
from scxr.data.phantom.focal import Lesion
from scxr.data.phantom.geometry import Picture, blur, ramp, sample_curves, splat
from scxr.data.phantom.randomness import Draws
from scxr.data.phantom.thorax import Scene


def _visible_lung(scene: Scene) -> Picture:
    """Lung tissue in which a pattern shows, less where the heart covers it."""
    return ramp(scene.air, 0.05, 0.35) * (1 - 0.7 * scene.heart)


def _lines(
    scene: Scene, x: NDArray, y: NDArray, length: NDArray, rng: np.random.Generator, half: float
) -> Picture:
    """Short bent lines in all directions with unit mass a length, blurred to a half width."""
    n = len(x)
    angle, bend = rng.random(n) * 2 * np.pi, (rng.random(n) - 0.5) * 1.2
    px, py, _, number, step = sample_curves(scene.frame, x, y, angle, length, bend)
    weight = 0.5 + rng.random(n)
    picture = splat(scene.frame, px, py, weight[number] * step)
    return blur(picture, half / scene.frame.pixel)


def _rings(
    scene: Scene, x: NDArray, y: NDArray, radius: NDArray, rng: np.random.Generator, half: float
) -> Picture:
    """Irregular closed outlines with unit mass a length: the meshes of a coarse net."""
    points = max(8, int(2 * np.pi * float(radius.max()) / (0.7 * scene.frame.pixel)))
    angle = np.arange(points) * (2 * np.pi / points)
    phase = rng.random((3, len(x), 1)) * 2 * np.pi
    squash = 0.75 + 0.25 * rng.random((len(x), 1))
    r = radius[:, None] * (
        1 + 0.16 * np.cos(2 * angle + phase[0]) + 0.1 * np.cos(3 * angle + phase[1])
    )
    cx, cy = r * np.cos(angle), r * np.sin(angle) * squash
    c, s = np.cos(phase[2]), np.sin(phase[2])
    px, py = x[:, None] + cx * c - cy * s, y[:, None] + cx * s + cy * c
    step = np.broadcast_to(radius[:, None] * (2 * np.pi / points), px.shape)
    picture = splat(scene.frame, px.ravel(), py.ravel(), step.ravel())
    return blur(picture, half / scene.frame.pixel)


def _scatter(
    scene: Scene, rng: np.random.Generator, count: int, low: float, high: float
) -> tuple[NDArray, NDArray]:
    """Points over both lungs between two heights, given as fractions of apex to base."""
    anatomy = scene.anatomy
    u = rng.random((2, count))
    x = (2 * u[0] - 1) * anatomy.width
    return x, anatomy.apex + (low + (high - low) * u[1]) * (anatomy.base + 0.2 - anatomy.apex)


def _both(scene: Scene, height: float) -> tuple[tuple[float, float], ...]:
    """The middle of a pattern in both lungs, `height` of the way from apex to base."""
    anatomy = scene.anatomy
    y = anatomy.apex + height * (anatomy.base - anatomy.apex)
    return (-0.5 * anatomy.width, y), (0.5 * anatomy.width, y)


def interstitial_pattern(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """Fine reticulation through both lungs, with a slight haze."""
    x, y = _scatter(scene, rng, 1100, 0.0, 1.0)
    lines = _lines(scene, x, y, 0.03 + 0.035 * rng.random(len(x)), rng, 0.0035)
    lung = _visible_lung(scene)
    strength = 0.38 + 1.1 * conspicuity
    scene.depth += strength * lung * (0.0021 * lines + 0.03)
    return Lesion(lung > 0.5, _both(scene, 0.5))


def reticular_interstitial_pattern(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """A coarse net of thick septa, mainly basal and peripheral."""
    x, y = _scatter(scene, rng, 230, 0.25, 1.0)
    net = _rings(scene, x, y, 0.03 + 0.03 * rng.random(len(x)), rng, 0.0055)
    frame = scene.frame
    q = np.abs(frame.x) / scene.lateral
    basal = ramp(frame.y, scene.anatomy.apex + 0.35, scene.anatomy.base - 0.15)
    where = _visible_lung(scene) * np.maximum(0.35 + 0.65 * ramp(q, 0.45, 0.8), basal) * basal
    scene.depth += (0.26 + 0.9 * conspicuity) * where * (0.0026 * net + 0.012)
    return Lesion(where > 0.35, _both(scene, 0.8))


def pulmonary_fibrosis(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """Basal reticulation and honeycombing in lungs that have lost volume (see `prepare`)."""
    x, y = _scatter(scene, rng, 300, 0.55, 1.0)
    comb = _rings(scene, x, y, 0.014 + 0.014 * rng.random(len(x)), rng, 0.004)
    x, y = _scatter(scene, rng, 420, 0.5, 1.0)
    lines = _lines(scene, x, y, 0.05 + 0.06 * rng.random(len(x)), rng, 0.005)
    base = scene.dome
    basal = ramp(scene.frame.y - base, -0.62, -0.12)
    where = _visible_lung(scene) * basal
    scene.depth += (0.36 + 1.0 * conspicuity) * where * (0.0014 * comb + 0.0014 * lines + 0.05)
    return Lesion(where > 0.3, _both(scene, 0.85))


def bronchiectasis(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """Ring shadows and tram lines of dilated bronchi in one or both lower lobes."""
    draws = Draws(rng, 16)
    sides = [side, -side] if draws.chance(0.45) else [side]
    strength = 0.42 + 0.9 * conspicuity
    picture = np.zeros_like(scene.air)
    mask = np.zeros(scene.air.shape, dtype=bool)
    places = []
    for one in sides:
        x0 = one * draws.uniform(0.26, 0.36) + 0.06 * (one > 0)
        y0 = scene.anatomy.dome[0 if one < 0 else 1] - draws.uniform(0.2, 0.3)
        spread = 0.11 + 0.05 * conspicuity
        n = 10 + int(14 * conspicuity)
        x, y = x0 + spread * rng.standard_normal(n), y0 + 0.85 * spread * rng.standard_normal(n)
        radius = 0.019 + 0.022 * rng.random(n)
        picture += 0.0054 * _rings(scene, x, y, radius, rng, 0.0055)
        picture -= blur(
            splat(scene.frame, x, y, 0.06 * np.pi * radius**2), 0.018 / scene.frame.pixel
        )
        picture += _trams(scene, x0, y0, one, rng)
        d = ((scene.frame.x - x0) ** 2 + (scene.frame.y - y0) ** 2) * (1 / (2.1 * spread) ** 2)
        mask |= d < 1
        places.append((x0, y0))
    lung = _visible_lung(scene)
    scene.depth += strength * lung * picture
    return Lesion(mask & (lung > 0.3), tuple(places))


def _trams(scene: Scene, x: float, y: float, side: float, rng: np.random.Generator) -> Picture:
    """Pairs of parallel bronchial walls that run from the hilum down into the lower lobe."""
    n = 5
    heading = np.pi / 2 - side * (0.3 + 0.7 * rng.random(n))
    length, gap = 0.14 + 0.1 * rng.random(n), 0.014 + 0.008 * rng.random(n)
    sx = x + 0.09 * rng.standard_normal(n) - np.cos(heading) * length / 2
    sy = y - 0.05 + 0.08 * rng.standard_normal(n) - np.sin(heading) * length / 2
    nx, ny = -np.sin(heading) * gap, np.cos(heading) * gap
    both = np.concatenate([heading, heading]), np.concatenate([length, length])
    px, py, _, _, step = sample_curves(
        scene.frame,
        np.concatenate([sx + nx, sx - nx]),
        np.concatenate([sy + ny, sy - ny]),
        *both,
        np.zeros(2 * n),
    )
    return blur(splat(scene.frame, px, py, 0.0048 * step), 0.0055 / scene.frame.pixel)


def hemidiaphragm_elevation(
    scene: Scene, conspicuity: float, side: float, rng: np.random.Generator
) -> Lesion:
    """The raised dome is part of the anatomy (see `prepare`); the mask is what it fills."""
    usual = scene.frame.by_x(body.domes(scene.anatomy, raised=False))
    frame = scene.frame
    filled = (frame.y >= scene.dome) & (frame.y < usual)
    on_side = frame.left if side > 0 else ~frame.left
    mask = filled & on_side & (np.abs(frame.x) < scene.lateral) & (usual - scene.dome > 0.02)
    return Lesion(mask, ((side * 0.35, scene.anatomy.dome[0 if side < 0 else 1]),))
