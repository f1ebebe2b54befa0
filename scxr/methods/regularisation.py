"""What keeps features spread out: VICReg's variance and covariance terms, and how hard they push.

Variance and covariance follow VICReg (Bardes et al. 2021, arXiv:2105.04906). Letting a measured
rank decide their weight has prior art: AdaDim (Kokilepersaud et al. 2025, arXiv:2505.12576) weighs
its losses by an effective rank, WERank (Pasand et al. 2024, arXiv:2402.09586) adds a term for it,
and Hassanpour et al. 2024 meet the collapse in MoCo on medical images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scxr.distributed import mean_over_processes, processes
from scxr.errors import InputError
from scxr.methods.base import Settings


def variance_hinge(z: Tensor, target: float = 1.0) -> Tensor:
    """VICReg's variance term: how far the dimensions' standard deviations fall short of `target`.

    Args:
        z: (B, d), not normalised.

    Returns:
        Scalar: mean over dimensions of max(0, target - std), with the unbiased variance and
        VICReg's 1e-4 under the root. Over several processes, the std is that of all their images.
    """
    n = len(z) * processes()
    centred = z - mean_over_processes(z.mean(dim=0))
    variance = mean_over_processes(centred.pow(2).mean(dim=0)) * n / (n - 1)
    return F.relu(target - torch.sqrt(variance + 1e-4)).mean()


def covariance_penalty(z: Tensor) -> Tensor:
    """VICReg's covariance term: squared covariances of different dimensions, summed, over d.

    The variance term alone is content when all dimensions say the same; this one is not.

    Args:
        z: (B, d), not normalised.

    Returns:
        Scalar. Over several processes, the covariance is that of all their images.
    """
    n = len(z) * processes()
    centred = z - mean_over_processes(z.mean(dim=0))
    covariance = mean_over_processes(centred.T @ centred / len(z)) * n / (n - 1)
    return (covariance.pow(2).sum() - covariance.diagonal().pow(2).sum()) / z.shape[1]


@dataclass(frozen=True, kw_only=True)
class RegularisedSettings(Settings):
    """Settings of a method that can be kept from collapsing by variance and covariance terms."""

    variance_weight: float = 0.0
    """Weight of `variance_hinge` on projections before normalisation."""
    covariance_weight: float = 0.0
    """Weight of `covariance_penalty` on the same."""
    control: str = "none"
    """"rank" lets the measured effective rank raise and lower both weights; "none" fixes them."""
    target_rank: float = 32.0
    """Effective rank of the encoder's features that the control holds, at least 1."""
    control_every: int = 20
    """Steps between two looks at the rank."""
    control_gain: float = 0.5
    """How much the variance weight rises at a look that finds the target's e-th part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control not in ("none", "rank"):
            raise InputError(f"control is {self.control!r}: choose none or rank.")
        if self.target_rank < 1:
            raise InputError(f"target_rank is {self.target_rank}, but a rank is at least 1.")
        if self.control_every < 1:
            raise InputError(f"control_every is {self.control_every}, but must be at least 1 step.")
        for name in ("variance_weight", "covariance_weight", "control_gain"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}, but must not be negative.")


COVARIANCE_SHARE = 1 / 25
"""Of the controlled weight, what the covariance term gets: VICReg's own proportion."""


class Regulariser(nn.Module):
    """The variance and covariance terms with their weights, fixed or held by a rank control.

    The control is an integrator: at every look the weight grows by gain * ln(target / rank), and
    never falls below 0. It rests only where the rank is the target, or where the features hold a
    higher rank by themselves.

    Attributes:
        strength: what the control adds to the weights; a buffer, since an interrupted run has to
            go on with it.
    """

    strength: Tensor

    def __init__(self, settings: RegularisedSettings) -> None:
        super().__init__()
        self.settings = settings
        if settings.control == "rank":
            self.register_buffer("strength", torch.zeros(()))

    def forward(self, *projections: Tensor) -> dict[str, Tensor]:
        """Weighted terms by name, the mean over `projections`, each (B, d), not normalised."""
        s, controlled = self.settings, self.settings.control == "rank"
        added: Tensor | float = self.strength if controlled else 0.0
        terms = {}
        if s.variance_weight > 0 or controlled:
            variance = torch.stack([variance_hinge(z) for z in projections]).mean()
            terms["variance"] = (s.variance_weight + added) * variance
        if s.covariance_weight > 0 or controlled:
            covariance = torch.stack([covariance_penalty(z) for z in projections]).mean()
            terms["covariance"] = (s.covariance_weight + added * COVARIANCE_SHARE) * covariance
        return terms

    @torch.no_grad()
    def hold(self, rank: float) -> None:
        """Change the weight after a look at the rank of the encoder's features in eval mode."""
        error = math.log(self.settings.target_rank / max(rank, 1e-3))
        self.strength.add_(self.settings.control_gain * error).clamp_(min=0)
