"""Linear heads on L2-normalised features: as numbers for the probe, as a module for gradients.

Both forms carry the normalisation with them. What was fitted on unit-length features can
therefore not be scored, or explained, on raw ones by mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scxr.encoders import Encoder
from scxr.errors import InputError


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier on L2-normalised features; the normalisation is part of it.

    Attributes:
        weights: (D,) for unit-length features.
        bias: added to the product; a score of 0 is the decision boundary.
        strength: the C of the logistic regression that it comes from, if it does.
    """

    weights: np.ndarray
    bias: float
    strength: float | None = None

    def score(self, features: np.ndarray) -> np.ndarray:
        """(n, D) raw features -> (n,) log odds of the finding."""
        if features.ndim != 2 or features.shape[1] != len(self.weights):
            raise InputError(
                f"The head was fitted on {len(self.weights)} features, but got an array of shape "
                f"{features.shape}: use the encoder and the stage that it was fitted with."
            )
        return l2_normalise(features) @ self.weights + self.bias


def l2_normalise(features: np.ndarray) -> np.ndarray:
    """Rows scaled to unit length, (n, D); a row of zeros stays zero."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, 1e-12)


class Classifier(nn.Module):
    """An encoder with a linear head on its L2-normalised features; pictures in, log odds out.

    Attributes:
        encoder: pictures (B, 1, H, W) in [0, 1] to features (B, D).
        head: linear, D to 1.
    """

    def __init__(self, encoder: Encoder, head: LinearHead) -> None:
        super().__init__()
        if len(head.weights) != encoder.feature_dim:
            raise InputError(
                f"A head for {len(head.weights)} features does not fit an encoder with "
                f"{encoder.feature_dim}: use the encoder and the stage that it was fitted on."
            )
        self.encoder = encoder
        self.head = nn.Linear(encoder.feature_dim, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(np.asarray(head.weights, dtype=np.float32)))
            self.head.bias.fill_(head.bias)

    def judge(self, features: Tensor) -> Tensor:
        """Raw features (B, D) -> log odds (B, 1)."""
        return self.head(F.normalize(features, dim=1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> (B, 1) log odds of the finding."""
        return self.judge(self.encoder(images))

    @torch.inference_mode()
    def score(self, images: Tensor, batch_size: int = 256) -> np.ndarray:
        """(n, 1, H, W) in [0, 1] -> (n,) log odds, in evaluation mode."""
        self.eval()
        device = self.head.weight.device
        parts = [self(part.to(device)).float().cpu() for part in images.split(batch_size)]
        return torch.cat(parts)[:, 0].numpy()


def prototype_head(features: np.ndarray, labels: np.ndarray) -> LinearHead:
    """The head that scores the two classes' mean unit features +1 and -1.

    Args:
        features: (n, D) raw.
        labels: (n,) 0 or 1.
    """
    unit = l2_normalise(features)
    positive, negative = unit[labels == 1].mean(axis=0), unit[labels == 0].mean(axis=0)
    gap = positive - negative
    weights = 2 * gap / max(float(gap @ gap), 1e-12)
    return LinearHead(weights, -float(weights @ (positive + negative)) / 2)
