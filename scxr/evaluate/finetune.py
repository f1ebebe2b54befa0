"""Fine-tuning: the encoder itself moves, a little, for every handful of labelled images.

The deeper stages are trained together with a linear head on L2-normalised features; the head
starts from the class prototypes (the mean feature of each class), so that the first step already
classifies as a nearest-prototype rule would. Every trial starts from the same encoder.

The recipes, as data, are in `recipes`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scxr.augment import AugmentationParameters, apply, augment, draw
from scxr.data.episodes import Episode
from scxr.data.store import NORMAL, RadiographStore
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate.experiment import SHOTS, draw_and_score, in_parallel, score_frame
from scxr.evaluate.features import AnyEncoder, pictures, require_finite
from scxr.evaluate.heads import Classifier, prototype_head
from scxr.evaluate.recipes import PARTS, FinetuneSettings, settings_for
from scxr.evaluate.results import summarise
from scxr.seeds import generator, seed_for


def finetune(
    encoder: Encoder,
    images: Tensor,
    labels: np.ndarray,
    settings: FinetuneSettings | None = None,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Classifier:
    """Fine-tune a copy of `encoder` on a few labelled pictures.

    Args:
        images: (n, 1, S, S) float in [0, 1], of the encoder's image size.
        labels: (n,) 0 or 1, both present.
        settings: `settings_for("", quick=False)` when None.
        seed: of views and order.
        device: None for a GPU where there is one.

    Returns:
        The classifier, in evaluation mode, on the device.

    Raises:
        InputError: one class only, an encoder without stages, features that are not finite.
    """
    settings = settings or FinetuneSettings()
    labels = np.asarray(labels).astype(int)
    if len(np.unique(labels)) < 2:
        raise InputError(
            "Fine-tuning needs images with and without the finding, but all the labels it was "
            "given are the same."
        )
    if not isinstance(encoder, Encoder):
        raise InputError(f"{encoder.name} has no stages to fine-tune: leave it out.")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    twin = copy.deepcopy(encoder).eval().to(device)
    # Not channels_last: at this size it helps the forward pass and costs more in the backward.
    images = images.to(device).contiguous()
    with torch.inference_mode():
        start = twin(images).float().cpu().numpy()
    head = prototype_head(require_finite(start), labels)
    model = Classifier(twin, head).to(device)
    _train(model, images, torch.as_tensor(labels, dtype=torch.float32), settings, seed)
    return model.eval().requires_grad_(False)


def _train(
    model: Classifier, images: Tensor, labels: Tensor, settings: FinetuneSettings, seed: int
) -> None:
    random = generator(seed, "finetune")
    trained = _unfreeze(model.encoder, settings)
    optimizer = torch.optim.AdamW(
        [
            {"params": trained, "lr": settings.lr},
            {"params": model.head.parameters(), "lr": settings.head_lr},
        ],
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over the weights; with two images that is most of a step
    )
    n, size = len(images), min(settings.batch_size, len(images))
    batches = math.ceil(n / size)
    total = settings.epochs * batches
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total))
    )
    bank = _bank(model.encoder, images, settings, random)
    labels = labels.to(images.device)
    for _ in range(settings.epochs):
        for rows in torch.randperm(n, generator=random).tensor_split(batches):
            if bank is None:
                maps = _frozen_part(
                    model.encoder, _view(model.encoder, images[rows], settings, random), settings
                )
            else:
                maps = bank[torch.randint(len(bank), (len(rows),), generator=random), rows]
            logits = model.judge(_trained_part(model.encoder, maps, settings))[:, 0]
            loss = F.binary_cross_entropy_with_logits(logits, labels[rows.to(labels.device)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()


def _unfreeze(encoder: Encoder, settings: FinetuneSettings) -> list[nn.Parameter]:
    """Let the trained parts move, batch norm as the settings say; returns their parameters."""
    encoder.eval().requires_grad_(False)
    stages: list[list[nn.Module]] = [[stage] for stage in encoder.residual_stages()]
    parts = [encoder.stem_parts(), *stages]
    for module in (m for part in parts[PARTS.index(settings.first) :] for m in part):
        module.requires_grad_(True)
        for layer in module.modules():
            if not isinstance(layer, nn.BatchNorm2d):
                continue
            layer.train(settings.batch_norm == "trained")
            layer.requires_grad_(settings.batch_norm == "trained")
    return [p for p in encoder.parameters() if p.requires_grad]


def _view(
    encoder: Encoder, images: Tensor, settings: FinetuneSettings, random: torch.Generator
) -> Tensor:
    """One random view of every image, in [0, 1], or what the series' order of operations gives."""
    size = images.shape[-1]
    if not settings.jitter_after_normalising:
        return augment(images, settings.augmentation, size, random)
    drawn = draw(settings.augmentation, len(images), random)
    still = AugmentationParameters.identity(len(images), blur_kernel=drawn.blur_kernel)
    tones = {k: getattr(drawn, k) for k in ("brightness", "contrast", "sigma", "noise")}
    unchanged = {k: getattr(still, k) for k in tones}
    cropped = apply(images, replace(drawn, **unchanged), size)
    # `apply` clamps to [0, 1], which is right for a picture and wrong for a normalised one.
    clamped = apply(encoder.normalise(cropped), replace(still, **tones), size)
    return clamped * encoder.std + encoder.mean


@torch.no_grad()
def _bank(
    encoder: Encoder, images: Tensor, settings: FinetuneSettings, random: torch.Generator
) -> Tensor | None:
    """(views, n, C, h, w) frozen features of fixed views; None where every epoch draws afresh."""
    if settings.views is None:
        return None
    views = [
        _frozen_part(encoder, _view(encoder, images, settings, random), settings)
        for _ in range(settings.views)
    ]
    return torch.stack(views)


def _frozen_part(encoder: Encoder, images: Tensor, settings: FinetuneSettings) -> Tensor:
    """Pictures through everything before the first trained part."""
    position = PARTS.index(settings.first)
    if position == 0:
        return images
    with torch.no_grad():
        x = encoder.stem(encoder.normalise(images))
        for name in PARTS[1:position]:
            x = getattr(encoder.trunk, name)(x)
    return x


def _trained_part(encoder: Encoder, x: Tensor, settings: FinetuneSettings) -> Tensor:
    """From the first trained part to pooled features (B, D)."""
    if settings.first == "stem":
        return encoder(x)
    for name in PARTS[PARTS.index(settings.first) :]:
        x = getattr(encoder.trunk, name)(x)
    return x.mean(dim=(2, 3))


def finetune_scores(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    episodes: Sequence[Episode],
    *,
    setting: str = "sound",
    quick: bool = True,
    settings: FinetuneSettings | Mapping[str, FinetuneSettings] | None = None,
    seed: int = 42,
    device: torch.device | str | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Fine-tune every init on the same episodes and keep every validation image's score.

    Args:
        encoders: name of the init -> encoder; the names choose the settings, see `settings_for`.
        episodes: from `draw_experiment`.
        setting, quick: as in `settings_for`.
        settings: instead of them, for all inits or by name.
        seed: of views and order.
        device: None for a GPU where there is one.
        jobs: trials trained side by side; None for one a core, or one on a GPU.

    Returns:
        `SCORE_COLUMNS`, one row a validation image, trial, shot count, finding and init.
    """
    if not encoders or not episodes:
        raise InputError("Nothing to evaluate: give at least one encoder and one episode.")
    patients = store.table["patient"].to_numpy(str)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if jobs is None and device.type == "cuda":
        jobs = 1
    tasks = []
    for init, encoder in encoders.items():
        if isinstance(settings, FinetuneSettings):
            chosen = settings
        else:
            chosen = (settings or {}).get(init) or settings_for(init, setting=setting, quick=quick)
        tasks += [(init, encoder, store, e, patients, chosen, seed, device) for e in episodes]
    return in_parallel(
        _finetune_episode, tasks, label="fine-tune", jobs=jobs, threads=True, progress=progress
    )


def _finetune_episode(
    init: str,
    encoder: Encoder,
    store: RadiographStore,
    episode: Episode,
    patients: np.ndarray,
    settings: FinetuneSettings,
    seed: int,
    device: torch.device | str | None,
) -> pd.DataFrame:
    images = pictures(encoder, store, episode.train_rows)
    stream = seed_for(seed, episode.finding, episode.shots, episode.trial)
    model = finetune(encoder, images, episode.train_labels, settings, seed=stream, device=device)
    scores = model.score(pictures(encoder, store, episode.val_rows))
    return score_frame(init, episode, patients, scores)


def evaluate_finetune(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    findings: Sequence[str],
    shots: Iterable[int] = SHOTS,
    trials: int = 10,
    *,
    seed: int = 42,
    negatives: str = NORMAL,
    **options: Any,
) -> pd.DataFrame:
    """Draw the episodes, fine-tune every init on them, and summarise.

    Args:
        findings, shots, trials, seed, negatives: as in `draw_experiment`.
        **options: as in `finetune_scores`.

    Returns:
        `RESULT_COLUMNS`, one row an init, finding and shot count; see `summarise`.
    """
    options |= {"seed": seed, "negatives": negatives}
    score = partial(finetune_scores, seed=seed)
    return summarise(draw_and_score(score, encoders, store, findings, shots, trials, **options))
