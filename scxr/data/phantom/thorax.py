"""Projects a patient's anatomy on the picture plane.

Every structure adds its optical depth (attenuation times path length) to one picture, so that ribs,
vessels, heart and findings superimpose as they do in a projection; air takes depth away. Unit
optical depth is roughly the whole chest without lungs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scxr.data.phantom import anatomy as body
from scxr.data.phantom.anatomy import RIBS, Anatomy
from scxr.data.phantom.geometry import KNOTS, REACH, Ellipse, Frame, Picture, look_up, ramp
from scxr.data.phantom.randomness import Draws
from scxr.data.phantom.vessels import hilum, vessels

LUNG_DEPTH = 0.60


@dataclass
class Scene:
    """One exposure's geometry: the optical depth, and the pictures that findings are placed by."""

    frame: Frame
    anatomy: Anatomy
    turn: float  # how far anterior structures are shifted by a turned patient
    depth: Picture
    air: Picture  # 0..1, path through lung
    dome: Picture  # y of the hemidiaphragm at each pixel's x
    lateral: Picture  # |x| of the outer lung border at each pixel's y
    heart: Picture  # thickness, 0..1
    mediastinum: Picture
    posterior_ribs: Picture
    anterior_ribs: Picture
    clavicles: Picture
    spine: Picture  # x distance from the spine in its half widths

    def add(self, window: tuple[slice, slice], depth: Picture) -> None:
        self.depth[window] += depth


def project(anatomy: Anatomy, frame: Frame, turn: float, vessel_draws: Draws) -> Scene:
    """The thorax without findings. `turn`: shift of the anterior structures by rotation."""
    width = np.abs(frame.x)
    lateral = frame.by_side(body.lateral_border(anatomy))
    dome = frame.by_x(body.domes(anatomy))
    air = _air(anatomy, frame, width, lateral, dome)
    outline = frame.by_y(1 / body.body_outline(anatomy))
    scene = Scene(
        frame=frame,
        anatomy=anatomy,
        turn=turn,
        depth=_soft_tissue(anatomy, frame, width, outline),
        air=air,
        dome=dome,
        lateral=lateral,
        heart=_heart(anatomy, frame, turn),
        mediastinum=_great_vessels(anatomy, frame, turn),
        posterior_ribs=np.zeros_like(air),
        anterior_ribs=np.zeros_like(air),
        clavicles=_clavicles(anatomy, frame, width, turn),
        spine=(frame.x - frame.by_y(body.spine_centre(anatomy))) * (1 / anatomy.column),
    )
    scene.depth -= LUNG_DEPTH * (1 + 0.14 * anatomy.inflation) * air
    _add_abdomen(scene)
    _add_centre(scene)
    _add_ribs(scene, width)
    scene.depth += vessels(anatomy, frame, turn, vessel_draws) * (air * (1 - 0.6 * scene.heart))
    _add_hila(scene)
    _add_shoulders(scene)
    _add_breasts(scene)
    return scene


def _air(
    anatomy: Anatomy, frame: Frame, width: Picture, lateral: Picture, dome: Picture
) -> Picture:
    """Path through lung: rounded at the ribs and the mediastinum, cut by the diaphragm."""
    medial = frame.by_side(body.medial_border(anatomy))
    outer = np.clip((lateral - width) * (1 / 0.24), 0, 1)
    inner = np.clip((width - medial) * (1 / 0.20), 0, 1)
    below = np.clip((dome - frame.y) * (1 / 0.16), 0, 1)
    air = outer * (2 - outer)
    air *= inner * (2 - inner)
    edge = np.clip((dome - frame.y) * (1 / max(frame.pixel, 0.012)) + 0.5, 0, 1)
    air *= 0.45 * edge + 0.55 * below * (2 - below)
    air = np.sqrt(air)
    air *= frame.by_y(0.74 + 0.26 * np.clip((KNOTS - anatomy.apex) / 0.5, 0, 1))
    return air


def _soft_tissue(anatomy: Anatomy, frame: Frame, width: Picture, outline: Picture) -> Picture:
    stout = anatomy.habitus
    q = width * outline
    q *= q
    level = np.interp(
        KNOTS, [-1.3, -0.95, -0.7, -0.3, 0.3, 0.7], [0.6, 0.72, 0.95, 0.96, 1.0, 1.12]
    )
    thickness = frame.by_y(level * (0.88 + 0.33 * stout))
    return thickness * np.sqrt(np.maximum(1 - q * q * (0.7 + 0.3 * q), 0))


def _heart(anatomy: Anatomy, frame: Frame, turn: float) -> Picture:
    size, x, y = anatomy.heart, anatomy.heart_x + turn, anatomy.heart_y
    shape = anatomy.heart_shape
    left = Ellipse(x + 0.05, y + 0.02, 0.36 * size * shape, 0.25 * size / shape, anatomy.heart_tilt)
    right = Ellipse(x - 0.115, y, 0.18 * size, 0.26 * size, -0.1)
    outflow = Ellipse(x + 0.02, y - 0.25, 0.16 * size, 0.21 * size, -0.15)
    missing = np.ones_like(frame.x)
    for part in (left, right, outflow):
        window = part.window(frame)
        missing[window] *= 1 - np.minimum(1, 1.25 * part.thickness(frame, window))
    return 1 - missing


def _great_vessels(anatomy: Anatomy, frame: Frame, turn: float) -> Picture:
    """The mediastinal band above the heart, the aortic knob and the descending aorta."""
    bulge = anatomy.unfolding
    y = [-1.0, -0.75, -0.55, -0.36, -0.2, -0.05, 0.2, 0.6]
    right = np.interp(KNOTS, y, [0.11, 0.13, 0.15, 0.155, 0.165 + 0.03 * bulge, 0.16, 0.12, 0.1])
    left = np.interp(KNOTS, y, [0.11, 0.13, 0.15, 0.165, 0.18, 0.19, 0.13, 0.1])
    middle = (left - right) / 2 + 0.7 * turn
    half = (left + right) / 2 * np.where(KNOTS < -0.2, anatomy.mediastinum, 1.0)
    q = (frame.x - frame.by_y(middle)) * frame.by_y(1 / half)
    fade = np.interp(KNOTS, [-1.1, -0.8, -0.4, 0.1, 0.3], [0.25, 0.5, 0.8, 0.8, 0.0])
    band = np.sqrt(np.maximum(1 - q * q, 0)) * frame.by_y(fade)
    aorta_y = [-0.42, -0.3, 0.0, 0.35, 0.7]
    shift = np.interp(KNOTS, aorta_y, [0.09, 0.12, 0.11 + 0.05 * bulge, 0.07 + 0.05 * bulge, 0.03])
    q = (frame.x - frame.by_y(shift + 0.3 * turn)) * (1 / 0.075)
    there = np.interp(KNOTS, [-0.4, -0.3, 0.5, 0.7], [0, 0.35, 0.35, 0.0])
    band += np.sqrt(np.maximum(1 - q * q, 0)) * frame.by_y(there)
    knob = Ellipse(0.12 + 0.5 * turn + 0.02 * bulge, -0.34, anatomy.knob, anatomy.knob * 1.1)
    window = knob.window(frame)
    inside = knob.inside(frame, window)
    band[window] += 0.45 * np.sqrt(np.maximum(inside, 0))
    if anatomy.calcified > 0:  # an arc of calcium in the lateral wall
        wall = ramp(0.3 - np.abs(inside - 0.2), 0.0, 0.2) * (frame.x[window] > knob.x)
        band[window] += anatomy.calcified * wall
    return band


def _add_abdomen(scene: Scene) -> None:
    """Liver, spleen and the gas of stomach and colon, below the diaphragm."""
    frame, anatomy = scene.frame, scene.anatomy
    below = np.clip((frame.y - scene.dome) * (1 / 0.22), 0, 1)
    scene.depth += 0.20 * below * (2 - below)
    x, half_width, half_height, fluid = anatomy.bubble
    top = anatomy.dome[1] - anatomy.elevation[1] - 0.1 * anatomy.shrink
    y = top + half_height + 0.035
    _add_gas(scene, Ellipse(x, y, half_width, half_height, 0.25), 0.34, y + fluid * half_height)
    width, x = anatomy.colon
    if width > 0:
        _add_gas(scene, Ellipse(x, top + 0.19, width, 0.6 * width, -0.5), 0.26, REACH)
    for side, depth in zip((-1.0, 1.0), anatomy.fat_pad, strict=True):
        x = anatomy.heart_x + side * 0.25 * anatomy.heart
        pad = Ellipse(x, anatomy.dome[side > 0] + 0.02, 0.16, 0.13)
        window = pad.window(frame)
        scene.add(window, depth * pad.thickness(frame, window) * scene.air[window])


def _add_gas(scene: Scene, gas: Ellipse, depth: float, fluid_level: float) -> None:
    window = gas.window(scene.frame)
    thickness = gas.thickness(scene.frame, window)
    above = ramp(fluid_level - scene.frame.y[window], -0.01, 0.01)
    scene.add(window, -depth * thickness * above)


def _add_centre(scene: Scene) -> None:
    """Heart, great vessels, spine, and the air of trachea and main bronchi."""
    frame = scene.frame
    # Heart and vessels take the place of lung: they add most where there is most air to displace.
    scene.depth += (0.10 + 0.54 * scene.air) * scene.heart
    scene.depth += (0.13 + 0.33 * scene.air) * scene.mediastinum
    inside = np.abs(scene.spine)
    vertebra = np.cos((KNOTS * 1.0 + 0.11 * KNOTS**2) * (2 * np.pi / 0.135))
    density = (
        0.02
        + 0.085 * np.clip(KNOTS + 0.9, 0, 1)
        + 0.022 * np.clip(vertebra * 2, -1, 0.6)
        + 0.03 * (KNOTS > 0.3)
    )
    column = frame.by_y(density) * ramp(1.0 - inside, -0.12, 0.4)
    column += (0.03 * (inside < 0.16)) * frame.by_y(np.clip(vertebra, 0, 1))
    scene.depth += column
    carina, bias = -0.17, 0.4 * scene.turn
    centre = np.interp(KNOTS, [-1.0, -0.4, carina], [0.0, -0.012, -0.02]) + bias
    centre += 0.5 * body.spine_centre(scene.anatomy)
    q = (frame.x - frame.by_y(centre)) * (1 / 0.048)
    tube = np.sqrt(np.maximum(1 - q * q, 0))
    fade = np.interp(KNOTS, [-1.1, -0.9, carina - 0.05, carina + 0.03], [0.5, 1, 1, 0])
    scene.depth -= 0.075 * tube * frame.by_y(fade)
    for x, y, angle in ((-0.085, carina + 0.075, 2.2), (0.085, carina + 0.065, 0.75)):
        bronchus = Ellipse(x + bias, y, 0.14, 0.034, angle)
        window = bronchus.window(frame)
        scene.add(window, -0.08 * bronchus.thickness(frame, window))


def _add_hila(scene: Scene) -> None:
    """What lies at the hila besides the vessels that are drawn one by one."""
    frame, anatomy = scene.frame, scene.anatomy
    for side in (-1.0, 1.0):
        x, y = hilum(anatomy, side)
        part = Ellipse(x + side * 0.02 + 0.2 * scene.turn, y, 0.085, 0.14, side * 0.25)
        window = part.window(frame)
        depth = anatomy.hila * part.thickness(frame, window)
        scene.add(window, depth * np.minimum(1, 2 * scene.air[window]))


def posterior_course(q: Any) -> Any:
    """How far a posterior rib lies below its spinal end; q: |x| over the lateral border."""
    return q * q * (0.06 + 0.26 * q * q) - 0.09 * q * (1 - q)


def _add_ribs(scene: Scene, width: Picture) -> None:
    """All ribs at once: the distance to the nearest rib is a lookup in height less course."""
    frame, anatomy = scene.frame, scene.anatomy
    levels = body.rib_levels(anatomy)
    q = width / scene.lateral
    slope = frame.by_y(anatomy.rib_slope * (0.75 + 0.5 * np.clip(KNOTS + 0.5, 0, 1)))
    course = posterior_course(q) * slope
    end = 0.32 * slope
    posterior = look_up(_rib_profile(levels, anatomy.rib_width, RIBS), frame.y - course)
    cage = np.clip((1.04 - q) * 20, 0, 1)
    q6 = q * q * q
    q6 *= q6
    scene.posterior_ribs = posterior * cage * np.clip((q - 0.12) * 12, 0, 1)
    drop = end + 0.5 * (1 - q)
    anterior = look_up(_rib_profile(levels, anatomy.rib_width * 1.15, 8), frame.y - drop)
    scene.anterior_ribs = anterior * cage * np.clip((q - 0.42) * 4, 0, 1)
    # Ribs fade below the diaphragm, where they are thinner and the exposure shows little.
    below = np.clip((frame.y - scene.dome) * (1 / 0.05), 0, 1)
    density = (0.095 * anatomy.rib_density) * (1 + 1.1 * q6) * (1 - 0.7 * below)
    scene.depth += density * (scene.posterior_ribs + anatomy.cartilage * scene.anterior_ribs)


def _rib_profile(levels: np.ndarray, half_width: float, count: int) -> np.ndarray:
    """Optical depth across the ribs at KNOTS: a tube with a denser cortex."""
    phase = np.interp(KNOTS, levels, np.arange(len(levels)), left=-0.5, right=len(levels) - 0.5)
    nearest = np.clip(np.round(phase), 0, count - 1).astype(np.int64)
    d = (KNOTS - levels[nearest]) / half_width
    outer = np.sqrt(np.clip(1 - d * d, 0, 1))
    inner = np.sqrt(np.clip(0.62 - d * d, 0, 1))
    profile = 1.25 * outer - 0.75 * inner
    taper = np.interp(nearest, [0, 2, 8, 10], [0.85, 1.0, 1.0, 0.7])
    return (profile * taper).astype(np.float32)


def _clavicles(anatomy: Anatomy, frame: Frame, width: Picture, turn: float) -> Picture:
    """S-shaped bones from the sternum to the shoulders."""
    x = np.abs(KNOTS)
    slope = anatomy.clavicle_slope
    course = anatomy.clavicle + 0.13 - slope * np.clip(x - 0.08, 0, 1) + 0.05 * np.sin(x * 7)
    half = np.interp(x, [0.0, 0.1, 0.3, 0.6, 0.8, 1.5], [0.05, 0.046, 0.032, 0.03, 0.04, 0.045])
    d = (frame.y - frame.by_x(np.roll(course, round(turn * 290)))) * frame.by_x(1 / half)
    d2 = d * d
    tube = 1.2 * np.sqrt(np.maximum(1 - d2, 0)) - 0.6 * np.sqrt(np.maximum(0.6 - d2, 0))
    inner = 0.055 + turn * np.where(frame.left, -1.0, 1.0).astype(np.float32)
    return tube * np.clip((width - inner) * 25, 0, 1) * np.clip((0.88 - width) * 15, 0, 1)


def _add_shoulders(scene: Scene) -> None:
    """Clavicles, the scapulae's edges and the heads of the humeri."""
    frame, anatomy = scene.frame, scene.anatomy
    scene.depth += 0.19 * anatomy.rib_density * scene.clavicles
    top = anatomy.clavicle
    for side in (-1.0, 1.0):
        blade = Ellipse(
            side * (anatomy.width + anatomy.scapula), top + 0.33, 0.34, 0.15, side * 1.15 + 0.35
        )
        head = Ellipse(side * 1.0, top + 0.1, 0.15, 0.17)
        for part, depth in ((blade, 0.09), (head, 0.16)):
            window = part.window(frame)
            scene.add(window, depth * ramp(part.inside(frame, window), 0.0, 0.8))


def _add_breasts(scene: Scene) -> None:
    """Soft shadows over the bases, denser below, where they end in a fold."""
    anatomy, frame = scene.anatomy, scene.frame
    if anatomy.breast < 0.15:
        return
    size = 0.2 + 0.12 * anatomy.breast
    x, height = anatomy.breast_place
    for side, share in zip((-1.0, 1.0), anatomy.breast_sides, strict=True):
        breast = Ellipse(side * x, anatomy.base - height, size * share + 0.01, size * 0.95)
        window = breast.window(frame)
        inside = breast.inside(frame, window)
        lower = 0.75 + 0.25 * ramp(frame.y[window] - breast.y, -0.1, 0.7 * size)
        fold = 0.8 * np.sqrt(np.maximum(inside, 0)) + 0.2 * ramp(inside, 0.0, 0.2)
        scene.add(window, 0.15 * anatomy.breast * share * fold * lower)
