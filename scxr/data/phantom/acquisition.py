"""Two X-ray departments: how each exposes, detects, crops, marks and displays its radiographs.

The detector sees exp(-depth) plus scatter, with quantum noise that follows the signal; the picture
shows its logarithm through a display curve, normalised by its own minimum and maximum, as the series
does before quantising. The constants of the display curves were fitted so that the two hospitals
come near the pixel statistics measured on NIH ChestX-ray14 and PadChest (mean 0.518 and 0.508,
standard deviation 0.254 and 0.269; see `PIXEL_STATISTICS`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    brightness: float
    collimated: float  # share of images with visible borders
    marker: float  # share of images with a side marker
    marker_size: float
    marker_letter: str
    rotation: float
    several_findings: bool


HOSPITALS: dict[str, Hospital] = {
    "A": Hospital(
        name="A",
        likeness="NIH ChestX-ray14",
        portable=0.4,
        hardness=2.3,
        scatter=0.035,
        photons=7000.0,
        unsharpness=0.0085,
        window=(0.05, 2.35),
        steepness=0.25,
        brightness=0.0,
        collimated=0.25,
        marker=0.75,
        marker_size=0.05,
        marker_letter="L",
        rotation=2.0,
        several_findings=True,
    ),
    "B": Hospital(
        name="B",
        likeness="PadChest",
        portable=0.15,
        hardness=2.7,
        scatter=0.025,
        photons=16000.0,
        unsharpness=0.0055,
        window=(0.1, 2.6),
        steepness=0.6,
        brightness=0.0,
        collimated=0.1,
        marker=0.85,
        marker_size=0.075,
        marker_letter="R",
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
    borders: tuple[float, float, float, float] | None  # left, top, right, bottom
    marker: tuple[float, float] | None


def draw_exposure(draws: Draws, hospital: Hospital) -> Exposure:
    portable = draws.chance(hospital.portable)
    collimated = draws.chance(hospital.collimated)
    edges = tuple(0.02 + 0.16 * draws.unit() ** 2 for _ in range(4))
    shown = [edge if draws.chance(0.6) else 0.0 for edge in edges]
    marked = draws.chance(hospital.marker)
    place = (draws.uniform(0.72, 0.92), draws.uniform(-0.94, -0.72))
    loose = 1.6 if portable else 1.0
    return Exposure(
        view="AP" if portable else "PA",
        rotation=float(np.deg2rad(draws.normal(0.0, hospital.rotation * loose))),
        zoom=draws.normal(1.02, 0.055) * (0.95 if portable else 1.0),
        shift=(draws.normal(0.0, 0.03) * loose, draws.normal(-0.05, 0.035) * loose),
        turn=draws.normal(0.0, 0.016) * loose,
        breath=min(max(draws.normal(0.45 if portable else 0.1, 0.25), 0.0), 1.0),
        dose=float(np.exp(draws.normal(0.0, 0.35))) * (0.6 if portable else 1.0),
        contrast=draws.normal(1.0, 0.09) * (0.94 if portable else 1.0),
        offset=draws.normal(0.0, 0.09),
        unsharpness=hospital.unsharpness * draws.uniform(0.8, 1.3) * (1.25 if portable else 1.0),
        borders=(shown[0], shown[1], shown[2], shown[3]) if collimated else None,
        marker=place if marked else None,
    )


def detect(
    depth: Picture, frame: Frame, exposure: Exposure, hospital: Hospital, noise: np.random.Generator
) -> Picture:
    """Optical depth to a displayed picture in [0, 1], before collimation and marker."""
    signal = np.exp(depth * (-hospital.hardness))
    signal = blur(signal, exposure.unsharpness / frame.pixel)
    signal += hospital.scatter
    grain = noise.standard_normal(signal.shape, dtype=np.float32)
    count = hospital.photons * exposure.dose * (128 / frame.size) ** 2
    signal += np.sqrt(signal) * grain * (1 / float(np.sqrt(count)))
    shown = -np.log(np.maximum(signal, 0.004))
    low, high = hospital.window
    gain = exposure.contrast / (high - low)
    shown *= gain
    shown += 0.5 - gain * (low + high) / 2 + exposure.offset + hospital.brightness
    shown += 0.012 * smooth_noise(noise, frame, 5)
    np.clip(shown, 0, 1, out=shown)
    steep = hospital.steepness
    shown *= 1 - steep + steep * shown * (3 - 2 * shown)
    return shown


def finish(shown: Picture, exposure: Exposure, hospital: Hospital) -> np.ndarray:
    """Marker, collimation and per-image normalisation: the stored uint8 picture (H, W)."""
    if exposure.marker is not None:
        letter = _letter(hospital.marker_letter, hospital.marker_size, exposure.marker, shown.shape[0])
        shown = np.maximum(shown, np.minimum(letter, 0.97))
    if exposure.borders is not None:
        _collimate(shown, exposure.borders)
    low, high = float(shown.min()), float(shown.max())
    scaled = (shown - low) * (255.0 / max(high - low, 1e-6))
    if not np.isfinite(scaled).all():
        raise FloatingPointError("the phantom produced a pixel that is not finite")
    return (scaled + 0.5).astype(np.uint8)


def _collimate(shown: Picture, borders: tuple[float, float, float, float]) -> None:
    size = shown.shape[0]
    left, top, right, bottom = (round(edge * size) for edge in borders)
    shown[:, :left] = 0
    shown[:top] = 0
    shown[:, size - right :] = 0
    shown[size - bottom :] = 0


_STROKES = {
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
