"""The picture plane: coordinates, lookup tables, and the few shapes everything is drawn with.

Coordinates are those of the patient, seen as on the viewing box: x grows to the image's right
(the patient's left), y grows downwards, the carina is near (0, -0.2), and 1 is half the width of
the detector, some 19 cm. All pictures are float32 arrays of shape (H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray  # (H, W) float32
Mask = NDArray[np.bool_]

REACH = 1.75  # tables cover [-REACH, REACH], more than any rotated and shifted field shows
KNOTS = np.linspace(-REACH, REACH, 1024)
UNIT_CM = 19.0


def _knot(values: Picture) -> NDArray[np.int32]:
    """The nearest of KNOTS; out of reach when the value is."""
    scale = (len(KNOTS) - 1) / (2 * REACH)
    return ((values + REACH) * scale + 0.5).astype(np.int32)


def look_up(table: NDArray, values: Picture) -> Picture:
    """A function given at KNOTS, of any picture of lengths."""
    return table.astype(np.float32).take(_knot(values), mode="clip")


class Frame:
    """Maps the pixels of one exposure to the patient, and points of the patient to pixels.

    size: pixels a side. rotation in radians, zoom > 1 shows more field (a smaller patient),
    shift in units of half a detector.
    """

    def __init__(self, size: int, rotation: float, zoom: float, shift: tuple[float, float]) -> None:
        self.size = size
        self.pixel = 2.0 * zoom / size  # side of a pixel in patient units
        self._cosine, self._sine = float(np.cos(rotation)) * zoom, float(np.sin(rotation)) * zoom
        self._zoom2, self._shift, self.rotation = zoom * zoom, shift, rotation
        centres = ((np.arange(size) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
        self._centres = centres
        row, column = centres[:, None], centres[None, :]
        self.x: Picture = column * self._cosine + (row * self._sine + shift[0])
        self.y: Picture = row * self._cosine - (column * self._sine - shift[1])
        self._index_y = _knot(self.y)
        self.left: Mask = self.x > 0  # the patient's left half: the image's right
        self._index_side_y = self._index_y + self.left * np.int32(len(KNOTS))
        self._index_x = _knot(self.x)

    def affine(
        self, a: float, b: float, x: float, y: float, window: tuple[slice, slice]
    ) -> Picture:
        """a (X - x) + b (Y - y) at the pixels of a window: a sum of one row and one column."""
        rows, columns = self._centres[window[0]], self._centres[window[1]]
        offset = a * (self._shift[0] - x) + b * (self._shift[1] - y)
        down = rows * (a * self._sine + b * self._cosine) + offset
        return down[:, None] + columns * (a * self._cosine - b * self._sine)

    def by_x(self, table: NDArray) -> Picture:
        """A function of x, given at KNOTS."""
        return table.astype(np.float32).take(self._index_x, mode="clip")

    def by_y(self, table: NDArray) -> Picture:
        """A function of y, given at KNOTS."""
        return table.astype(np.float32).take(self._index_y, mode="clip")

    def by_side(self, tables: NDArray) -> Picture:
        """A function of y for each side, (2, knots): first the patient's right."""
        return tables.astype(np.float32).ravel().take(self._index_side_y, mode="clip")

    def to_pixels(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Patient points to (column, row), fractional; pixel centres are integers."""
        dx, dy = x - self._shift[0], y - self._shift[1]
        column = (dx * self._cosine - dy * self._sine) / self._zoom2
        row = (dx * self._sine + dy * self._cosine) / self._zoom2
        half = self.size / 2
        return (column + 1) * half - 0.5, (row + 1) * half - 0.5

    def window(
        self, x: float, y: float, radius: float, height: float | None = None
    ) -> tuple[slice, slice]:
        """The box of pixels around a disc (or as high as given); empty when out of the field."""
        column, row = self.to_pixels(x, y)
        across = radius / self.pixel + 1.5
        down = across if height is None else height / self.pixel + 1.5
        low = (max(0, int(row - down)), max(0, int(column - across)))
        high = (max(0, int(row + down) + 1), max(0, int(column + across) + 1))
        return slice(low[0], high[0]), slice(low[1], high[1])


@dataclass(frozen=True)
class Ellipse:
    """Centre, half axes, and the angle of the first axis (radians, clockwise on the screen)."""

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0

    def window(self, frame: Frame, spare: float = 1.0) -> tuple[slice, slice]:
        """The pixels around it; `spare` above 1 for what reaches beyond the outline."""
        c, s = math.cos(self.angle - frame.rotation), math.sin(self.angle - frame.rotation)
        across, down = math.hypot(self.a * c, self.b * s), math.hypot(self.a * s, self.b * c)
        return frame.window(self.x, self.y, spare * across, spare * down)

    def inside(self, frame: Frame, window: tuple[slice, slice]) -> Picture:
        """1 - (squared normalised radius): 1 at the centre, 0 on the outline, negative outside."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        along = frame.affine(c / self.a, s / self.a, self.x, self.y, window)
        across = frame.affine(-s / self.b, c / self.b, self.x, self.y, window)
        along *= along
        across *= across
        along += across
        return np.subtract(1, along, out=along)

    def thickness(self, frame: Frame, window: tuple[slice, slice]) -> Picture:
        """Path length through the ellipsoid, 1 at its centre."""
        return np.sqrt(np.maximum(self.inside(frame, window), 0))


def ramp(values: Picture, low: float, high: float) -> Picture:
    """0 below `low`, 1 above `high`, smooth between (Hermite)."""
    t = np.clip((values - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def splat(frame: Frame, x: NDArray, y: NDArray, mass: NDArray) -> Picture:
    """Points of the patient with a mass (depth x area) laid on the pixels bilinearly.

    Thin things drawn this way keep their projected mass at every resolution.
    """
    column, row = frame.to_pixels(x, y)
    return splat_pixels(frame.size, column, row, mass / frame.pixel**2)


def splat_pixels(size: int, column: NDArray, row: NDArray, mass: NDArray) -> Picture:
    """As `splat`, with fractional pixel coordinates and masses in depth x pixel."""
    c0, r0 = np.floor(column), np.floor(row)
    keep = (c0 >= 0) & (r0 >= 0) & (c0 < size - 1) & (r0 < size - 1)
    fc, fr = (column - c0)[keep], (row - r0)[keep]
    base = (r0[keep] * size + c0[keep]).astype(np.int64)
    m = mass[keep]
    top, bottom = m * (1 - fr), m * fr
    places = np.concatenate([base, base + 1, base + size, base + size + 1])
    masses = np.concatenate([top * (1 - fc), top * fc, bottom * (1 - fc), bottom * fc])
    picture = np.bincount(places, weights=masses, minlength=size * size)
    return picture.astype(np.float32).reshape(size, size)


def sample_curves(
    frame: Frame, x: NDArray, y: NDArray, angle: NDArray, length: NDArray, bend: NDArray
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray]:
    """Points on parabolic arcs, closer than a pixel.

    x, y, angle (radians), length and bend (relative sag) have shape (n,). Returns the points' x, y,
    their position t in [0, 1] on the arc, the arc's number and the arc length each stands for.
    """
    counts = np.maximum(2, np.ceil(length / (0.8 * frame.pixel))).astype(np.int64)
    number = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    t = (np.arange(len(number)) - first[number] + 0.5) / counts[number]
    c, s = np.cos(angle), np.sin(angle)
    run = (length)[number] * t
    sag = (bend * length)[number] * t * t
    px = x[number] + c[number] * run - s[number] * sag
    py = y[number] + s[number] * run + c[number] * sag
    return px, py, t, number, (length / counts)[number]


def blur(picture: Picture, sigma: float) -> Picture:
    """Gaussian blur, sigma in pixels, edges repeated; shifted sums, so that no order can vary."""
    if sigma < 0.3:  # the neighbours' weight is below one in a hundred
        return picture
    radius = max(1, int(2.6 * sigma + 0.5))
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weights = (weights / (weights[0] + 2 * weights[1:].sum())).tolist()
    return _blur_rows(_blur_rows(picture.T, weights).T, weights)


def _blur_rows(picture: Picture, weights: list[float]) -> Picture:
    """Each row with the rows above and below it; written row after row in memory."""
    radius, size = len(weights) - 1, len(picture)
    wide = np.empty((size + 2 * radius, picture.shape[1]), dtype=np.float32)
    wide[radius : radius + size] = picture
    wide[:radius], wide[radius + size :] = picture[0], picture[-1]
    result = wide[radius : radius + size] * weights[0]
    for step in range(1, radius + 1):
        pair = wide[radius - step : radius - step + size] + wide[radius + step :][:size]
        pair *= weights[step]
        result += pair
    return result


def smooth_noise(generator: np.random.Generator, frame: Frame, cells: int) -> Picture:
    """Smooth zero-mean noise of unit deviation at its knots, `cells` of them across the field."""
    coarse = generator.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    position = (np.arange(frame.size) + 0.5) * (cells / frame.size)
    base = position.astype(np.int64)
    t = (position - base).astype(np.float32)
    t = t * t * (3 - 2 * t)
    rows = coarse[base] * (1 - t)[:, None] + coarse[base + 1] * t[:, None]
    return rows[:, base] * (1 - t) + rows[:, base + 1] * t
