"""What the widgets of these tests show: small, made by the real code, with known answers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scxr.augment import Augmentation
from scxr.collapse import measure, spectrum

SIZE, PATCH = 64, 16
SETTINGS = Augmentation(crop_scale=(0.2, 1.0), rotation=10, blur_sigma=(0.1, 2.0), noise_std=0.1)


def monitor_rows(seed: int, decay: float, dimensions: int = 32, rows: int = 5) -> pd.DataFrame:
    """Measurements of features that lose directions and gain a common mean, step by step."""
    source = np.random.default_rng(seed)
    base, mean = source.normal(size=(64, dimensions)), source.normal(size=dimensions)
    out = []
    for row in range(rows):
        scale = np.exp(-decay * row * np.arange(dimensions) / dimensions)
        features = base * scale + row * decay * mean
        out.append(
            {
                "step": 10 * row,
                "epoch": 0.5 * row,
                "loss": 5.0 - row,
                **measure(features),
                "spectrum": spectrum(features).tolist(),
                "spectrum_uncentred": spectrum(features, centre=False).tolist(),
            }
        )
    return pd.DataFrame(out)


def bump(x: float, y: float, width: float) -> np.ndarray:
    """A heat map (SIZE, SIZE) with its peak at a pixel."""
    grid = np.arange(SIZE)
    return np.exp(
        -((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * width**2), dtype=np.float32
    )
