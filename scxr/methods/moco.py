"""MoCo v2: find your other view among thousands of strangers.

He et al. 2019, arXiv:1911.05722 (queue and momentum encoder); Chen et al. 2020, arXiv:2003.04297
(MLP head, stronger augmentation). Three settings take it a step towards MoCo v3 (Chen et al. 2021,
arXiv:2104.02057): `symmetric`, `head_layers` and `output_norm`. The optional variance and
covariance terms are two thirds of VICReg (see `regularisation`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scxr.augment import Augmentation
from scxr.distributed import gather, processes, rank
from scxr.encoders import Encoder, resize
from scxr.errors import InputError
from scxr.methods import ema
from scxr.methods.base import QUICK_VIEWS, Method, full_precision
from scxr.methods.heads import mlp
from scxr.methods.regularisation import RegularisedSettings, Regulariser, variance_hinge

__all__ = ["MoCo", "MoCoSettings", "contrastive_logits", "info_nce", "variance_hinge"]


def contrastive_logits(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    temperature: float,
    *,
    in_batch: bool = False,
    mask_own_key: bool = True,
    first: int = 0,
) -> Tensor:
    """Similarity of every query to its own key (column 0) and to the negatives, over temperature.

    Args:
        q: (B, d), unit length.
        k: (B, d), unit length; row i is the key of query i. Over several processes, the keys of
            all of them, (B * processes, d), of which this process's begin at row `first`.
        queue: (K, d), unit length: keys of earlier batches.
        in_batch: use the other images' keys of this batch as negatives too.
        mask_own_key: leave a query's own key out of the in-batch negatives; without it the query
            is pushed away from what it is pulled to.

    Returns:
        (B, 1 + K), or (B, 1 + K + rows of k) when `in_batch`.
    """
    positive = (q * k[first : first + len(q)]).sum(dim=1, keepdim=True)
    negatives = [q @ queue.T]
    if in_batch:
        others = q @ k.T
        if mask_own_key:
            own = torch.arange(len(q), device=q.device)[:, None] + first
            others = others.masked_fill(own == torch.arange(len(k), device=q.device), -torch.inf)
        negatives.append(others)
    return torch.cat([positive, *negatives], dim=1) / temperature


def info_nce(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    temperature: float,
    *,
    in_batch: bool = False,
    mask_own_key: bool = True,
) -> Tensor:
    """InfoNCE (van den Oord et al. 2018, arXiv:1807.03748): cross-entropy of "which is my key?".

    ln(1 + K) when everything looks the same, 0 when every query is certain of its key.
    Arguments as in `contrastive_logits`; returns a scalar, the mean over the batch.
    """
    logits = contrastive_logits(
        q, k, queue, temperature, in_batch=in_batch, mask_own_key=mask_own_key
    )
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


@dataclass(frozen=True, kw_only=True)
class MoCoSettings(RegularisedSettings):
    """MoCo's own settings."""

    projection: int = 128
    """Width of queries and keys."""
    head_norm: bool = True
    """Batch norm in the head; MoCo v2 has none, but short runs need it."""
    head_layers: int = 2
    """Linear layers of the head. MoCo v2 has two; BarlowTwins and MoCo v3 have three."""
    output_norm: bool = False
    """Batch norm without weights behind the head (MoCo v3): every dimension of a query varies, and
    none by more than the others, before it is scaled to unit length."""
    symmetric: bool = False
    """Each of two views is query once and key once (MoCo v3), and the loss is the mean of both:
    half of the gradients' noise for twice the work."""
    queue_size: int = 512
    in_batch_negatives: bool = True
    mask_own_key: bool = True
    """Leave the own key out of the in-batch negatives."""
    temperature: float = 0.1
    key_momentum: float = 0.9
    norm_splits: int = 1
    """Equal parts of the batch that batch norm sees one by one; from 2 on, keys are shuffled
    among them, so that no query shares its statistics with its key (the paper's shuffling BN)."""
    regularise: str = "views"
    """What the variance and covariance terms see: the queries' "views" (as in the series) or the
    "clean" pictures, where augmentation cannot feign variety."""


# The best that was found for a minute on two cores, see book/presets.md.
QUICK = MoCoSettings(
    steps=90,
    lr=1e-3,
    head_layers=3,
    output_norm=True,
    symmetric=True,
    temperature=0.2,
    augmentation=QUICK_VIEWS,
)

# The series' recipe: protocol and learning rate for ResNet-50 on one 24 GB card.
SERIES = MoCoSettings(
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
)

# MoCo v2 as published, for ImageNet on eight devices of 32 images; colour has no counterpart here.
PAPER = replace(
    SERIES,
    batch_size=256,
    epochs=200,
    lr=0.03,
    warmup=0.0,
    clip=None,
    temperature=0.2,
    variance_weight=0.0,
    norm_splits=8,
    augmentation=replace(
        SERIES.augmentation,
        crop_scale=(0.2, 1.0),
        rotation=0.0,
        brightness=0.4,
        contrast=0.4,
        noise_std=0.0,
    ),
)


class MoCo(Method):
    """A query encoder learns by gradient, a key encoder follows it, a queue remembers keys."""

    name = "moco"
    title = "MoCo v2"
    presets = {"quick": QUICK, "full": SERIES, "paper": PAPER}
    synchronised_norm = False  # shuffling needs batches that are normalised apart
    settings: MoCoSettings
    queue: Tensor
    queue_start: Tensor

    def __init__(self, encoder: Encoder, settings: MoCoSettings) -> None:
        super().__init__(encoder, settings)
        s = settings
        if s.queue_size < s.batch_size:
            raise InputError(
                f"queue_size {s.queue_size} is smaller than batch_size {s.batch_size}: the queue "
                f"must hold at least one batch of keys."
            )
        if s.norm_splits < 1 or s.batch_size % s.norm_splits:
            raise InputError(
                f"norm_splits {s.norm_splits} does not cut a batch of {s.batch_size} into equal "
                f"parts."
            )
        if s.head_layers < 1:
            raise InputError(f"head_layers is {s.head_layers}, but a head has at least 1 layer.")
        if s.regularise not in ("views", "clean"):
            raise InputError(f"regularise is {s.regularise!r}: choose views or clean.")
        width, dim = encoder.feature_dim, s.projection
        self.head = mlp(*[width] * s.head_layers, dim, norm=s.head_norm)
        if s.output_norm:
            self.head.append(nn.BatchNorm1d(dim, affine=False))
        self.key_encoder = ema.frozen_copy(encoder)
        self.key_head = ema.frozen_copy(self.head)
        self.regulariser = Regulariser(s)
        self.control_every = s.control_every if s.control == "rank" else None
        self.register_buffer("queue", F.normalize(torch.randn(s.queue_size, dim), dim=1))
        self.register_buffer("queue_start", torch.zeros((), dtype=torch.long))
        self._keys: list[Tensor] = []

    def views(self, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Query's and key's view (B, 1, h, h); then, where the settings ask for them, the clean
        pictures, and the order (B over all processes,) in which keys are shuffled."""
        s = self.settings
        views = super().views(images, generator)
        if s.regularise == "clean":
            views.append(resize(images, s.image_size))
        if s.norm_splits * processes() > 1:
            views.append(torch.randperm(len(images) * processes(), generator=generator))
        return views

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        first, second, *more = views
        s = self.settings
        pairs = [(first, second), (second, first)] if s.symmetric else [(first, second)]
        z = [self._project(query).float() for query, _ in pairs]
        regularised = [self._project(more.pop(0)).float()] if s.regularise == "clean" else z
        keys = [self._keys_of(key, more[0] if more else None) for _, key in pairs]
        with full_precision(z[0]):
            contrasts = [self._contrast(*pair) for pair in zip(z, keys, strict=True)]
            terms = {"info_nce": torch.stack([loss for loss, _ in contrasts]).mean()}
            terms |= self.regulariser(*regularised)
        measured = [metrics for _, metrics in contrasts]
        self.metrics = {n: torch.stack([m[n] for m in measured]).mean() for n in measured[0]}
        if s.control == "rank":
            self.metrics["strength"] = self.regulariser.strength.clone()
        self._keys.extend(keys)
        return terms

    def _contrast(self, z: Tensor, k: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE of this process's projections (B, d) against all keys; what else it tells."""
        s = self.settings
        q, first = F.normalize(z, dim=1), rank() * len(z)
        logits = contrastive_logits(
            q,
            k,
            self.queue,
            s.temperature,
            in_batch=s.in_batch_negatives,
            mask_own_key=s.mask_own_key,
            first=first,
        )
        loss = F.cross_entropy(logits, torch.zeros_like(logits[:, 0]).long())
        return loss, _retrieval(q.detach(), k, logits.detach(), first)

    def _project(self, view: Tensor) -> Tensor:
        """(B, 1, h, h) -> (B, d), with batch norm over `norm_splits` parts one by one."""
        parts = view.chunk(self.settings.norm_splits)
        return torch.cat([self.head(self.encoder(part)) for part in parts])

    @torch.no_grad()
    def _keys_of(self, view: Tensor, order: Tensor | None) -> Tensor:
        """Keys (B over all processes, d) of unit length, encoded in the company that `order` deals.

        Batch norm lets an image know who else is in its batch. Were a query and its key normalised
        in the same company, the network could match companies instead of images.
        """
        if order is None:
            return F.normalize(self.key_head(self.key_encoder(view)).float(), dim=1)
        order = order.to(view.device)
        pictures = gather(view)[order].chunk(processes())[rank()]
        parts = pictures.chunk(self.settings.norm_splits)
        k = torch.cat([self.key_head(self.key_encoder(part)) for part in parts])
        shuffled = gather(F.normalize(k.float(), dim=1))
        return torch.empty_like(shuffled).index_copy_(0, order, shuffled)

    def hold_rank(self, rank: float) -> None:
        self.regulariser.hold(rank)

    def after_step(self) -> None:
        # After the step is before the next keys: the paper's order. The keys enter the queue only
        # now, after the logits, so that no query ever meets its own key as a negative.
        ema.update(self.key_encoder, self.encoder, self.settings.key_momentum)
        ema.update(self.key_head, self.head, self.settings.key_momentum)
        for keys in self._keys:
            self._enqueue(keys)
        self._keys.clear()

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """Write the keys over the oldest ones, wrapping round at the end of the queue."""
        offsets = torch.arange(len(keys), device=keys.device)
        self.queue[(self.queue_start + offsets) % len(self.queue)] = keys
        self.queue_start.add_(len(keys)).remainder_(len(self.queue))


@torch.no_grad()
def _retrieval(q: Tensor, k: Tensor, logits: Tensor, first: int) -> dict[str, Tensor]:
    """How often a query ranks its key first: among all negatives, and among FRESH ones alone.

    The queue's keys come from an older encoder; a query can tell its key by its age. Where
    `retrieval` rises and `fresh_retrieval` does not, that is what happened.
    """
    fresh = (q @ k.T).argmax(dim=1) == torch.arange(len(q), device=q.device) + first
    return {
        "retrieval": (logits.argmax(dim=1) == 0).float().mean(),
        "fresh_retrieval": fresh.float().mean(),
    }
