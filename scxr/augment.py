"""Random views of radiographs, drawn per image and computed per batch, on whatever device.

Crop, rotation and flip are one affine map and cost one resampling; brightness, contrast, blur
and noise follow. `draw` decides, `apply` computes: what was drawn can be inspected, replayed,
or set by hand, and a mask can be sent through the same geometry with `warp`.

Every augmentation stands for something that differs between two exposures of the same chest
and says nothing about disease; `Augmentation` gives the reason beside each setting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from scxr import transforms
from scxr.errors import InputError
from scxr.threads import each

PIXELS = 2**19  # of the pictures that one core works on at a time: what its cache holds


@dataclass(frozen=True)
class Augmentation:
    """What may be drawn, and how often. All sizes are relative, except the blur's (pixels)."""

    crop_scale: tuple[float, float] = (0.4, 1.0)
    """Share of the picture's area that a view shows: collimation and patient size differ, and a
    network that compares two crops has to recognise anatomy, not the frame."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the crop: detector formats and squashed pictures differ."""
    flip: float = 0.5
    """Probability of a left-right flip. It is cheap variety, but not innocent: the heart is on
    the left, and a finding that has a side loses it."""
    rotation: float = 10.0
    """Largest rotation, degrees, either way: patients do not stand straight."""
    brightness: float = 0.2
    """Largest relative change of brightness: exposure (tube current and time) differs."""
    contrast: float = 0.2
    """Largest relative change of contrast: tube voltage and the detector's curve differ."""
    jitter_p: float = 0.8
    """Probability that brightness and contrast change at all."""
    blur_sigma: tuple[float, float] = (0.1, 1.0)
    """Range of the Gaussian's standard deviation, pixels of the view: focal spot, motion and
    detector blur the same chest differently."""
    blur_p: float = 0.5
    """Probability of a blur."""
    blur_kernel: int = 9
    """Width of the blur's kernel, pixels, odd."""
    noise_std: float = 0.05
    """Standard deviation of the added noise, share of the grey range: fewer photons, more
    quantum noise."""

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise InputError(
                f"crop_scale is {self.crop_scale}, but needs 0 < smallest <= largest <= 1."
            )
        for name in ("crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} is {(low, high)}, but needs 0 < smallest <= largest.")
        for name in ("flip", "jitter_p", "blur_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}, but is a probability.")
        for name in ("rotation", "brightness", "contrast", "noise_std"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}, but must not be negative.")
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise InputError(f"blur_kernel is {self.blur_kernel}, but must be odd and positive.")


@dataclass(frozen=True)
class AugmentationParameters:
    """What was drawn for a batch of B images; every field is a tensor of shape (B,)."""

    centre_x: Tensor
    centre_y: Tensor
    """Centre of the crop, in [0, 1] from left and from top."""
    width: Tensor
    height: Tensor
    """Size of the crop as a share of the picture's width and height, in (0, 1]."""
    angle: Tensor
    """Rotation about the crop's centre, degrees, counter-clockwise as seen before the flip."""
    flip: Tensor
    """True where the view is mirrored left to right, last of all."""
    brightness: Tensor
    """Factor, 1 = unchanged."""
    contrast: Tensor
    """Factor about the view's mean, 1 = unchanged."""
    sigma: Tensor
    """Standard deviation of the blur, pixels; 0 = none."""
    noise: Tensor
    """Standard deviation of the noise, share of the grey range; 0 = none."""
    noise_seed: int = 0
    blur_kernel: int = 9

    @classmethod
    def identity(cls, batch: int, **changes: float) -> AugmentationParameters:
        """The whole picture, unchanged, for `batch` images; `changes` set fields for them all.

        >>> AugmentationParameters.identity(1, angle=10.0).angle
        tensor([10.])
        """
        values = {
            "centre_x": 0.5,
            "centre_y": 0.5,
            "width": 1.0,
            "height": 1.0,
            "angle": 0.0,
            "flip": False,
            "brightness": 1.0,
            "contrast": 1.0,
            "sigma": 0.0,
            "noise": 0.0,
        }
        scalars = {k: changes.pop(k) for k in ("noise_seed", "blur_kernel") if k in changes}
        unknown = set(changes) - set(values)
        if unknown:
            raise InputError(f"No such augmentation parameter: {', '.join(sorted(unknown))}.")
        tensors = {k: torch.full((batch,), changes.get(k, v)) for k, v in values.items()}
        tensors["flip"] = tensors["flip"].bool()
        return cls(**tensors, **scalars)  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> AugmentationParameters:
        """The same draw on another device."""
        return self._map(lambda values: values.to(device, non_blocking=True))

    def select(self, chosen: Tensor) -> AugmentationParameters:
        """The draw of some of the images; `chosen` is an index or a selection (B,)."""
        return self._map(lambda values: values[chosen])

    def _map(self, change: Callable[[Tensor], Tensor]) -> AugmentationParameters:
        changed = {
            f.name: change(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **changed)  # type: ignore[arg-type]


def draw(settings: Augmentation, batch: int, generator: torch.Generator) -> AugmentationParameters:
    """Draw the parameters of one view for each of `batch` images, on the CPU.

    The crop follows Inception's random resized crop (Szegedy et al. 2015, arXiv:1409.4842): area
    uniform, aspect ratio log-uniform, position uniform. A crop that would not fit is narrowed to
    the picture instead of drawn again, so that no image ever needs a second try.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    def happens(probability: float) -> Tensor:
        return torch.rand(batch, generator=generator) < probability

    def factor(strength: float) -> Tensor:
        return uniform(max(0.0, 1 - strength), 1 + strength)

    area = uniform(*settings.crop_scale)
    low, high = settings.crop_ratio
    ratio = low * (high / low) ** uniform(0, 1)
    root = torch.full((batch,), 0.5)  # as a tensor, for the reason given in `affine`
    width = ((area * ratio) ** root).clamp(max=1.0)
    height = ((area / ratio) ** root).clamp(max=1.0)
    jitter, blur = happens(settings.jitter_p), happens(settings.blur_p)
    one, zero = torch.ones(batch), torch.zeros(batch)
    return AugmentationParameters(
        centre_x=width / 2 + (1 - width) * uniform(0, 1),
        centre_y=height / 2 + (1 - height) * uniform(0, 1),
        width=width,
        height=height,
        angle=uniform(-settings.rotation, settings.rotation),
        flip=happens(settings.flip),
        brightness=torch.where(jitter, factor(settings.brightness), one),
        contrast=torch.where(jitter, factor(settings.contrast), one),
        sigma=torch.where(blur, uniform(*settings.blur_sigma), zero),
        noise=torch.full((batch,), float(settings.noise_std)),
        noise_seed=int(torch.randint(2**62, (1,), generator=generator)),
        blur_kernel=settings.blur_kernel,
    )


def apply(images: Tensor, parameters: AugmentationParameters, size: int) -> Tensor:
    """Compute the views that `parameters` describe; no gradient flows back.

    Args:
        images: (B, 1, H, H), uint8 or floats in [0, 1], on any device.
        parameters: one draw an image.
        size: height and width of the views, pixels.

    Returns:
        (B, 1, size, size), in [0, 1]: float32, or in the half precision of `images`. What a
        rotation brings in from outside is black, as beyond a collimator. On a CPU the same to the
        bit for any number of threads.
    """
    _check(images, parameters, size)
    p = parameters.to("cpu")  # what is to be done is decided there: no GPU is asked and waited for
    maps = affine(p)
    dtype = images.dtype if images.is_floating_point() else torch.float32
    views = torch.empty(len(images), 1, size, size, dtype=dtype, device=images.device)

    def compute(part: Part) -> None:
        rows, device = part.rows, images.device
        source = torch.Generator(device).manual_seed(part.noise_seed)
        with torch.autocast(device.type, enabled=False):
            view = transforms.to_float(images[rows.to(device)])
            view = transforms.resample(view, maps[rows], size, part.block)
            view = transforms.jitter(view, p.brightness[rows], p.contrast[rows])
            view = transforms.blur(view, p.sigma[rows], p.blur_kernel)
            view = transforms.add_noise(view, p.noise[rows], source)
        views[rows.to(device)] = view.to(dtype)

    each(compute, parts(images, p, size))
    return views


@dataclass(frozen=True)
class Part:
    """Images of a batch that are computed together, by one core."""

    rows: Tensor
    block: int
    """Side of the blocks of pixels that are averaged before resampling."""
    noise_seed: int


def parts(images: Tensor, parameters: AugmentationParameters, size: int) -> list[Part]:
    """Like with like: the same blocks, and about the same blur.

    A CPU gets as many pictures at a time as its cache holds; a GPU idles with less than all.
    """
    height = images.shape[-1]
    shown = torch.minimum(parameters.width, parameters.height)
    blocks = transforms.block_sizes(height, size, shown)
    together = len(images) if images.is_cuda else max(1, PIXELS // max(height, size) ** 2)
    order = parameters.sigma.argsort(stable=True)
    random = torch.Generator().manual_seed(parameters.noise_seed)
    return [
        Part(rows, block, noise_seed=int(torch.randint(2**62, (1,), generator=random)))
        for block in blocks.unique().tolist()
        for rows in order[blocks[order] == block].split(together)
    ]


def augment(
    images: Tensor, settings: Augmentation, size: int, generator: torch.Generator
) -> Tensor:
    """One random view of every image: `apply` of a fresh `draw`. Shapes as in `apply`."""
    return apply(images, draw(settings, len(images), generator), size)


def warp(masks: Tensor, parameters: AugmentationParameters, size: int) -> Tensor:
    """Send masks through the geometry of a draw, so that they stay on what they outline.

    Args:
        masks: (B, 1, H, H), boolean.

    Returns:
        (B, 1, size, size), boolean.
    """
    _check(masks, parameters, size)
    return transforms.resample(masks.float(), affine(parameters.to("cpu")), size) > 0.5


def affine(parameters: AugmentationParameters) -> Tensor:
    """(B, 2, 3) maps from the view's coordinates to the picture's, both in [-1, 1].

    A point of the view is mirrored if need be, scaled to the crop, rotated, and moved to the
    crop's centre.
    """
    # By way of a complex number: torch wakes all cores for a sine, even for that of one number,
    # and they stay awake for a while, on the time of those that work.
    turn = torch.polar(torch.ones_like(parameters.angle), torch.deg2rad(parameters.angle))
    cos, sin = turn.real, turn.imag
    mirror = torch.where(parameters.flip, -1.0, 1.0)
    x_scale, y_scale = mirror * parameters.width, parameters.height
    rows = [
        torch.stack([cos * x_scale, -sin * y_scale, 2 * parameters.centre_x - 1], dim=-1),
        torch.stack([sin * x_scale, cos * y_scale, 2 * parameters.centre_y - 1], dim=-1),
    ]
    return torch.stack(rows, dim=1)


def _check(images: Tensor, parameters: AugmentationParameters, size: int) -> None:
    if images.ndim != 4 or images.shape[1] != 1 or images.shape[2] != images.shape[3]:
        raise InputError(f"Expected square images (B, 1, H, H), got {tuple(images.shape)}.")
    if not images.is_floating_point() and images.dtype not in (torch.uint8, torch.bool):
        raise InputError(f"Expected images in uint8 or floats in [0, 1], got {images.dtype}.")
    if len(images) != len(parameters.angle) or len(images) == 0:
        raise InputError(f"{len(parameters.angle)} draws do not fit {len(images)} images.")
    if size < 1:
        raise InputError(f"The size of the views is {size}, but must be at least 1 pixel.")
    if parameters.blur_kernel // 2 >= size and bool((parameters.sigma > 0).any()):
        raise InputError(
            f"A blur kernel of {parameters.blur_kernel} pixels is too wide for views of {size}: "
            f"set augmentation.blur_kernel to at most {2 * size - 1}."
        )
