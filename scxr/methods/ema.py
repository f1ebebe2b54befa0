"""Exponential moving averages of weights: MoCo's key encoder, DINO's teacher."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """The same weights, never touched by a gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update(average: nn.Module, source: nn.Module, momentum: float) -> None:
    """average <- momentum * average + (1 - momentum) * source, parameter by parameter.

    Buffers (batch-norm statistics) are left alone: the average collects its own from the batches
    that pass through it, as in MoCo and DINO.
    """
    for a, s in zip(average.parameters(), source.parameters(), strict=True):
        a.lerp_(s.to(a.dtype), 1 - momentum)


def cosine_momentum(start: float, progress: float) -> float:
    """From `start` to 1 along a half cosine (BYOL, Grill et al. 2020, arXiv:2006.07733)."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
