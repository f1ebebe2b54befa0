"""How a draw of `scxr.augment` becomes pixels: the stages that follow one another.

All take and give (B, 1, H, W) float32 on any device, with one number an image.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

TAILS = 4.0  # a Gaussian's tails beyond so many standard deviations weigh less than 1e-4


def to_float(images: Tensor) -> Tensor:
    """Grey values in [0, 1] as float32, from uint8 or from any float."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def block_sizes(height: int, size: int, width: Tensor) -> Tensor:
    """(B,) int64: the side of the blocks of pixels that `resample` should average.

    Args:
        height: of the pictures, pixels.
        size: of the views, pixels.
        width: (B,) what the view shows of the picture, as a share of its side.
    """
    return (height / size * width).round().clamp(min=1).long()


def resample(images: Tensor, maps: Tensor, size: int, block: int = 1) -> Tensor:
    """Crop, rotation and flip in one bilinear resampling; black beyond the picture.

    Where a view has far fewer pixels than what it shows, whole blocks of pixels are averaged
    first: bilinear resampling reads four, would skip the rest and alias.

    Args:
        images: (B, 1, H, H).
        maps: (B, 2, 3) from the view's coordinates to the picture's, both in [-1, 1].
        size: height and width of the result, pixels.
        block: side of the blocks, pixels.
    """
    maps = maps.to(images.device, non_blocking=True)
    shift = maps[:, :, 2]
    if block > 1:
        # The last block that the picture does not fill repeats its edge. What was a share of the
        # picture is now a share of something larger with the same top left corner, (-1, -1).
        missing = -images.shape[-1] % block
        share = images.shape[-1] / (images.shape[-1] + missing)
        images = F.pad(images, (0, missing, 0, missing), mode="replicate") if missing else images
        images = _average_blocks(images, block)
        maps, shift = maps * share, (shift + 1) * share - 1
    pixel = (torch.arange(size, device=images.device) * 2 + 1) / size - 1
    # x and y in planes of their own, each an outer sum: a matrix product at every pixel and pairs
    # of coordinates, as affine_grid makes them, cost more than the resampling itself.
    across = maps[:, :, 0, None] * pixel + shift[:, :, None]
    down = maps[:, :, 1, None] * pixel
    grid = (across[:, :, None, :] + down[:, :, :, None]).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _average_blocks(images: Tensor, block: int) -> Tensor:
    """As `F.avg_pool2d`, which is several times as slow on a CPU for pictures of one channel."""
    rows = images[..., ::block, :].clone()
    for start in range(1, block):
        rows += images[..., start::block, :]
    blocks = rows[..., ::block].clone()
    for start in range(1, block):
        blocks += rows[..., start::block]
    return blocks.div_(block**2)


def jitter(views: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Brightness, then contrast about the view's mean, each clamped to [0, 1]; in place.

    Args:
        brightness: (B,) factors, 1 = unchanged.
        contrast: (B,) factors, 1 = unchanged.
    """
    views.mul_(_column(brightness, views)).clamp_(0, 1)
    mean, factor = views.mean(dim=(1, 2, 3), keepdim=True), _column(contrast, views)
    return views.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)


def blur(views: Tensor, sigma: Tensor, width: int) -> Tensor:
    """Gaussian blur, two grouped convolutions; in place.

    Args:
        sigma: (B,) standard deviations, pixels, on the CPU; 0 = none.
        width: of the kernel, pixels, odd; edges are reflected.
    """
    chosen = sigma.nonzero()[:, 0]
    if len(chosen) == 0:
        return views
    sigma = sigma[chosen, None]
    half = min(width // 2, math.ceil(TAILS * float(sigma.max())))
    offsets = torch.arange(-half, half + 1)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=1).to(views.device)  # sums to one
    chosen = chosen.to(views.device)
    # Images as channels, neighbours in memory: what a CPU's convolutions are fast at.
    stack = F.pad(views[chosen], (half, half, half, half), mode="reflect").transpose(0, 1)
    stack = stack.contiguous(memory_format=torch.channels_last)
    stack = F.conv2d(stack, kernel[:, None, None, :], groups=len(kernel))
    stack = F.conv2d(stack, kernel[:, None, :, None], groups=len(kernel))
    return views.index_copy_(0, chosen, stack.transpose(0, 1))


def add_noise(views: Tensor, std: Tensor, source: torch.Generator) -> Tensor:
    """Gaussian noise, then clamped to [0, 1]; in place.

    Args:
        std: (B,) standard deviations, share of the grey range, on the CPU; 0 = none.
        source: on the device of the views.
    """
    if std.any():
        views.addcmul_(_standard_normal(views, source), _column(std, views))
    return views.clamp_(0, 1)


def _standard_normal(like: Tensor, source: torch.Generator) -> Tensor:
    if like.device.type != "cpu":
        return torch.randn(like.shape, generator=source, device=like.device)
    # Sixteen random bits pick a quantile: finer than grey values, and half the time of randn.
    bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64)
    bits.random_(-(2**63), None, generator=source)
    picked = bits.view(torch.int16)[: like.numel()].int() + 2**15
    return _quantiles().index_select(0, picked).view(like.shape)


@cache
def _quantiles() -> Tensor:
    """(65536,) values of equal probability under the standard normal distribution."""
    middles = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    values = torch.special.ndtri(middles)
    return (values / values.std(correction=0)).float()


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device, non_blocking=True)[:, None, None, None]
