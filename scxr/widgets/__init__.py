"""Widgets that work twice: from their saved state on paper, and with real code in a kernel."""

from __future__ import annotations

from scxr.widgets.augmentation import AugmentationWidget
from scxr.widgets.gradcam import GradCamWidget
from scxr.widgets.memory import MemoryWidget
from scxr.widgets.reconstruction import ReconstructionWidget
from scxr.widgets.spectrum import SpectrumWidget

__all__ = [
    "AugmentationWidget",
    "GradCamWidget",
    "MemoryWidget",
    "ReconstructionWidget",
    "SpectrumWidget",
]
