"""The pulmonary vessel tree: random branches, sampled along their courses, laid down as mass."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from scxr.data.phantom.anatomy import Anatomy
from scxr.data.phantom.geometry import Frame, Picture, blur, sample_curves, splat
from scxr.data.phantom.randomness import Draws

MAIN, CHILDREN, LEVELS = 9, 3, 3


@dataclass
class Branches:
    """Arrays of shape (n,): where branches start, their heading, length, bend and half width."""

    x: NDArray
    y: NDArray
    angle: NDArray
    length: NDArray
    bend: NDArray
    width: NDArray

    def at(self, t: NDArray) -> tuple[NDArray, NDArray]:
        """Points at fractions t (n,) along the branches."""
        run, sag = self.length * t, self.bend * self.length * t * t
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.x + c * run - s * sag, self.y + s * run + c * sag

    def take(self, index: NDArray) -> Branches:
        return Branches(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def join(parts: list[Branches]) -> Branches:
        names = [field.name for field in fields(Branches)]
        return Branches(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def hilum(anatomy: Anatomy, side: float) -> tuple[float, float]:
    """Centre of a hilum; the left (side +1) lies higher."""
    return side * 0.17, -0.06 - 0.035 * side + 0.25 * (anatomy.dome[0] - 0.42)


def _main(anatomy: Anatomy, side: float, rng: np.random.Generator) -> Branches:
    u = rng.random((5, MAIN))
    fan = np.linspace(-1.45, 1.45, MAIN) + 0.22 * (u[0] - 0.5)
    x, y = hilum(anatomy, side)
    across, up, down = anatomy.width - 0.2, y - anatomy.apex, anatomy.dome[0] - y + 0.12
    vertical = np.where(fan < 0, up, down)
    reach = 1 / np.sqrt((np.cos(fan) / across) ** 2 + (np.sin(fan) / vertical) ** 2)
    width = (0.0145 + 0.004 * u[1]) * np.where(fan > 0.2, 1.15, 0.85)
    return Branches(
        x + side * 0.03 * (u[3] - 0.3),
        y + 0.16 * (u[4] - 0.5) + 0.06 * np.sin(fan),
        np.where(side > 0, fan, np.pi - fan),
        reach * (0.72 + 0.28 * u[2]),
        -side * np.sign(fan) * (0.34 * u[3] - 0.08),
        width,
    )


def _offspring(parent: Branches, rng: np.random.Generator) -> Branches:
    n = len(parent.x)
    index = np.repeat(np.arange(n), CHILDREN)
    u = rng.random((5, n * CHILDREN))
    twin = parent.take(index)
    t = 0.18 + 0.7 * u[0]
    x, y = twin.at(t)
    turn = np.where(np.arange(len(index)) % 2 == 0, 1.0, -1.0) * (0.35 + 0.5 * u[1])
    return Branches(
        x,
        y,
        twin.angle + turn + 1.4 * twin.bend * t,
        twin.length * (0.62 - 0.25 * t) * (0.7 + 0.5 * u[2]),
        turn * (0.9 * u[3] - 0.6),
        twin.width * (1 - 0.6 * t) * (0.62 + 0.2 * u[4]),
    )


def vessels(anatomy: Anatomy, frame: Frame, turn: float, draws: Draws) -> Picture:
    """Optical depth of hila and vessels, before it is cut to the lungs."""
    rng = draws.generator
    levels = [Branches.join([_main(anatomy, side, rng) for side in (-1.0, 1.0)])]
    for _ in range(LEVELS - 1):
        levels.append(_offspring(levels[-1], rng))
    tree = Branches.join(levels)
    x, y, t, number, step = sample_curves(
        frame, tree.x + 0.2 * turn, tree.y, tree.angle, tree.length, tree.bend
    )
    half = tree.width[number] * (1 - 0.65 * t)
    mass = 6.5 * max(anatomy.vascular, 0.25) * half**1.6 * step * 0.5
    thick = half > 0.0085
    picture = blur(splat(frame, x[thick], y[thick], mass[thick]), 0.011 / frame.pixel)
    picture += blur(splat(frame, x[~thick], y[~thick], mass[~thick]), 0.004 / frame.pixel)
    return picture
