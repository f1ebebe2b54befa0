"""The encoders of a comparison, by name: runs, and the baselines they have to beat."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from scxr.data.store import RadiographStore
from scxr.encoders import Encoder, build_encoder, freeze, imagenet_encoder
from scxr.errors import InputError
from scxr.evaluate.features import AnyEncoder, PixelEncoder
from scxr.runs import Run

log = logging.getLogger(__name__)

BASELINES = ("random", "imagenet", "pixels")


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
        baselines: from `BASELINES`. "random" and "imagenet" take backbone and picture size from
            the first run, so that they differ in the weights alone.
        store: gives the normalisation of the baselines where there is no run.
        imagenet_weights: a downloaded file, for machines that cannot fetch it.

    Returns:
        The encoders. "imagenet" is left out, with a warning, where its weights cannot be had
        and no file was given.
    """
    encoders: dict[str, AnyEncoder] = {}
    for path in runs:
        run = Run.open(path)
        if run.name in encoders:
            raise InputError(f"Two runs are called {run.name}: rename one of the folders.")
        encoders[run.name] = run.encoder()
    like = _like(encoders, store)
    for name in baselines:
        if name == "random":
            encoders[name] = freeze(build_encoder(**like, seed=seed))
        elif name == "imagenet":
            imagenet = _imagenet(like, imagenet_weights)
            if imagenet is not None:
                encoders[name] = imagenet
        elif name == "pixels":
            encoders[name] = PixelEncoder()
        else:
            raise InputError(f"Unknown init {name!r}: choose from {', '.join(BASELINES)}.")
    if not encoders:
        raise InputError("There is nothing to evaluate: name a run, or an init to compare.")
    return encoders


def _like(encoders: dict[str, AnyEncoder], store: RadiographStore) -> dict:
    for encoder in encoders.values():
        if isinstance(encoder, Encoder):
            return dict(encoder.config)
    size = min(store.images.shape[1], 224)
    return {"name": "resnet18", "image_size": size, "mean": store.mean, "std": store.std}


def _imagenet(like: dict, weights: Path | None) -> Encoder | None:
    arguments = {k: v for k, v in like.items() if k != "stem"}
    if weights is not None:
        return freeze(imagenet_encoder(**arguments, weights=weights))
    try:
        return freeze(imagenet_encoder(**arguments))
    except InputError as error:
        log.warning("%s The table is made without it.", error)
        return None
