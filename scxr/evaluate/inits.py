"""The encoders of a comparison, by name: runs, and the baselines they have to beat."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scxr.data.findings import is_validation
from scxr.data.store import RadiographStore
from scxr.encoders import Encoder, build_encoder, freeze, imagenet_encoder
from scxr.errors import InputError
from scxr.evaluate.features import AnyEncoder, PixelEncoder, pictures
from scxr.fetching import Unavailable
from scxr.public import KINDS, is_public, name_and_path, public_encoder
from scxr.runs import Run
from scxr.seeds import generator

log = logging.getLogger(__name__)

BASELINES = ("random", "random-calibrated", "imagenet", "pixels", *KINDS)
"""What can stand beside runs:

- random: the first run's network with fresh weights; batch norm as torch makes it (mean 0,
  variance 1), which is the stronger of the two random baselines.
- random-calibrated: the same weights, batch norm's statistics measured on training images.
- imagenet: the same network with torchvision's ImageNet weights.
- pixels: no network, the picture at 32 x 32.
- rad-dino, xrv, timm:NAME: encoders that others published, see `scxr.public`.

The last three and imagenet may be followed by =PATH, for machines that cannot fetch weights.
"""


def load_inits(
    runs: Iterable[str | Path],
    baselines: Iterable[str],
    store: RadiographStore,
    *,
    seed: int = 0,
    imagenet_weights: Path | None = None,
) -> dict[str, AnyEncoder]:
    """Encoders by the name they have in a table, in the order asked for.

    Args:
        runs: folders of finished runs; a folder's name is the row's name.
        baselines: from `BASELINES`, such as "random" or "rad-dino=FOLDER"; the row's name is what
            comes before the =. The random ones and imagenet take backbone and picture size from
            the first run, so that they differ in the weights alone.
        store: gives the normalisation of the baselines where there is no run.
        seed: of the random weights.
        imagenet_weights: a downloaded file, the same as "imagenet=FILE".

    Returns:
        The encoders. One whose library is missing or whose weights cannot be fetched is left out,
        with a warning.
    """
    encoders: dict[str, AnyEncoder] = {}
    for path in runs:
        run = Run.open(path)
        if run.name in encoders:
            raise InputError(f"Two runs are called {run.name}: rename one of the folders.")
        encoders[run.name] = run.encoder()
    like = _like(encoders, store)
    for init in dict.fromkeys(baselines):
        name = init.partition("=")[0]
        if name in encoders:
            raise InputError(f"Two inits are called {name}: leave one of them out.")
        encoder = _baseline(init, like, store, seed, imagenet_weights)
        if encoder is not None:
            encoders[name] = encoder
    if not encoders:
        raise InputError("There is nothing to evaluate: name a run, or an init to compare.")
    return encoders


def _baseline(
    init: str, like: dict, store: RadiographStore, seed: int, imagenet_weights: Path | None
) -> AnyEncoder | None:
    """None, with a warning, for what cannot be had here."""
    name, path = name_and_path(init)
    if init == "random":
        return freeze(build_encoder(**like, seed=seed))
    if init == "random-calibrated":
        return calibrated(build_encoder(**like, seed=seed), store, seed=seed)
    if init == "pixels":
        return PixelEncoder()
    if name == "imagenet":
        return _imagenet(like, path or imagenet_weights)
    if not is_public(init):
        raise InputError(f"Unknown init {init!r}: choose from {', '.join(BASELINES)}.")
    try:
        return public_encoder(init)
    except Unavailable as error:
        log.warning("%s The table is made without it.", error)
        return None


def _like(encoders: dict[str, AnyEncoder], store: RadiographStore) -> dict:
    for encoder in encoders.values():
        if isinstance(encoder, Encoder):
            return dict(encoder.config)
    size = min(store.images.shape[1], 224)
    std = store.std or 1.0  # 0 where all pictures are of one grey
    return {"name": "resnet18", "image_size": size, "mean": store.mean, "std": std}


def _imagenet(like: dict, weights: Path | None) -> Encoder | None:
    arguments = {k: v for k, v in like.items() if k != "stem"}
    if weights is not None:
        return freeze(imagenet_encoder(**arguments, weights=weights))
    try:
        return freeze(imagenet_encoder(**arguments))
    except InputError as error:
        log.warning("%s The table is made without it.", error)
        return None


@torch.no_grad()
def calibrated(
    encoder: Encoder, store: RadiographStore, *, images: int = 512, seed: int = 0
) -> Encoder:
    """A frozen copy whose batch norm has seen the data: statistics of training patients' images.

    Args:
        images: how many to measure on, at most.
        seed: of which.

    Raises:
        InputError: an encoder without batch norm, or a store without training patients.
    """
    twin = copy.deepcopy(encoder)
    norms = [m for m in twin.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        raise InputError(f"{encoder.name} has no batch norm to calibrate: leave this init out.")
    rows = np.flatnonzero(~is_validation(store.table["patient"]))
    if len(rows) < 2:
        raise InputError("There are no training images to calibrate batch norm on.")
    order = torch.randperm(len(rows), generator=generator(seed, "calibration")).numpy()
    chosen = np.sort(rows[order[:images]])
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over batches
    freeze(twin).train()
    for batch in np.array_split(chosen, max(1, len(chosen) // 32)):
        twin(pictures(twin, store, batch))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return freeze(twin)
