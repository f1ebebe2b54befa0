"""What lies on or in a bedridden patient: electrode leads and a central line, over the anatomy."""

from __future__ import annotations

import numpy as np

from scxr.data.phantom.geometry import Ellipse, blur, ramp, sample_curves, splat
from scxr.data.phantom.randomness import Draws
from scxr.data.phantom.thorax import Scene


def add_devices(scene: Scene, draws: Draws) -> None:
    """One to three wires with electrodes, or a line from the neck to the right atrium."""
    frame = scene.frame
    count = 1 + int(draws.uniform(0, 3))
    side = [draws.sign() for _ in range(count)]
    x = [one * draws.uniform(0.3, 0.7) for one in side]
    y = [draws.uniform(-0.5, 0.35) for _ in range(count)]
    # A wire runs from its electrode outwards, sagging: away from the midline, up or down.
    angle = [
        draws.uniform(-1.2, 1.0) if one > 0 else np.pi - draws.uniform(-1.2, 1.0) for one in side
    ]
    length = [draws.uniform(0.5, 1.1) for _ in range(count)]
    bend = [draws.uniform(-0.5, 0.5) for _ in range(count)]
    for place in zip(x, y, strict=True):
        electrode = Ellipse(*place, 0.026, 0.026)
        window = electrode.window(frame)
        scene.add(window, 0.16 * ramp(electrode.inside(frame, window), -0.2, 0.4))
    if draws.chance(0.5):  # a central line: down beside the spine from the right side of the neck
        for numbers, value in zip((x, y, angle, length, bend), _LINE, strict=True):
            numbers.append(value + draws.uniform(-0.02, 0.02))
    arrays = [np.array(numbers) for numbers in (x, y, angle, length, bend)]
    px, py, _, _, step = sample_curves(frame, *arrays)
    scene.depth += blur(splat(frame, px, py, 0.0026 * step), 0.005 / frame.pixel)


_LINE = (-0.16, -0.95, 1.45, 0.95, -0.06)
