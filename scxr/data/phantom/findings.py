"""The ten findings: where each occurs, what it adds to the projection, and its true mask.

A finding is two functions. `prepare` may change the anatomy before it is projected (a raised
diaphragm, lost volume); `draw` adds optical depth to the projected scene and returns the mask of
what it changed. Both read one `Case`, drawn once for each patient, so that the same lesion comes
back in the patient's other images. `Case.conspicuity` in [0, 1] grades contrast and size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from scxr.data.phantom import diffuse, focal
from scxr.data.phantom.anatomy import Anatomy
from scxr.data.phantom.cohort import FINDINGS
from scxr.data.phantom.focal import Lesion
from scxr.data.phantom.randomness import stream
from scxr.data.phantom.thorax import Scene


@dataclass(frozen=True)
class Case:
    """One patient's instance of a finding: its grade, and the key of its further draws."""

    finding: str
    conspicuity: float
    side: float  # -1 the patient's right, +1 left
    words: tuple[int, int]

    def generator(self) -> np.random.Generator:
        """A fresh generator with the same numbers at every call: the lesion is persistent."""
        return np.random.Generator(np.random.Philox(key=np.array(self.words, dtype=np.uint64)))


def draw_case(finding: str, patient: str, hospital: str, seed: int) -> Case:
    """The patient's case of a finding; independent of the patient's other findings."""
    rng = stream(seed, hospital, f"case of {finding}", patient)
    right_share = 0.65 if finding == "hemidiaphragm elevation" else 0.5
    side = -1.0 if rng.random() < right_share else 1.0
    words = rng.integers(0, 2**63, size=2).tolist()
    return Case(finding, float(rng.random()), side, (words[0], words[1]))


def prepare(anatomy: Anatomy, case: Case) -> Anatomy:
    """The anatomy as the finding leaves it."""
    c = case.conspicuity
    if case.finding == "hemidiaphragm elevation":
        lift = 0.08 + 0.26 * c
        raised = (lift, 0.0) if case.side < 0 else (0.0, lift)
        return replace(anatomy, elevation=raised)
    if case.finding == "pulmonary fibrosis":
        return replace(anatomy, shrink=0.1 + 0.8 * c)
    return anatomy


Drawing = Callable[[Scene, float, float, np.random.Generator], Lesion]

_DRAWINGS: dict[str, Drawing] = {
    "calcified granuloma": focal.calcified_granuloma,
    "interstitial pattern": diffuse.interstitial_pattern,
    "callus rib fracture": focal.callus_rib_fracture,
    "hemidiaphragm elevation": diffuse.hemidiaphragm_elevation,
    "hiatal hernia": focal.hiatal_hernia,
    "bronchiectasis": diffuse.bronchiectasis,
    "fibrotic band": focal.fibrotic_band,
    "reticular interstitial pattern": diffuse.reticular_interstitial_pattern,
    "pulmonary mass": focal.pulmonary_mass,
    "pulmonary fibrosis": diffuse.pulmonary_fibrosis,
}
assert set(_DRAWINGS) == set(FINDINGS)


def draw(scene: Scene, case: Case) -> Lesion:
    """Adds the finding to the scene; returns its mask (H, W) and the centres of its parts."""
    return _DRAWINGS[case.finding](scene, case.conspicuity, case.side, case.generator())
