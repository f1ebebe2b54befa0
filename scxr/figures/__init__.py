"""Every plot of the book, in one style.

A function takes arrays or a tidy frame and returns a matplotlib `Figure`; none computes a result.
"""

from scxr.figures.curves import (
    collapse_curves,
    distributions,
    fewshot_curves,
    intervals,
    localisation,
    loss_curves,
    published_curves,
    scaling_curve,
    spectrum,
)
from scxr.figures.pictures import (
    cam_grid,
    contact_sheet,
    image_grid,
    localisation_forest,
    reconstruction_grid,
)

__all__ = [
    "cam_grid",
    "collapse_curves",
    "contact_sheet",
    "distributions",
    "fewshot_curves",
    "image_grid",
    "intervals",
    "localisation",
    "localisation_forest",
    "loss_curves",
    "published_curves",
    "reconstruction_grid",
    "scaling_curve",
    "spectrum",
]
