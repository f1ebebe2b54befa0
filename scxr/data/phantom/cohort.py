"""Who is examined: patients, their images, sexes, ages and findings.

A hospital's images come in blocks of ten consecutive indices shared by up to five patients, so that
the patient of image i is known without drawing the others. About 2.4 images a patient.
Findings belong to the patient and show on most of that patient's images; hospital A's patients can
have several, hospital B's at most one, mildly long-tailed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scxr.data.phantom.acquisition import Hospital
from scxr.data.phantom.randomness import Draws, stream

# The ten findings of the series (see its evaluation protocol), commonest first in hospital B.
FINDINGS: tuple[str, ...] = (
    "interstitial pattern",
    "hiatal hernia",
    "calcified granuloma",
    "pulmonary mass",
    "bronchiectasis",
    "hemidiaphragm elevation",
    "callus rib fracture",
    "fibrotic band",
    "reticular interstitial pattern",
    "pulmonary fibrosis",
)
_BLOCK = 10
_SLOTS = np.cumsum([0.35, 0.25, 0.2, 0.12, 0.08])
_WEIGHTS = np.linspace(1.75, 1.0, len(FINDINGS))
_SHARES = np.cumsum(_WEIGHTS / _WEIGHTS.sum())
_DISEASED = 0.6  # of the patients of a hospital with single findings
_SHOWN = 0.85  # of a patient's images show a finding that the patient has
_HEALTHY = 0.2  # of the patients of a hospital with several findings
_SEVERAL = 0.45  # how often each other patient of such a hospital has a finding of mean frequency


@dataclass(frozen=True)
class Patient:
    """One patient of one hospital."""

    name: str
    female: bool
    age: int
    findings: tuple[str, ...]


def patient_name(index: int, hospital: Hospital, seed: int) -> str:
    """The patient of image `index`: a name no other hospital or seed uses."""
    block = index // _BLOCK
    u = stream(seed, hospital.name, "patient of image", index).random()
    slot = int(np.searchsorted(_SLOTS, u, side="right"))
    return f"{hospital.name}{seed}-{block:05d}{min(slot, len(_SLOTS) - 1)}"


def draw_patient(name: str, hospital: Hospital, seed: int) -> Patient:
    draws = Draws(stream(seed, hospital.name, "patient", name), 24)
    female = draws.chance(0.46)
    age = round(min(max(draws.normal(55, 16), 18), 92))
    if hospital.several_findings:
        healthy = draws.chance(_HEALTHY)
        relative = (_WEIGHTS / _WEIGHTS.mean()).tolist()
        has = tuple(
            finding
            for finding, share in zip(FINDINGS, relative, strict=True)
            if draws.chance(_SEVERAL * share) and not healthy
        )
    else:
        sick, which = draws.chance(_DISEASED), draws.unit()
        has = (FINDINGS[int(np.searchsorted(_SHARES, which, side="right"))],) if sick else ()
    return Patient(name, female, age, has)


def shown_findings(patient: Patient, index: int, hospital: Hospital, seed: int) -> list[str]:
    """The patient's findings that image `index` shows; earlier films may not show them yet."""
    if not patient.findings:
        return []
    draws = Draws(stream(seed, hospital.name, "shown", index), len(FINDINGS))
    return [finding for finding in patient.findings if draws.chance(_SHOWN)]
