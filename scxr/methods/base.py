"""What every pretraining method is to the loop, the command line and the tests."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scxr.augment import Augmentation, apply, draw
from scxr.distributed import processes, rank
from scxr.encoders import Encoder
from scxr.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything about a run but its data and its seed. A preset is an instance of this."""

    backbone: str = "resnet18"
    stem: str = "imagenet"
    image_size: int = 64
    """Height and width of the views, pixels."""
    batch_size: int = 128
    steps: int | None = None
    """Optimiser steps; give this or `epochs`."""
    epochs: int | None = None
    optimizer: str = "adamw"
    """"adamw" or "sgd"."""
    lr: float = 2e-3
    """Peak learning rate, reached after the warm-up; then cosine to 0."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises linearly."""
    weight_decay: float = 1e-4
    """Not applied to biases and norms."""
    weight_decay_end: float | None = None
    """Weight decay at the last step, reached along a half cosine; None keeps it constant."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one step. A loss that compares images still
    compares those of one batch; only `batch_size` gives it more company."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW only."""
    momentum: float = 0.9
    """SGD only."""
    clip: float | None = 3.0
    """Largest norm of the gradient."""
    checkpointing: bool = False
    """Compute the encoder's inner maps again in the backward pass instead of keeping them: the
    same gradients for less memory and about a third more time."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        # Two images are the fewest that batch norm and every comparison between images can use.
        for name, least in (
            ("image_size", 1),
            ("batch_size", 2),
            ("steps", 1),
            ("epochs", 1),
            ("accumulate", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} is {value}, but must be at least {least}.")
        if self.lr <= 0:
            raise InputError(f"lr is {self.lr}, but must be above 0.")


QUICK_VIEWS = Augmentation(crop_scale=(0.5, 1.0), brightness=0.4, contrast=0.4, noise_std=0.03)
"""Views for runs of a minute: most of the chest in every crop, exposure disguised, not lost."""


class Method(nn.Module):
    """A way to learn an encoder from pictures without labels.

    A subclass builds its networks, makes its views from a batch, and returns named loss terms
    whose sum is the loss. It knows nothing about devices, files, logging or distribution.

    Attributes:
        encoder: the network that survives pretraining.
        progress: share of training that is done, in [0, 1); the loop sets it before every step,
            and schedules (EMA, temperatures) read it.
        metrics: numbers worth logging that are no part of the loss, from the last forward pass.
        control_every: steps between two calls of `hold_rank`; None where nothing is controlled.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """As the papers write it, for figures."""
    presets: ClassVar[dict[str, Settings]]
    unused_parameters: ClassVar[bool] = False
    """Whether some steps give no gradient to some parameters that have one in others."""
    synchronised_norm: ClassVar[bool] = True
    """Whether batch norm should see the batches of all GPUs together."""
    encoder: Encoder

    def __init__(self, encoder: Encoder, settings: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder.checkpointing = settings.checkpointing
        self.settings = settings
        self.progress = 0.0
        self.metrics: dict[str, Tensor] = {}
        self.control_every: int | None = None

    def views(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        """What the method looks at: by default two random views of every image.

        Args:
            images: (B, 1, H, H), in [0, 1].

        Returns:
            Tensors whose first dimension is B.
        """
        s = self.settings
        return [random_view(images, s.augmentation, s.image_size, generator) for _ in range(2)]

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Loss terms by name, each a scalar; their sum is the loss."""
        raise TypeError(f"{type(self).__name__} does not say how its views become a loss.")

    def after_step(self) -> None:
        """Called after the optimiser's step: EMA, queue, centre."""

    def hold_rank(self, rank: float) -> None:
        """Told the effective rank of the encoder's features every `control_every` steps."""

    def snapshot(self, images: Tensor) -> dict[str, Tensor]:
        """Small tensors worth keeping from this moment of training, for fixed `images`."""
        return {}


def random_view(
    images: Tensor, settings: Augmentation, size: int, generator: torch.Generator
) -> Tensor:
    """As `scxr.augment.augment`; processes that share a batch each compute their part of one draw.

    The views of a step are then the same however many processes compute them (but for the noise,
    which each draws afresh).
    """
    n = len(images)
    drawn = draw(settings, n * processes(), generator)
    if processes() > 1:
        drawn = drawn.select(torch.arange(n * rank(), n * (rank() + 1)))
        drawn = replace(drawn, noise_seed=drawn.noise_seed + rank())
    return apply(images, drawn, size)


def full_precision(like: Tensor) -> AbstractContextManager[None]:
    """A block in which autocast is off: losses are computed in float32 on every device."""
    return torch.autocast(like.device.type, enabled=False)
