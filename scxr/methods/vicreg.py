"""VICReg: views should agree, dimensions should vary, and no two should say the same.

Bardes et al. 2021, arXiv:2105.04906. No negatives, no momentum, no batch statistics in the loss but
the two that it names. With the covariance or the variance weight at 0 it shows what each term is
there for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from scxr.encoders import Encoder
from scxr.methods.barlow import BarlowTwins
from scxr.methods.base import QUICK_VIEWS, Method, full_precision
from scxr.methods.heads import mlp
from scxr.methods.regularisation import (
    RegularisedSettings,
    Regulariser,
    covariance_penalty,
    variance_hinge,
)


def vicreg_loss(
    z1: Tensor,
    z2: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Tensor:
    """The VICReg loss as its official code has it.

    The code takes the mean of the two views' variance terms where the paper takes their sum, and
    the sum of their covariance terms, as the paper.

    Args:
        z1, z2: (B, d), projections of two views of the same images, not normalised.

    Returns:
        Scalar.
    """
    spread = (variance_hinge(z1) + variance_hinge(z2)) / 2
    redundant = covariance_penalty(z1) + covariance_penalty(z2)
    return invariance * F.mse_loss(z1, z2) + variance * spread + covariance * redundant


@dataclass(frozen=True, kw_only=True)
class VICRegSettings(RegularisedSettings):
    """VICReg's own settings."""

    projection: int = 512
    """Width of all three layers of the projector ("expander")."""
    invariance_weight: float = 25.0
    variance_weight: float = 25.0
    covariance_weight: float = 2.0
    """On the MEAN of the two views' terms: twice the paper's 1, which is on their sum."""


class VICReg(Method):
    """One encoder, two views, three terms."""

    name = "vicreg"
    title = "VICReg"
    presets = {
        "quick": VICRegSettings(steps=120, lr=1e-3, augmentation=QUICK_VIEWS),
        # Not part of the series: its BarlowTwins recipe with this loss.
        "full": VICRegSettings(
            image_size=224,
            batch_size=512,
            epochs=200,
            warmup=10 / 200,
            projection=2048,
            augmentation=BarlowTwins.presets["full"].augmentation,
        ),
    }
    settings: VICRegSettings

    def __init__(self, encoder: Encoder, settings: VICRegSettings) -> None:
        super().__init__(encoder, settings)
        width = settings.projection
        self.projector = mlp(encoder.feature_dim, width, width, width, norm=True)
        self.regulariser = Regulariser(settings)
        self.control_every = settings.control_every if settings.control == "rank" else None

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        z1, z2 = (self.projector(self.encoder(view)) for view in views)
        with full_precision(z1):
            z1, z2 = z1.float(), z2.float()
            terms = {"invariance": self.settings.invariance_weight * F.mse_loss(z1, z2)}
            terms |= self.regulariser(z1, z2)
        if self.settings.control == "rank":
            self.metrics = {"strength": self.regulariser.strength.clone()}
        return terms

    def hold_rank(self, rank: float) -> None:
        self.regulariser.hold(rank)
