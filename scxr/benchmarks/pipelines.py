"""From the images of a store to pairs of augmented views: ours, and the ways of other libraries.

All have the same settings, see the same images in the same order, and end with normalised float32
views; the cores that ours gives to threads go to worker processes where a library works image by
image.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as v1
from torchvision.transforms import v2

from scxr.augment import augment
from scxr.data.batches import Batches
from scxr.data.store import RadiographStore
from scxr.methods.moco import SERIES
from scxr.seeds import generator
from scxr.threads import each

SETTINGS = SERIES.augmentation
"""The series' recipe for MoCo v2."""


@dataclass(frozen=True)
class Task:
    """What every pipeline has to do."""

    store: RadiographStore
    size: int
    """Height and width of the views, pixels."""
    views: int = 2
    """Of each image."""
    batch_size: int = 64
    """Images."""
    threads: int = 1
    """Cores to use: threads, or worker processes."""

    @property
    def normal(self) -> dict[str, list[float]]:
        return {"mean": [self.store.mean], "std": [self.store.std]}

    def rows(self) -> Iterator[list[int]]:
        """Rows of one batch after another, without end."""
        endless = itertools.cycle(range(len(self.store)))
        while True:
            yield sorted(itertools.islice(endless, self.batch_size))


Pipeline = Callable[[Task], Iterator[int]]
"""Computes one batch after another, without end, and tells how many views each gave."""


def ours(task: Task) -> Iterator[int]:
    """scxr: batches read ahead, and views computed from the whole batch."""
    mean, std = task.store.mean, task.store.std
    with Batches(task.store, task.rows()) as batches:
        for step, images in enumerate(batches):
            random = generator(0, "benchmark", step)
            for _ in range(task.views):
                view = augment(images, SETTINGS, task.size, random)
                each(lambda part: part.sub_(mean).div_(std), view.split(16))
            yield task.views * len(images)


def pillow(task: Task) -> Iterator[int]:
    """Pillow and torchvision with worker processes, three channels: the usual way."""
    return _with_workers(task, pillow_transform(task), pillow=True)


def pillow_transform(task: Task) -> v1.Compose:
    """One view of a Pillow image, as the series makes it."""
    s = SETTINGS
    return v1.Compose(
        [
            v1.RandomResizedCrop(task.size, scale=s.crop_scale, ratio=s.crop_ratio),
            v1.RandomHorizontalFlip(s.flip),
            v1.RandomRotation(s.rotation),
            v1.RandomApply([v1.ColorJitter(s.brightness, s.contrast)], p=s.jitter_p),
            v1.RandomApply([v1.GaussianBlur(s.blur_kernel, s.blur_sigma)], p=s.blur_p),
            v1.ToTensor(),
            Noise(s.noise_std),
            v1.Normalize(task.normal["mean"] * 3, task.normal["std"] * 3),
        ]
    )


def torchvision_tensors(task: Task) -> Iterator[int]:
    """torchvision v2 on tensors with worker processes: its draws are one for all that it is given,
    so that it is given one image at a time."""
    return _with_workers(task, _torchvision(task), pillow=False)


def torchvision_batches(task: Task) -> Iterator[int]:
    """torchvision v2 on whole batches: every image of a batch gets the same draw, which is not
    what pretraining needs; here to see what drawing for each costs."""
    transform = _torchvision(task)
    for rows in task.rows():
        images = task.store.batch(rows)
        for _ in range(task.views):
            transform(images)
        yield task.views * len(images)


def kornia(task: Task) -> Iterator[int]:
    """kornia on whole batches, a draw for every image."""
    import kornia.augmentation as K

    s = SETTINGS
    transform = torch.nn.Sequential(
        K.RandomResizedCrop(
            (task.size, task.size), s.crop_scale, s.crop_ratio, cropping_mode="resample"
        ),
        K.RandomHorizontalFlip(s.flip),
        K.RandomRotation(s.rotation, p=1.0),
        K.RandomBrightness((1 - s.brightness, 1 + s.brightness), p=s.jitter_p),
        K.RandomContrast((1 - s.contrast, 1 + s.contrast), p=s.jitter_p),
        K.RandomGaussianBlur((s.blur_kernel, s.blur_kernel), s.blur_sigma, p=s.blur_p),
        K.RandomGaussianNoise(std=s.noise_std, p=1.0),
        K.Normalize(task.normal["mean"], task.normal["std"]),
    )
    for rows in task.rows():
        images = task.store.batch(rows).float() / 255
        for _ in range(task.views):
            transform(images)
        yield task.views * len(images)


def lightly(task: Task) -> Iterator[int]:
    """lightly's MoCoV2Transform with worker processes; it has no noise, and makes two views."""
    return _with_workers(task, lightly_transform(task), pillow=True)


def lightly_transform(task: Task) -> First:
    """One view of a Pillow image by lightly's MoCoV2Transform."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on import
        from lightly.transforms import MoCoV2Transform

    s = SETTINGS
    transform = MoCoV2Transform(
        input_size=task.size,
        cj_prob=s.jitter_p,
        cj_bright=s.brightness,
        cj_contrast=s.contrast,
        cj_sat=0.0,
        cj_hue=0.0,
        random_gray_scale=0.0,
        min_scale=s.crop_scale[0],
        gaussian_blur=s.blur_p,
        sigmas=s.blur_sigma,
        hf_prob=s.flip,
        rr_prob=1.0,
        rr_degrees=s.rotation,
        normalize={name: value * 3 for name, value in task.normal.items()},
    )
    return First(transform)


PIPELINES: dict[str, Pipeline] = {
    "scxr": ours,
    "Pillow + torchvision": pillow,
    "torchvision v2, tensors": torchvision_tensors,
    "torchvision v2, one draw a batch": torchvision_batches,
    "kornia": kornia,
    "lightly": lightly,
}


class Noise:
    """Adds Gaussian noise to a tensor; torchvision's first transforms know none."""

    def __init__(self, std: float) -> None:
        self.std = std

    def __call__(self, image: Tensor) -> Tensor:
        return (image + self.std * torch.randn_like(image)).clamp_(0, 1)


class First:
    """One view of a transform that makes several, at the price of one."""

    def __init__(self, several: Any) -> None:
        self.transform = several.transforms[0]

    def __call__(self, image: Image.Image) -> Tensor:
        return self.transform(image)


class Views(Dataset[list[Tensor]]):
    """Image by image, as a DataLoader's workers ask for them."""

    def __init__(self, task: Task, transform: Callable[[Any], Tensor], pillow: bool) -> None:
        self.task, self.transform, self.pillow = task, transform, pillow

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> list[Tensor]:
        store = self.task.store
        pixels = store.images[index % len(store)]
        image = (
            Image.fromarray(pixels).convert("RGB") if self.pillow else torch.tensor(pixels)[None]
        )
        return [self.transform(image) for _ in range(self.task.views)]


def _with_workers(task: Task, transform: Callable[[Any], Tensor], *, pillow: bool) -> Iterator[int]:
    for views in loader(task, transform, pillow=pillow):
        yield len(views) * len(views[0])


def loader(task: Task, transform: Callable[[Any], Tensor], *, pillow: bool) -> DataLoader:
    """Batches of a transform's views (each (B, C, h, h)), made image by image by workers."""
    return DataLoader(
        Views(task, transform, pillow),
        batch_size=task.batch_size,
        num_workers=task.threads,
        generator=generator(0, "benchmark", "workers"),
    )


def _torchvision(task: Task) -> v2.Compose:
    s = SETTINGS
    return v2.Compose(
        [
            v2.RandomResizedCrop(task.size, scale=s.crop_scale, ratio=s.crop_ratio),
            v2.RandomHorizontalFlip(s.flip),
            v2.RandomRotation(s.rotation),
            v2.RandomApply([v2.ColorJitter(s.brightness, s.contrast)], p=s.jitter_p),
            v2.RandomApply([v2.GaussianBlur(s.blur_kernel, s.blur_sigma)], p=s.blur_p),
            v2.ToDtype(torch.float32, scale=True),
            v2.GaussianNoise(sigma=s.noise_std),
            v2.Normalize(**task.normal),
        ]
    )
