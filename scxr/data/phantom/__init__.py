"""Procedural frontal chest radiographs with ten findings and their ground-truth masks.

The embedded default of the course: radiographs of any number, with no download, no patient behind
them and the truth known for every pixel. Two hospitals differ in scanner and in cohort: A, in the
manner of NIH ChestX-ray14, is the unlabelled pool to pretrain on (several findings an image);
B, in the manner of PadChest, is the target (at most one finding an image, about half normal).

What this is not: a simulation of X-ray physics, a substitute for radiographs, or evidence of any
clinical kind. A finding is drawn as a textbook describes it and graded so that a small picture can
show it; an AUC on phantoms says something about a method on phantoms, and nothing about patients.
"""

from __future__ import annotations

from scxr.data.phantom.acquisition import HOSPITALS, PIXEL_STATISTICS, Hospital
from scxr.data.phantom.cohort import FINDINGS
from scxr.data.phantom.generator import PhantomBatch, generate, write_store
from scxr.data.phantom.regions import REGIONS

__all__ = [
    "FINDINGS",
    "HOSPITALS",
    "PIXEL_STATISTICS",
    "REGIONS",
    "Hospital",
    "PhantomBatch",
    "generate",
    "write_store",
]
