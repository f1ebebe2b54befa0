"""Projection heads: what sits between the encoder and the loss, and is thrown away afterwards."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from scxr.methods.base import full_precision


def mlp(*widths: int, norm: bool) -> nn.Sequential:
    """Linear layers of the given widths with ReLU in between, and batch norm before it if `norm`.

    The last layer is linear and bare, as in MoCo v2 and BarlowTwins.
    """
    layers: list[nn.Module] = []
    pairs = list(pairwise(widths))
    for index, (inputs, outputs) in enumerate(pairs):
        last = index == len(pairs) - 1
        layers.append(nn.Linear(inputs, outputs, bias=last or not norm))
        if not last:
            layers += [nn.BatchNorm1d(outputs)] if norm else []
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class PrototypeHead(nn.Module):
    """DINO's head: an MLP, a bottleneck of unit length, and prototypes of unit length.

    The last layer is weight-normalised with the gain fixed at 1 (Caron et al. 2021,
    arXiv:2104.14294), so that an output is a cosine: written out, since the parametrisation
    hides it.
    """

    def __init__(self, inputs: int, hidden: int, bottleneck: int, prototypes: int, norm: bool):
        super().__init__()
        layers: list[nn.Module] = []
        for width in (inputs, hidden):
            layers.append(nn.Linear(width, hidden))
            layers += [nn.BatchNorm1d(hidden)] if norm else []
            layers.append(nn.GELU())
        layers.append(nn.Linear(hidden, bottleneck))
        self.mlp = nn.Sequential(*layers)
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)

    def forward(self, features: Tensor, *, frozen_prototypes: bool = False) -> Tensor:
        """(B, inputs) -> (B, prototypes), cosines in [-1, 1]."""
        weight = self.prototypes.weight
        weight = weight.detach() if frozen_prototypes else weight
        z = self.mlp(features)
        # Divided by a temperature of 0.04, the rounding of a half-precision cosine would matter.
        with full_precision(z):
            return F.linear(F.normalize(z.float(), dim=1), F.normalize(weight.float(), dim=1))
