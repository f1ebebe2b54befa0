"""DINO: a student predicts, from any crop, what its own running average says of another.

Caron et al. 2021, arXiv:2104.14294. The teacher is what survives and is probed. The alternative
to centring, Sinkhorn-Knopp, follows SwAV (Caron et al. 2020, arXiv:2006.09882) and DINOv2 (Oquab
et al. 2023, arXiv:2304.07193).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from scxr.augment import Augmentation
from scxr.distributed import gather, mean_over_processes
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.methods import ema
from scxr.methods.base import QUICK_VIEWS, Method, Settings, full_precision, random_view
from scxr.methods.heads import PrototypeHead


def centred_targets(teacher: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """The teacher's assignment: softmax((teacher - centre) / temperature).

    Args:
        teacher: (B, K) outputs.
        centre: (K,) or (1, K), running mean of the teacher's outputs.
    """
    return torch.softmax((teacher - centre) / temperature, dim=1)


@torch.no_grad()
def sinkhorn_targets(teacher: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Assignments that use every prototype equally over the batch.

    Rows and columns of exp(teacher / temperature) are scaled in turn until every image has mass
    1 and every prototype mass B / K; with several processes, B counts all their images.

    Args:
        teacher: (B, K) outputs.

    Returns:
        (B, K), rows sum to one.
    """
    scores = teacher / temperature
    q = torch.exp(scores - gather(scores.max()[None]).max())  # one offset for all: no overflow
    prototypes = q.shape[1]
    for _ in range(iterations):
        share = mean_over_processes(q.mean(dim=0, keepdim=True))
        q = q / share.clamp(min=1e-30) / prototypes
        q = q / q.sum(dim=1, keepdim=True)
    return q


def cross_view_entropy(
    student: list[Tensor], targets: list[Tensor], student_temperature: float
) -> Tensor:
    """Cross-entropy of the student's crops against the teacher's, over pairs of different crops.

    Args:
        student: one (B, K) output a crop; the global crops come first.
        targets: one (B, K) distribution a global crop.

    Returns:
        Scalar, mean over pairs and images.
    """
    log_probabilities = [F.log_softmax(s / student_temperature, dim=1) for s in student]
    terms = [
        -(target * log_p).sum(dim=1).mean()
        for i, target in enumerate(targets)
        for j, log_p in enumerate(log_probabilities)
        if i != j
    ]
    return torch.stack(terms).mean()


def dino_loss(
    student: list[Tensor],
    teacher: list[Tensor],
    centre: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Tensor:
    """The DINO loss; ln K where teacher and student are both uniform.

    Args:
        student: one (B, K) output a crop; the global crops come first.
        teacher: one (B, K) output a global crop; no gradient passes.
        centre: (K,) or (1, K), as it was BEFORE this batch.

    Returns:
        Scalar.
    """
    targets = [centred_targets(t.detach(), centre, teacher_temperature) for t in teacher]
    return cross_view_entropy(student, targets, student_temperature)


@dataclass(frozen=True, kw_only=True)
class DINOSettings(Settings):
    """DINO's own settings."""

    prototypes: int = 1024
    """K: outputs of the head. An untrained student's loss is about ln K."""
    hidden: int = 512
    bottleneck: int = 64
    head_norm: bool = True
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.04)
    """At the start and at the end of the teacher's warm-up."""
    teacher_warmup: float = 0.3
    """Share of training over which the teacher's temperature goes from one to the other."""
    teacher_momentum: float = 0.9
    """At the start; rises to 1 along a cosine."""
    centring: str = "sinkhorn"
    """"centre" (running mean) or "sinkhorn"."""
    centre_momentum: float = 0.9
    frozen_prototypes: float = 0.1
    """Share of training in which the last layer does not move."""
    local_crops: int = 0
    local_size: int = 32
    local_scale: tuple[float, float] = (0.05, 0.4)
    augmentation: Augmentation = field(default_factory=lambda: QUICK_VIEWS)


QUICK = DINOSettings(steps=110, lr=1e-3, weight_decay=0.04)

# As the series ran it (K = 256 in its code, the teacher's temperature going DOWN, no local crops,
# no frozen layer); chapter 4 puts the official settings beside it.
SERIES = DINOSettings(
    backbone="resnet50",
    image_size=224,
    batch_size=64,
    epochs=100,
    lr=5e-4,
    warmup=10 / 100,
    weight_decay=0.04,
    prototypes=256,
    hidden=2048,
    bottleneck=256,
    head_norm=False,
    teacher_temperature=(0.07, 0.04),
    teacher_momentum=0.99,
    centring="centre",
    centre_momentum=0.99,
    frozen_prototypes=0.0,
    augmentation=Augmentation(
        crop_scale=(0.4, 1.0),
        brightness=0.8,
        contrast=0.8,
        blur_sigma=(0.1, 2.0),
        blur_kernel=23,
        noise_std=0.1,
    ),
)

# The official code's defaults with its advice for ResNet-50 (facebookresearch/dino, README).
PAPER = replace(
    SERIES,
    batch_size=512,
    optimizer="sgd",
    lr=0.06,
    weight_decay=1e-4,
    prototypes=65_536,
    teacher_temperature=(0.04, 0.04),
    teacher_momentum=0.996,
    centre_momentum=0.9,
    frozen_prototypes=1 / 100,
    local_crops=8,
    local_size=96,
    local_scale=(0.05, 0.14),
    augmentation=replace(
        SERIES.augmentation,
        crop_scale=(0.14, 1.0),
        rotation=0.0,
        brightness=0.4,
        contrast=0.4,
        noise_std=0.0,
    ),
)


class DINO(Method):
    """Self-distillation without labels and without negatives."""

    name = "dino"
    title = "DINO"
    presets = {"quick": QUICK, "full": SERIES, "paper": PAPER}
    unused_parameters = True  # the frozen prototypes
    settings: DINOSettings
    centre: Tensor

    def __init__(self, encoder: Encoder, settings: DINOSettings) -> None:
        # `encoder`, the teacher's, is what survives; the student is what the optimiser moves.
        super().__init__(encoder, settings)
        if settings.centring not in ("centre", "sinkhorn"):
            raise InputError(f"centring is {settings.centring!r}: choose centre or sinkhorn.")
        s = settings
        self.student = Encoder(**encoder.config)
        self.student.load_state_dict(encoder.state_dict())
        self.student.checkpointing = s.checkpointing
        self.student_head = PrototypeHead(
            encoder.feature_dim, s.hidden, s.bottleneck, s.prototypes, s.head_norm
        )
        self.encoder.requires_grad_(False)
        self.teacher_head = ema.frozen_copy(self.student_head)
        self.register_buffer("centre", torch.zeros(s.prototypes))
        self._teacher_means: list[Tensor] = []

    def views(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        s = self.settings
        local = replace(s.augmentation, crop_scale=s.local_scale)
        small = [random_view(images, local, s.local_size, generator) for _ in range(s.local_crops)]
        return super().views(images, generator) + small

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        s = self.settings
        frozen = self.progress < s.frozen_prototypes
        # Crops of one size pass together, so that batch norm sees them as one batch.
        student: list[Tensor] = []
        for crops in (views[:2], views[2:]):
            if crops:
                features = self.student(torch.cat(crops))
                output = self.student_head(features, frozen_prototypes=frozen)
                student += output.float().chunk(len(crops))
        with torch.no_grad():
            teacher = self.teacher_head(self.encoder(torch.cat(views[:2]))).float()
        with full_precision(teacher):
            targets = self._targets(teacher)
            self._observe(targets)
            self._teacher_means.append(mean_over_processes(teacher.mean(dim=0)))
            loss = cross_view_entropy(student, list(targets.chunk(2)), s.student_temperature)
        return {"cross_entropy": loss}

    @property
    def teacher_temperature(self) -> float:
        """Linear from the first to the second value over the teacher's warm-up."""
        start, end = self.settings.teacher_temperature
        share = min(1.0, self.progress / max(self.settings.teacher_warmup, 1e-9))
        return start + (end - start) * share

    def _targets(self, teacher: Tensor) -> Tensor:
        if self.settings.centring == "centre":
            return centred_targets(teacher, self.centre, self.teacher_temperature)
        views = teacher.chunk(2)
        return torch.cat([sinkhorn_targets(view, self.teacher_temperature) for view in views])

    def _observe(self, targets: Tensor) -> None:
        """Tell uniform targets from image-independent ones: both have a flat loss.

        Mutual information = entropy of the mean target - mean entropy of the targets: 0 where
        every image gets the same assignment, up to ln K where each gets one of its own.
        """
        entropy = torch.special.entr(targets).sum(dim=1).mean()
        of_mean = torch.special.entr(targets.mean(dim=0)).sum()
        self.metrics = {"target_entropy": entropy, "mutual_information": of_mean - entropy}

    @torch.no_grad()
    def after_step(self) -> None:
        momentum = ema.cosine_momentum(self.settings.teacher_momentum, self.progress)
        ema.update(self.encoder, self.student, momentum)
        ema.update(self.teacher_head, self.student_head, momentum)
        for mean in self._teacher_means:
            self.centre.lerp_(mean, 1 - self.settings.centre_momentum)
        self._teacher_means.clear()


def uniform_loss(prototypes: int) -> float:
    """ln K: the loss of a student and a teacher that say nothing."""
    return math.log(prototypes)
