"""SparK: hide patches of the radiograph and paint them in.

Tian et al. 2023, arXiv:2301.03580: masked image modelling for convolutional networks. Two forms:
"input" masks the picture once and lets ordinary convolutions bleed over the edges (the series'
short cut); "sparse" masks after every layer, as the paper does (see `sparse`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scxr.augment import Augmentation
from scxr.distributed import processes, rank
from scxr.encoders import RESNETS, Encoder
from scxr.errors import InputError
from scxr.methods.base import Method, Settings, full_precision, random_view
from scxr.methods.sparse import masked_batch_norm, sparse_stages, visible_at
from scxr.seeds import generator as named_generator


def patch_statistics(images: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every patch, spread over its pixels.

    Unbiased variance + 1e-6 under the root, as in MAE (He et al. 2021, arXiv:2111.06377).

    Args:
        images: (B, 1, H, W), H and W multiples of `patch_size`.

    Returns:
        Two tensors (B, 1, H, W).
    """
    n = patch_size * patch_size
    mean = F.avg_pool2d(images, patch_size)
    spread = F.interpolate(mean, scale_factor=float(patch_size), mode="nearest")
    var = F.avg_pool2d((images - spread).pow(2), patch_size) * n / (n - 1)
    std = F.interpolate((var + 1e-6).sqrt(), scale_factor=float(patch_size), mode="nearest")
    return spread, std


def masked_patch_mse(prediction: Tensor, images: Tensor, mask: Tensor, patch_size: int) -> Tensor:
    """Mean squared error on masked patches, each target patch scaled to mean 0 and variance 1.

    Args:
        prediction: (B, 1, H, W), in the scaled space.
        images: (B, 1, H, W), the unmasked pictures.
        mask: (B, H / patch_size, W / patch_size), boolean, True = masked.

    Returns:
        Scalar, mean over masked pixels; about 1 for a prediction of 0.
    """
    mean, std = patch_statistics(images, patch_size)
    error = (prediction - (images - mean) / std).pow(2)
    masked = F.interpolate(mask[:, None].to(error.dtype), error.shape[-2:], mode="nearest")
    return (error * masked).sum() / masked.sum()


def random_mask(
    batch: int, grid: int, ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    """(B, grid, grid) boolean, True = masked: int(ratio * grid^2) random patches an image."""
    count = int(ratio * grid * grid)
    order = torch.rand(batch, grid * grid, generator=generator).argsort(dim=1)
    return (order.argsort(dim=1) < count).view(batch, grid, grid)


@dataclass(frozen=True, kw_only=True)
class SparKSettings(Settings):
    """SparK's own settings."""

    form: str = "input"
    """"input" (mask the picture) or "sparse" (mask after every layer)."""
    patch_size: int = 8
    mask_ratio: float = 0.6
    decoder_width: int = 128
    """Channels at the decoder's coarsest stage; halved at every step up."""
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            crop_scale=(0.6, 1.0), rotation=10, blur_p=0.0, noise_std=0.0
        )
    )


class Decoder(nn.Module):
    """A light U-Net: from the deepest map up to the picture, with the shallower maps as skips."""

    def __init__(self, channels: list[int], width: int, upsampling: int) -> None:
        super().__init__()
        widths = [max(width // 2**i, 16) for i in range(len(channels))]
        deep_to_shallow = channels[::-1]
        self.lateral = nn.ModuleList(
            nn.Conv2d(c, w, kernel_size=1) for c, w in zip(deep_to_shallow, widths, strict=True)
        )
        self.up = nn.ModuleList(_conv_norm_relu(a, b) for a, b in pairwise(widths))
        self.top = _conv_norm_relu(widths[-1], widths[-1])
        self.out = nn.Conv2d(widths[-1], 1, kernel_size=1)
        self.upsampling = upsampling

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Four maps, shallow to deep -> (B, 1, H, W)."""
        laterals = [f(m) for f, m in zip(self.lateral, maps[::-1], strict=True)]
        x = laterals[0]
        for up, lateral in zip(self.up, laterals[1:], strict=True):
            x = F.interpolate(x, lateral.shape[-2:], mode="bilinear", align_corners=False)
            x = up(x) + lateral
        x = F.interpolate(
            x, scale_factor=float(self.upsampling), mode="bilinear", align_corners=False
        )
        return self.out(self.top(x))


class Densify(nn.Module):
    """From a sparse map to a dense one: normalised over what is visible, holes filled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.mask_token = nn.Parameter(torch.randn(channels) * 0.02)

    def forward(self, sparse: Tensor, visible: Tensor) -> Tensor:
        """(B, C, h, w) and the visibility of patches (B, 1, gh, gw) -> (B, C, h, w)."""
        at = visible_at(visible, sparse)
        normed = masked_batch_norm(self.norm, sparse, at)
        return torch.where(at.bool(), normed, self.mask_token[:, None, None].to(normed.dtype))


def _conv_norm_relu(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


QUICK = SparKSettings(steps=130, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)

SERIES = SparKSettings(
    backbone="resnet50",
    image_size=224,
    batch_size=256,
    epochs=200,
    lr=3e-4,
    warmup=20 / 200,
    weight_decay=0.05,
    betas=(0.9, 0.95),
    patch_size=32,
    decoder_width=256,
    augmentation=Augmentation(
        crop_scale=(0.2, 1.0),
        brightness=0.8,
        contrast=0.8,
        blur_p=0.0,
        noise_std=0.05,
    ),
)

# The paper's form and views on the series' budget; AdamW stands in for the paper's LAMB.
PAPER = replace(
    SERIES,
    form="sparse",
    augmentation=replace(
        SERIES.augmentation,
        crop_scale=(0.67, 1.0),
        rotation=0.0,
        brightness=0.0,
        contrast=0.0,
        noise_std=0.0,
    ),
)


class SparK(Method):
    """Reconstruct what was hidden; no views to compare, so nothing is made invariant."""

    name = "spark"
    title = "SparK"
    presets = {"quick": QUICK, "full": SERIES, "paper": PAPER}
    settings: SparKSettings

    def __init__(self, encoder: Encoder, settings: SparKSettings) -> None:
        super().__init__(encoder, settings)
        s = settings
        if encoder.name not in RESNETS:
            raise InputError(
                f"SparK masks between convolutions, and {encoder.name} has none: choose the "
                f"backbone from {', '.join(RESNETS)}."
            )
        upsampling = 2 if s.stem == "no-maxpool" else 4
        if s.image_size % s.patch_size:
            raise InputError(
                f"patch_size {s.patch_size} does not divide image_size {s.image_size}."
            )
        if s.form not in ("input", "sparse"):
            raise InputError(f"form is {s.form!r}: choose input or sparse.")
        if s.form == "sparse" and s.patch_size % (8 * upsampling):
            raise InputError(
                f"The sparse form needs patches that are whole pixels of the deepest map: "
                f"patch_size {s.patch_size} is no multiple of {8 * upsampling}."
            )
        self.grid = s.image_size // s.patch_size
        if not 0 < int(s.mask_ratio * self.grid**2) < self.grid**2:
            raise InputError(
                f"mask_ratio {s.mask_ratio} hides none or all of the {self.grid**2} patches: "
                f"choose one between, or smaller patches."
            )
        channels = [encoder.feature_dim // 2**i for i in (3, 2, 1, 0)]
        self.decoder = Decoder(channels, s.decoder_width, upsampling)
        self.densify = nn.ModuleList(Densify(c) for c in channels if s.form == "sparse")

    def views(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        """One augmented picture (B, 1, H, H), and its mask (B, grid, grid), True = masked."""
        s = self.settings
        masks = random_mask(len(images) * processes(), self.grid, s.mask_ratio, generator)
        mask = masks.chunk(processes())[rank()]
        view = random_view(images, s.augmentation, s.image_size, generator)
        return [view, mask.to(images.device)]

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        images, mask = views
        prediction = self.predict(images, mask)
        with full_precision(prediction):
            loss = masked_patch_mse(
                prediction.float(), images.float(), mask, self.settings.patch_size
            )
        return {"reconstruction": loss}

    def predict(self, images: Tensor, mask: Tensor) -> Tensor:
        """What the network paints, everywhere, in the patches' own scale.

        Args:
            images: (B, 1, H, W), in [0, 1]; masked pixels are not looked at.
            mask: (B, grid, grid), boolean, True = masked.

        Returns:
            (B, 1, H, W); times a patch's standard deviation plus its mean gives grey values.
        """
        visible = (~mask[:, None]).to(images.dtype)
        if self.settings.form == "sparse":
            stages = sparse_stages(self.encoder, images, visible)
            maps = [fill(m, visible) for fill, m in zip(self.densify, stages, strict=True)]
        else:
            x = self.encoder.normalise(images)
            maps = self.encoder.stages(x * visible_at(visible, x), normalised=True)
        return self.decoder(maps)

    @torch.no_grad()
    def snapshot(self, images: Tensor) -> dict[str, Tensor]:
        """Reconstructions of fixed pictures under fixed masks, for looking back at training."""
        mask = random_mask(
            len(images), self.grid, self.settings.mask_ratio, named_generator(0, "snapshot")
        ).to(images.device)
        training = self.training
        self.eval()
        prediction = self.predict(images, mask).float()
        self.train(training)
        return {"images": images[:, 0], "mask": mask, "prediction": prediction[:, 0]}
