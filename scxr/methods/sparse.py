"""A ResNet that never looks at masked pixels, in plain PyTorch.

SparK (Tian et al. 2023, arXiv:2301.03580) computes convolutions only where the picture is
visible. Dense convolutions do the same if their output is masked after every layer and batch norm
takes its statistics from visible positions alone: masked positions are zero whenever the next
kernel slides over them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scxr.encoders import Encoder


def visible_at(visible: Tensor, like: Tensor) -> Tensor:
    """(B, 1, gh, gw) visibility of patches -> (B, 1, h, w) at the resolution of `like`."""
    return F.interpolate(visible, like.shape[-2:], mode="nearest")


def masked_batch_norm(norm: nn.BatchNorm2d, x: Tensor, visible: Tensor) -> Tensor:
    """Batch norm whose statistics come from visible positions; masked positions come out as 0.

    Args:
        x: (B, C, h, w).
        visible: (B, 1, h, w), 1 = visible, 0 = masked.
    """
    x = x.float()
    if norm.training:
        count = visible.sum()
        mean = (x * visible).sum(dim=(0, 2, 3)) / count
        centred = x - mean[:, None, None]
        var = (centred.pow(2) * visible).sum(dim=(0, 2, 3)) / count
        with torch.no_grad():
            share = norm.momentum if norm.momentum is not None else 0.1
            norm.running_mean.lerp_(mean, share)  # type: ignore[union-attr]
            norm.running_var.lerp_(var * count / (count - 1).clamp(min=1), share)  # type: ignore[union-attr]
            norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
    else:
        mean, var = norm.running_mean, norm.running_var  # type: ignore[assignment]
        centred = x - mean[:, None, None]
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return (centred * scale[:, None, None] + norm.bias[:, None, None]) * visible


def sparse_stages(encoder: Encoder, images: Tensor, visible: Tensor) -> list[Tensor]:
    """As `Encoder.stages`, but nothing in the maps depends on a masked pixel.

    Args:
        images: (B, 1, H, W), in [0, 1].
        visible: (B, 1, gh, gw) float, 1 = visible. The grid must be no finer than the deepest map.

    Returns:
        Four maps, zero at masked positions.
    """

    def conv_norm(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
        y = conv(x)
        at = visible_at(visible, y)
        return masked_batch_norm(norm, y * at, at)  # type: ignore[arg-type]

    def stem(x: Tensor) -> Tensor:
        x = trunk.maxpool(F.relu(conv_norm(trunk.conv1, trunk.bn1, x)))
        return x * visible_at(visible, x)  # pooling reaches over the edge of a patch

    def residual(block: Any, x: Tensor) -> Tensor:
        y = x
        layers = [n for n in ("1", "2", "3") if hasattr(block, f"conv{n}")]
        for n in layers:
            y = conv_norm(getattr(block, f"conv{n}"), getattr(block, f"bn{n}"), y)
            if n != layers[-1]:
                y = F.relu(y)
        shortcut = x
        if block.downsample is not None:
            shortcut = conv_norm(block.downsample[0], block.downsample[1], x)
        return F.relu(y + shortcut)

    trunk = encoder.trunk
    x = encoder.normalise(images)
    x = encoder.run(stem, x * visible_at(visible, x))
    maps = []
    for stage in encoder.residual_stages():
        for block in stage:
            x = encoder.run(partial(residual, block), x)
        maps.append(x)
    return maps
