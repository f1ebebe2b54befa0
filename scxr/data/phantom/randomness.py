"""Named random streams: every draw of the phantom depends on what it is for, never on the batch.

A stream is a Philox counter generator (Salmon et al., 2011, doi:10.1145/2063384.2063405) whose key
is a hash of (seed, hospital, purpose, number). Image 17 therefore draws the same numbers whether it
is made alone, in a batch or last, and a finding's case does not move when another one is added.
"""

from __future__ import annotations

from hashlib import blake2b
from statistics import NormalDist

import numpy as np

_INVERSE_NORMAL = NormalDist().inv_cdf


def key(seed: int, hospital: str, purpose: str, number: int | str) -> bytes:
    """16 bytes that name one stream."""
    name = f"{seed}/{hospital}/{purpose}/{number}"
    return blake2b(name.encode(), digest_size=16).digest()


def stream(seed: int, hospital: str, purpose: str, number: int | str) -> np.random.Generator:
    """The generator of one purpose ("anatomy", "noise", ...) for one patient or image."""
    words = np.frombuffer(key(seed, hospital, purpose, number), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


class Draws:
    """Scalar draws as Python floats: far cheaper than one generator call each.

    Python floats also keep float32 pictures in float32, which numpy's float64 scalars would not.
    """

    def __init__(self, generator: np.random.Generator, count: int = 96) -> None:
        self.generator = generator
        self._count = count
        self._unit: list[float] = []

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        if not self._unit:
            self._unit = self.generator.random(self._count).tolist()
        return self._unit.pop()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def normal(self, mean: float, deviation: float) -> float:
        """Normal, truncated at 2.5 standard deviations so that no anatomy becomes a monster."""
        return mean + deviation * _INVERSE_NORMAL(0.00621 + 0.98758 * self.unit())

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def sign(self) -> float:
        return -1.0 if self.unit() < 0.5 else 1.0
