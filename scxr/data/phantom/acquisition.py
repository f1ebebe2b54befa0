"""Two X-ray departments: how each exposes, detects, crops, marks and displays its radiographs.

The detector sees exp(-depth) plus scatter, with quantum noise that follows the signal; the picture
shows its logarithm through a display curve, normalised by its own minimum and maximum, as the
series does before quantising. The constants of the display curves were fitted so that the two
hospitals come near the pixel statistics measured on NIH ChestX-ray14 and PadChest (mean 0.518 and
0.508, standard deviation 0.254 and 0.269; see `PIXEL_STATISTICS`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scxr.data.phantom.geometry import Frame, Picture, blur, smooth_noise, splat_pixels
from scxr.data.phantom.randomness import Draws

# Mean and standard deviation of all pixels in [0, 1], as the series measured them on PA/AP images.
PIXEL_STATISTICS = {"A": (0.518, 0.254), "B": (0.508, 0.269)}


@dataclass(frozen=True)
class Hospital:
    """One department. Lengths are in units of half a detector, angles in degrees."""

    name: str
    likeness: str
    portable: float  # share of AP images
    hardness: float  # optical depth per unit of `Scene.depth`
    scatter: float
    photons: float  # at full exposure, per 1/128 of the field, squared
    unsharpness: float
    window: tuple[float, float]  # log signal shown as black and white
    steepness: float  # 0: straight display curve, 1: strongly S-shaped
    toe: float  # darkens the middle greys: 0 none, 1 a square law
    collimated: float  # share of images with visible borders
    marker: float  # share of images with a side marker
    marker_size: float
    marker_letter: str  # the usual one; the other stands on the other side
    marker_habit: float  # share of markers with the usual letter
    marker_place: tuple[float, float]  # |x| and y where it is usually put, in detector units
    rotation: float
    several_findings: bool


HOSPITALS: dict[str, Hospital] = {
    "A": Hospital(
        name="A",
        likeness="NIH ChestX-ray14",
        portable=0.4,
        hardness=2.3,
        scatter=0.035,
        photons=30000.0,
        unsharpness=0.0085,
        window=(0.05, 3.3),
        steepness=0.0,
        toe=0.74,
        collimated=0.16,
        marker=0.88,
        marker_size=0.07,
        marker_letter="L",
        marker_habit=0.88,
        marker_place=(0.84, -0.88),
        rotation=2.0,
        several_findings=True,
    ),
    "B": Hospital(
        name="B",
        likeness="PadChest",
        portable=0.15,
        hardness=2.7,
        scatter=0.025,
        photons=60000.0,
        unsharpness=0.0055,
        window=(0.3, 3.75),
        steepness=0.2,
        toe=0.5,
        collimated=0.1,
        marker=0.94,
        marker_size=0.1,
        marker_letter="R",
        marker_habit=0.92,
        marker_place=(0.8, -0.76),
        rotation=1.2,
        several_findings=False,
    ),
}


@dataclass(frozen=True)
class Exposure:
    """What differs from image to image, drawn before anything is rendered."""

    view: str
    rotation: float  # radians
    zoom: float
    shift: tuple[float, float]
    turn: float
    breath: float  # 0 full inspiration .. 1 poor
    dose: float
    contrast: float
    offset: float
    unsharpness: float
    borders: tuple[float, ...]  # left, top, right, bottom; 0 where nothing is collimated
    marker: tuple[float, float] | None
    letter: str
    devices: bool


def draw_exposure(draws: Draws, hospital: Hospital) -> Exposure:
    portable = draws.chance(hospital.portable)
    collimated = draws.chance(hospital.collimated)
    edges = tuple(0.02 + 0.11 * draws.unit() ** 2 for _ in range(4))
    shown = [edge if draws.chance(0.6) and collimated else 0.0 for edge in edges]
    marked = draws.chance(hospital.marker)
    x, y = hospital.marker_place
    place = (draws.normal(x, 0.025), draws.normal(y, 0.025))
    usual = draws.chance(hospital.marker_habit)
    other = "R" if hospital.marker_letter == "L" else "L"
    loose = 1.6 if portable else 1.0
    return Exposure(
        view="AP" if portable else "PA",
        rotation=float(np.deg2rad(draws.normal(0.0, hospital.rotation * loose))),
        zoom=draws.normal(0.905, 0.045) * (0.95 if portable else 1.0),
        shift=(draws.normal(0.0, 0.03) * loose, draws.normal(-0.09, 0.035) * loose),
        turn=draws.normal(0.0, 0.016) * loose,
        breath=min(max(draws.normal(0.45 if portable else 0.1, 0.25), 0.0), 1.0),
        dose=float(np.exp(draws.normal(0.0, 0.35))) * (0.6 if portable else 1.0),
        contrast=draws.normal(1.0, 0.09) * (0.94 if portable else 1.0),
        offset=draws.normal(0.0, 0.07),
        unsharpness=hospital.unsharpness * draws.uniform(0.8, 1.3) * (1.25 if portable else 1.0),
        borders=tuple(shown),
        marker=place if marked else None,
        letter=hospital.marker_letter if usual else other,
        devices=portable and draws.chance(0.5),
    )


def detect(
    depth: Picture,
    frame: Frame,
    exposure: Exposure,
    hospital: Hospital,
    habitus: float,
    noise: np.random.Generator,
) -> Picture:
    """Optical depth to a displayed picture in [0, 1], before collimation and marker.

    A stout patient (`habitus` near 1) scatters more, and more so without the grid of a PA stand.
    """
    signal = np.exp(depth * (-hospital.hardness))
    # 0.4 pixels stand for the area that a pixel averages over.
    signal = blur(signal, math.hypot(exposure.unsharpness / frame.pixel, 0.4))
    signal += hospital.scatter * (1 + 3 * habitus**2) * (1.6 if exposure.view == "AP" else 1)
    grain = noise.standard_normal(signal.shape, dtype=np.float32)
    count = hospital.photons * exposure.dose * (128 / frame.size)
    signal += np.sqrt(signal) * grain * (1 / float(np.sqrt(count)))
    shown = -np.log(np.maximum(signal, 0.004))
    low, high = hospital.window
    gain = exposure.contrast / (high - low)
    shown *= gain
    shown += 0.5 - gain * (low + high) / 2 + exposure.offset
    shown += 0.012 * smooth_noise(noise, frame, 5)
    np.clip(shown, 0, 1, out=shown)
    steep = hospital.steepness
    shown *= 1 - steep + steep * shown * (3 - 2 * shown)
    shown *= 1 - hospital.toe + hospital.toe * shown
    return shown


def exposed_field(size: int, exposure: Exposure) -> tuple[slice, slice]:
    """The rows and columns that the collimator leaves open."""
    left, top, right, bottom = (round(edge * size) for edge in exposure.borders)
    return slice(top, size - bottom), slice(left, size - right)


def finish(shown: Picture, exposure: Exposure, hospital: Hospital) -> NDArray[np.uint8]:
    """Per-image normalisation of the exposed field, collimation and marker: uint8 (H, W)."""
    field = exposed_field(len(shown), exposure)
    exposed = shown[field]
    low, high = float(exposed.min()), float(exposed.max())
    picture = np.zeros_like(shown)
    picture[field] = (exposed - low) / max(high - low, 1e-6)
    if exposure.marker is not None:
        letter = _letter(exposure.letter, hospital.marker_size, exposure.marker, len(shown))
        picture = np.maximum(picture, np.minimum(letter, 1))
    if not np.isfinite(picture).all():
        raise FloatingPointError("the phantom produced a pixel that is not finite")
    return (picture * 255 + 0.5).astype(np.uint8)


_STROKES: dict[str, list[tuple[float, float, float, float]]] = {
    "L": [(0, 0, 0, 2), (0, 2, 1, 2)],
    "R": [(0, 0, 0, 2), (0, 0, 1, 0.1), (1, 0.1, 1, 0.9), (1, 0.9, 0, 1), (0.3, 1, 1, 2)],
}


def _letter(letter: str, size: float, place: tuple[float, float], pixels: int) -> Picture:
    """A lead letter beside the patient's left (L) or right (R) shoulder, in detector units."""
    x = place[0] if letter == "L" else -place[0] - size
    t = np.linspace(0, 1, max(8, int(3 * size * pixels)))
    strokes = _STROKES[letter]
    px = np.concatenate([x + size * (a + (c - a) * t) for a, _, c, _ in strokes])
    py = np.concatenate([place[1] + size * (b + (d - b) * t) for _, b, _, d in strokes])
    mass = np.full(len(px), 0.022 * size / len(t) * (pixels / 2) ** 2)
    return splat_pixels(pixels, (px + 1) * (pixels / 2) - 0.5, (py + 1) * (pixels / 2) - 0.5, mass)
