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
ALIKE = 0.98
"""Mean cosine above which half precision cannot tell features apart. Below, the effective ranks of
the phantom's features agree to 2 per cent; at 0.998 they differ by up to 16, at 0.9998 by 100."""


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
    return _effective_rank(spectrum(x, centre=True), x)


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
    return _measure(features)[0]


class Monitor:
    """Watches an encoder on a fixed sample of pictures while it is trained.

    Args:
        images: (N, 1, H, W) float in [0, 1], on the encoder's device.
        half: compute the features in bfloat16, at half the cost on processors made for it; yet in
            single precision where images are so alike that the difference would drown (`ALIKE`).
    """

    def __init__(self, images: Tensor, batch_size: int = 256, *, half: bool = False) -> None:
        self.images, self.batch_size, self.half = images, batch_size, half

    @torch.no_grad()
    def features(self, encoder: Encoder, *, half: bool = False) -> Tensor:
        """(N, D) features in eval mode.

        Eval mode matters: batch norm over the current batch can make collapsed features look
        alive.
        """
        training = encoder.training
        encoder.eval()
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=half):
            features = torch.cat([encoder(part) for part in self.images.split(self.batch_size)])
        encoder.train(training)
        return features.float() if half else features

    def rank(self, encoder: Encoder) -> float:
        """`effective_rank` of the encoder's features in single precision, and nothing else."""
        return effective_rank(self.features(encoder))

    def __call__(self, encoder: Encoder) -> dict[str, float | list[float]]:
        """`measure` of the encoder's features, and both spectra."""
        features = self.features(encoder, half=self.half)
        if self.half and mean_cosine(features) > ALIKE:
            features = self.features(encoder)
        numbers, spectra = _measure(features)
        rounded = {k: [float(f"{x:.4g}") for x in v] for k, v in spectra.items()}
        return {**numbers, **rounded}


def _measure(features: Features) -> tuple[dict[str, float], dict[str, Tensor]]:
    """`measure`'s numbers, and the spectra that they come from, which are the dear part."""
    x = _matrix(features)
    unit = torch.nn.functional.normalize(x, dim=1)
    centred, uncentred = spectrum(x, centre=True), spectrum(x, centre=False)
    numbers = {
        "std": float(x.std(dim=0, correction=0).mean()),
        "std_normalised": float(unit.std(dim=0, correction=0).mean()),
        "mean_cosine": mean_cosine(x),
        "effective_rank": _effective_rank(centred, x),
        "rankme": _exp_entropy(uncentred, epsilon=1e-7),
    }
    return numbers, {"spectrum": centred, "spectrum_uncentred": uncentred}


def _effective_rank(values: Tensor, x: Tensor) -> float:
    """From the centred singular values of `x`."""
    # Centring equal rows leaves rounding errors, not zeros, in proportion to the rows: no spread.
    if values.sum() <= 1e-12 * torch.linalg.norm(x):
        return 0.0
    return _exp_entropy(values, epsilon=0.0)


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
