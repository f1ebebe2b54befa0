"""Where a network looks, whether that is where the finding is, and what SparK paints."""

from scxr.explain.findings import Explanation, explain_finding
from scxr.explain.gradcam import class_activation_maps
from scxr.explain.localisation import measure
from scxr.explain.overview import explain, localise
from scxr.explain.randomisation import randomisation
from scxr.explain.reconstruction import (
    Reconstruction,
    over_training,
    reconstruct,
    reconstruction_figure,
)
from scxr.explain.tables import (
    attention_differences,
    localisation_scores,
    localisation_table,
)

__all__ = [
    "Explanation",
    "Reconstruction",
    "attention_differences",
    "class_activation_maps",
    "explain",
    "explain_finding",
    "localisation_scores",
    "localisation_table",
    "localise",
    "measure",
    "over_training",
    "randomisation",
    "reconstruct",
    "reconstruction_figure",
]
