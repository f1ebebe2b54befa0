"""How many directions do the features use? The numbers that tell collapse from learning.

No single one tells the truth: the effective rank is blind to what all images share (it centres
first), the cosine sees nothing else, and the raw standard deviation moves with the scale of the
last layer. Read them together.

- effective rank: Roy and Vetterli 2007, "The effective rank", EUSIPCO.
- RankMe: Garrido et al. 2023, arXiv:2210.02885.
- standard deviation of normalised features: Chen and He 2020 (SimSiam), arXiv:2011.10566.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from scxr.encoders import Encoder
from scxr.errors import InputError

Features = Tensor | np.ndarray


def spectrum(features: Features, *, centre: bool = True) -> Tensor:
    """Singular values of the features, largest first.

    Args:
        features: (N, D), one row an image.
        centre: subtract the mean feature first. Without it, the first value holds what all images
            have in common.

    Returns:
        (min(N, D),), float64, on the CPU.
    """
    x = _matrix(features)
    return torch.linalg.svdvals(x - x.mean(dim=0) if centre else x)


def effective_rank(features: Features) -> float:
    """exp(entropy of the centred, normalised singular values), from 1 to min(N - 1, D).

    Constant features have no direction at all; their effective rank is 0.
    """
    x = _matrix(features)
    values = spectrum(x, centre=True)
    # Centring equal rows leaves rounding errors, not zeros, in proportion to the rows: no spread.
    if values.sum() <= 1e-12 * torch.linalg.norm(x):
        return 0.0
    return _exp_entropy(values, epsilon=0.0)


def rankme(features: Features) -> float:
    """RankMe: as the effective rank, but uncentred, as its paper has it; from 1 to min(N, D)."""
    return _exp_entropy(spectrum(features, centre=False), epsilon=1e-7)


def mean_cosine(features: Features) -> float:
    """Mean cosine similarity over all pairs of different images; 1 where all point one way."""
    x = torch.nn.functional.normalize(_matrix(features), dim=1)
    n = len(x)
    # |sum of unit vectors|^2 counts every ordered pair once and every vector with itself.
    return float((x.sum(dim=0).pow(2).sum() - x.pow(2).sum()) / (n * (n - 1)))


def measure(features: Features) -> dict[str, float]:
    """All of the monitor's numbers at once.

    Returns:
        std: standard deviation over images, mean over dimensions, of the features as they are.
        std_normalised: the same after scaling every feature to length 1; about 1/sqrt(D) when the
            directions are spread evenly, 0 when all images share one.
        mean_cosine, effective_rank, rankme: see the functions.
    """
    x = _matrix(features)
    unit = torch.nn.functional.normalize(x, dim=1)
    return {
        "std": float(x.std(dim=0, correction=0).mean()),
        "std_normalised": float(unit.std(dim=0, correction=0).mean()),
        "mean_cosine": mean_cosine(x),
        "effective_rank": effective_rank(x),
        "rankme": rankme(x),
    }


class Monitor:
    """Watches an encoder on a fixed sample of pictures while it is trained.

    Args:
        images: (N, 1, H, W) float in [0, 1], on the encoder's device.
    """

    def __init__(self, images: Tensor, batch_size: int = 256) -> None:
        self.images, self.batch_size = images, batch_size

    @torch.no_grad()
    def features(self, encoder: Encoder) -> Tensor:
        """(N, D) features in eval mode.

        Eval mode matters: batch norm over the current batch can make collapsed features look
        alive.
        """
        training = encoder.training
        encoder.eval()
        features = torch.cat([encoder(part) for part in self.images.split(self.batch_size)])
        encoder.train(training)
        return features

    def rank(self, encoder: Encoder) -> float:
        """`effective_rank` of the encoder's features, and nothing else."""
        return effective_rank(self.features(encoder))

    def __call__(self, encoder: Encoder) -> dict[str, float | list[float]]:
        """`measure` of the encoder's features, and both spectra."""
        features = self.features(encoder)
        spectra = {
            "spectrum": spectrum(features, centre=True),
            "spectrum_uncentred": spectrum(features, centre=False),
        }
        rounded = {k: [float(f"{x:.4g}") for x in v] for k, v in spectra.items()}
        return {**measure(features), **rounded}


def _matrix(features: Features) -> Tensor:
    x = torch.as_tensor(features).detach().double().cpu()
    if x.ndim != 2 or len(x) < 2:
        raise InputError(f"Features must be (N, D) with N >= 2 images, got {tuple(x.shape)}.")
    if not torch.isfinite(x).all():
        raise InputError("The features hold NaN or infinity: the network has diverged.")
    return x


def _exp_entropy(values: Tensor, epsilon: float) -> float:
    total = values.sum()
    if total == 0:
        return 0.0
    p = values / total + epsilon
    return float(torch.special.entr(p).sum().exp())
