"""Where a network looks, whether that is where the finding is, and what SparK paints."""

from scxr.explain.findings import Explanation, explain_finding
from scxr.explain.gradcam import class_activation_maps
from scxr.explain.localisation import localisation_table, measure
from scxr.explain.overview import explain
from scxr.explain.reconstruction import (
    Reconstruction,
    over_training,
    reconstruct,
    reconstruction_figure,
)

__all__ = [
    "Explanation",
    "Reconstruction",
    "class_activation_maps",
    "explain",
    "explain_finding",
    "localisation_table",
    "measure",
    "over_training",
    "reconstruct",
    "reconstruction_figure",
]
