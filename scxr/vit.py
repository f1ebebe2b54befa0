"""A Vision Transformer in the shape of a ResNet: a stem, four stages, maps in, maps out.

Dosovitskiy et al. 2020, arXiv:2010.11929, in the plain form of Beyer et al. 2022, arXiv:2205.01580:
fixed sine-cosine positions, features averaged over all patches, no class token. The attention
blocks are torchvision's. Every block takes and gives a map (B, C, h, w), so that whatever looks at
the stages of a ResNet (Grad-CAM, fine-tuning, checkpointing, the memory count) can look at these.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock

from scxr.errors import InputError

VITS = {"vit_tiny": (192, 3), "vit_small": (384, 6)}
"""Width and attention heads (Touvron et al. 2020, arXiv:2012.12877); both have twelve blocks."""
PATCHES = {"patch4": 4, "patch8": 8, "patch16": 16}
BLOCKS = 3  # in each of the four stages


def patch_size(stem: str, image_size: int) -> int:
    """Side of a patch, pixels. The default stem, "imagenet", takes the 16 of the papers, and 8 for
    pictures below 128 px, which would otherwise be few patches.

    Raises:
        InputError: an unknown stem, or one whose patches do not fill the picture.
    """
    if stem not in ("imagenet", *PATCHES):
        raise InputError(
            f"Unknown stem {stem!r} of a Vision Transformer: choose from imagenet, "
            f"{', '.join(PATCHES)}."
        )
    side = PATCHES.get(stem, 16 if image_size >= 128 else 8)
    _require_patches(side, image_size)
    return side


class VisionTransformer(nn.Module):
    """What an `Encoder` calls its trunk: the stem's modules, then `layer1` to `layer4`.

    Attributes:
        patches: a linear map of every patch, written as a convolution.
        positions: adds what tells one place from another.
        layer1, layer2, layer3, layer4: three blocks each; behind the last one a layer norm.
    """

    def __init__(self, name: str, *, image_size: int, stem: str) -> None:
        super().__init__()
        width, heads = VITS[name]
        side = patch_size(stem, image_size)
        self.patches = Patches(width, side)
        self.positions = Positions(width, image_size // side)
        for stage in range(1, 5):
            blocks: list[nn.Module] = [Block(width, heads) for _ in range(BLOCKS)]
            if stage == 4:
                blocks.append(MapNorm(width))
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))


class Patches(nn.Conv2d):
    """(B, 1, H, W) -> (B, C, H / side, W / side)."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__(1, width, kernel_size=side, stride=side)
        nn.init.trunc_normal_(self.weight, std=1 / side)  # 1 / sqrt(inputs), as in torchvision
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        for side in images.shape[-2:]:
            _require_patches(self.kernel_size[0], side)
        return super().forward(images)


class Positions(nn.Module):
    """Adds sines and cosines of a patch's place, (B, C, h, w) -> the same.

    A picture of another size has its patches at places in between, or farther apart, on the same
    `grid` x `grid` field: what DINO and others reach by interpolating learned positions.
    """

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.width, self.grid = width, grid

    def forward(self, maps: Tensor) -> Tensor:
        h, w = maps.shape[-2:]
        return maps + sine_cosine(self.width, h, w, self.grid).to(maps)


def sine_cosine(width: int, h: int, w: int, grid: int) -> Tensor:
    """Positions of h x w patches spread over a field of `grid` x `grid`.

    The form of MoCo v3 (Chen et al. 2021, arXiv:2104.02057): a quarter of the channels each for
    sine and cosine of x, and of y, with wavelengths from 2 pi to 20,000 pi patches.

    Returns:
        (width, h, w), entries in [-1, 1]. At h = w = grid, patch i lies at place i.
    """
    quarter = width // 4
    frequencies = 10_000.0 ** (-torch.arange(quarter) / quarter)

    def waves(n: int) -> tuple[Tensor, Tensor]:
        places = (torch.arange(n) + 0.5) * grid / n - 0.5
        angles = frequencies[:, None] * places
        return angles.sin(), angles.cos()

    across = [wave[:, None, :].expand(quarter, h, w) for wave in waves(w)]
    down = [wave[:, :, None].expand(quarter, h, w) for wave in waves(h)]
    return torch.cat([*across, *down])


class Block(EncoderBlock):
    """torchvision's attention block on a map: (B, C, h, w) -> (B, C, h, w), patches as tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(heads, width, 4 * width, dropout=0.0, attention_dropout=0.0)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = super().forward(maps.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, maps.shape[-2:])


class MapNorm(nn.LayerNorm):
    """Layer norm over the channels of every place of a map (B, C, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


def _require_patches(side: int, image_size: int) -> None:
    if image_size < side or image_size % side:
        near = max(side, math.floor(image_size / side) * side)
        raise InputError(
            f"Pictures of {image_size} px cannot be cut into patches of {side}: set the size to "
            f"{near}, or another patch with stem."
        )
