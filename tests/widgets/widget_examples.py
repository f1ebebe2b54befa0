"""What the widgets of these tests show: small, made by the real code, with known answers.

Also imported by the notebook that a test opens in JupyterLab, so that the kernel and the test make
the same widgets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from scxr.augment import Augmentation
from scxr.collapse import measure, spectrum
from scxr.data.phantom import generate
from scxr.encoders import build_encoder
from scxr.evaluate.heads import LinearHead
from scxr.explain.gradcam import class_activation_maps
from scxr.seeds import generator
from scxr.widgets import AugmentationWidget, GradCamWidget

SIZE, PATCH = 64, 16
SETTINGS = Augmentation(crop_scale=(0.2, 1.0), rotation=10, blur_sigma=(0.1, 2.0), noise_std=0.1)
LABELS = ["pulmonary mass", "hiatal hernia"]


def chests() -> dict[str, Any]:
    """Two phantoms with one focal finding each: images, masks and labels."""
    batch = generate(range(16), size=SIZE, hospital="B", seed=0)
    findings = batch.table["findings"].to_numpy()
    rows = [int(np.flatnonzero(findings == label)[0]) for label in LABELS]
    masks = {
        label: batch.masks[label][rows] & (findings[rows] == label)[:, None, None]
        for label in LABELS
    }
    return {"images": batch.images[rows], "masks": masks, "labels": LABELS}


def augmentations(chests: dict[str, Any]) -> AugmentationWidget:
    """Both phantoms under a method's augmentation, with two random pairs."""
    return AugmentationWidget(
        chests["images"], chests["masks"], chests["labels"], SETTINGS, pairs=2
    )


def explained(chests: dict[str, Any]) -> GradCamWidget:
    """Random probes of an untrained network, which also explain a picture of the reader's own."""
    encoder = build_encoder("resnet18", image_size=SIZE, mean=0.5, std=0.25, seed=0).eval()
    draw = generator(0, "probes")
    heads = {f: LinearHead(torch.randn(512, generator=draw).numpy(), 0.0) for f in LABELS}

    def maps(images: np.ndarray, stage: str, finding: str) -> np.ndarray:
        pictures = torch.from_numpy(images)[:, None]
        return class_activation_maps(encoder, heads[finding], pictures, stage)

    def explain(image: np.ndarray, init: str, stage: str, finding: str) -> np.ndarray:
        return maps(image[None], stage, finding)[0]

    cams = {
        ("random", stage, finding): maps(chests["images"], stage, finding)
        for stage in ("layer3", "layer4")
        for finding in LABELS
    }
    return GradCamWidget(chests["images"], cams, chests["masks"], explain=explain)


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
