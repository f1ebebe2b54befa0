"""BarlowTwins: the two views' features should correlate dimension by dimension, and only there.

Zbontar et al. 2021, arXiv:2103.03230.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scxr.augment import Augmentation
from scxr.distributed import mean_over_processes
from scxr.encoders import Encoder
from scxr.methods.base import QUICK_VIEWS, Method, Settings, full_precision
from scxr.methods.heads import mlp


def cross_correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """Correlation over the batch of every dimension of `z1` with every dimension of `z2`.

    Uses the BIASED variance (and batch norm's 1e-5), as the paper's affine-free batch norm does;
    with the unbiased one, identical views would not give ones on the diagonal. Over several
    processes it is the correlation over all their images, and gradients reach all of them.

    Args:
        z1, z2: (B, d), projections of two views.

    Returns:
        (d, d), entries in [-1, 1].
    """

    def standardise(z: Tensor) -> Tensor:
        centred = z - mean_over_processes(z.mean(dim=0))
        variance = mean_over_processes(centred.pow(2).mean(dim=0))
        return centred * torch.rsqrt(variance + 1e-5)

    return mean_over_processes(standardise(z1).T @ standardise(z2) / len(z1))


def correlation_terms(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """(d, d) -> invariance: sum of (1 - c_ii)^2, and redundancy: sum of c_ij^2 over i != j."""
    diagonal = torch.diagonal(correlation)
    invariance = (diagonal - 1).pow(2).sum()
    redundancy = correlation.pow(2).sum() - diagonal.pow(2).sum()
    return invariance, redundancy


def barlow_twins_loss(z1: Tensor, z2: Tensor, redundancy: float = 0.005) -> Tensor:
    """The BarlowTwins loss: invariance term + `redundancy` * redundancy term.

    Args:
        z1, z2: (B, d), projections of two views of the same images.
        redundancy: the paper's lambda.

    Returns:
        Scalar, not divided by d.
    """
    invariance, redundant = correlation_terms(cross_correlation(z1, z2))
    return invariance + redundancy * redundant


@dataclass(frozen=True, kw_only=True)
class BarlowSettings(Settings):
    """BarlowTwins' own settings."""

    projection: int = 512
    """Width of all three layers of the projector."""
    redundancy: float = 0.005


class BarlowTwins(Method):
    """One encoder, two views, no negatives, no momentum: the loss does all the work."""

    name = "barlow"
    title = "BarlowTwins"
    presets = {
        "quick": BarlowSettings(
            steps=120,
            lr=1e-3,
            augmentation=QUICK_VIEWS,
        ),
        "full": BarlowSettings(
            image_size=224,
            batch_size=512,
            epochs=200,
            lr=2.4e-3,
            warmup=10 / 200,
            projection=2048,
            augmentation=Augmentation(
                crop_scale=(0.08, 1.0),
                brightness=0.8,
                contrast=0.8,
                blur_sigma=(0.1, 2.0),
                blur_kernel=23,
                noise_std=0.1,
            ),
        ),
    }
    settings: BarlowSettings

    def __init__(self, encoder: Encoder, settings: BarlowSettings) -> None:
        super().__init__(encoder, settings)
        width = settings.projection
        self.projector = mlp(encoder.feature_dim, width, width, width, norm=True)

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        z1, z2 = (self.projector(self.encoder(view)) for view in views)
        with full_precision(z1):
            correlation = cross_correlation(z1.float(), z2.float())
            invariance, redundant = correlation_terms(correlation)
        self.metrics = {"diagonal": torch.diagonal(correlation).mean().detach()}
        return {"invariance": invariance, "redundancy": self.settings.redundancy * redundant}
