"""MoCo v2: find your other view among thousands of strangers.

He et al. 2019, arXiv:1911.05722 (queue and momentum encoder); Chen et al. 2020, arXiv:2003.04297
(MLP head, stronger augmentation). The optional variance term is one third of VICReg, Bardes et
al. 2021, arXiv:2105.04906.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from scxr.augment import Augmentation
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.methods import ema
from scxr.methods.base import QUICK_VIEWS, Method, Settings, full_precision
from scxr.methods.heads import mlp


def contrastive_logits(
    q: Tensor, k: Tensor, queue: Tensor, temperature: float, *, in_batch: bool = False
) -> Tensor:
    """Similarity of every query to its own key (column 0) and to the negatives, over temperature.

    Args:
        q, k: (B, d), unit length; row i of both is the same image.
        queue: (K, d), unit length: keys of earlier batches.
        in_batch: use the other images' keys of this batch as negatives too.

    Returns:
        (B, 1 + K), or (B, 1 + K + B) when `in_batch`; a query's own key counts once.
    """
    positive = (q * k).sum(dim=1, keepdim=True)
    negatives = [q @ queue.T]
    if in_batch:
        others = q @ k.T
        own = torch.eye(len(q), dtype=torch.bool, device=q.device)
        negatives.append(others.masked_fill(own, float("-inf")))
    return torch.cat([positive, *negatives], dim=1) / temperature


def info_nce(
    q: Tensor, k: Tensor, queue: Tensor, temperature: float, *, in_batch: bool = False
) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748): cross-entropy of "which is my key?".

    ln(1 + K) when everything looks the same, 0 when every query is certain of its key.
    Arguments as in `contrastive_logits`; returns a scalar, the mean over the batch.
    """
    logits = contrastive_logits(q, k, queue, temperature, in_batch=in_batch)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


def variance_hinge(z: Tensor, target: float = 1.0) -> Tensor:
    """VICReg's variance term: how far the dimensions' standard deviations fall short of `target`.

    Args:
        z: (B, d), not normalised.

    Returns:
        Scalar: mean over dimensions of max(0, target - std), with the unbiased variance and
        VICReg's 1e-4 under the root.
    """
    std = torch.sqrt(z.var(dim=0) + 1e-4)
    return F.relu(target - std).mean()


@dataclass(frozen=True, kw_only=True)
class MoCoSettings(Settings):
    """MoCo's own settings."""

    projection: int = 128
    """Width of queries and keys."""
    head_norm: bool = True
    """Batch norm in the head; MoCo v2 has none, but short runs need it."""
    queue_size: int = 512
    in_batch_negatives: bool = True
    temperature: float = 0.1
    key_momentum: float = 0.9
    variance_weight: float = 0.0
    """Weight of `variance_hinge` on the queries before normalisation; 0 = plain MoCo v2."""


class MoCo(Method):
    """A query encoder learns by gradient, a key encoder follows it, a queue remembers keys."""

    name = "moco"
    title = "MoCo v2"
    presets = {
        "quick": MoCoSettings(
            steps=160,
            augmentation=QUICK_VIEWS,
        ),
        # The series' recipe: protocol and learning rate for ResNet-50 on one 24 GB card.
        "full": MoCoSettings(
            backbone="resnet50",
            image_size=224,
            batch_size=384,
            epochs=800,
            optimizer="sgd",
            lr=0.045,
            warmup=10 / 800,
            weight_decay=1e-4,
            head_norm=False,
            queue_size=65_536,
            in_batch_negatives=False,
            temperature=0.07,
            key_momentum=0.999,
            variance_weight=1.0,
            augmentation=Augmentation(
                crop_scale=(0.08, 1.0),
                brightness=0.8,
                contrast=0.8,
                blur_sigma=(0.1, 2.0),
                blur_kernel=9,
                noise_std=0.1,
            ),
        ),
    }
    settings: MoCoSettings
    queue: Tensor
    queue_start: Tensor

    def __init__(self, encoder: Encoder, settings: MoCoSettings) -> None:
        super().__init__(encoder, settings)
        if settings.queue_size < settings.batch_size:
            raise InputError(
                f"queue_size {settings.queue_size} is smaller than batch_size "
                f"{settings.batch_size}: the queue must hold at least one batch of keys."
            )
        width, dim = encoder.feature_dim, settings.projection
        self.head = mlp(width, width, dim, norm=settings.head_norm)
        self.key_encoder = ema.frozen_copy(encoder)
        self.key_head = ema.frozen_copy(self.head)
        self.register_buffer("queue", F.normalize(torch.randn(settings.queue_size, dim), dim=1))
        self.register_buffer("queue_start", torch.zeros((), dtype=torch.long))
        self._keys: Tensor | None = None

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        query_view, key_view = views
        z = self.head(self.encoder(query_view))
        with torch.no_grad():
            k = self.key_head(self.key_encoder(key_view))
        with full_precision(z):
            q, k = F.normalize(z.float(), dim=1), F.normalize(k.float(), dim=1)
            s = self.settings
            arguments = (q, k, self.queue, s.temperature)
            terms = {"info_nce": info_nce(*arguments, in_batch=s.in_batch_negatives)}
            if s.variance_weight > 0:
                terms["variance"] = s.variance_weight * variance_hinge(z.float())
            with torch.no_grad():
                logits = contrastive_logits(*arguments, in_batch=s.in_batch_negatives)
                self.metrics = {"retrieval": (logits.argmax(dim=1) == 0).float().mean()}
        self._keys = k
        return terms

    def after_step(self) -> None:
        # After the step is before the next keys: the paper's order. The keys enter the queue only
        # now, after the logits, so that no query ever meets its own key as a negative.
        ema.update(self.key_encoder, self.encoder, self.settings.key_momentum)
        ema.update(self.key_head, self.head, self.settings.key_momentum)
        if self._keys is not None:
            self._enqueue(self._keys)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Write the keys over the oldest ones, wrapping round at the end of the queue."""
        offsets = torch.arange(len(keys), device=keys.device)
        self.queue[(self.queue_start + offsets) % len(self.queue)] = keys
        self.queue_start.add_(len(keys)).remainder_(len(self.queue))
        self._keys = None
