"""What an encoder says about a picture, computed once and kept on disk by content.

The encoder runs in evaluation mode (batch norm uses the statistics that training left), without
gradients, in single precision, on pictures resized to the size it was trained for, with the
normalisation it carries inside. A cache folder is named after the weights, the store and the
stage, so it can never be stale: another weight or another pixel gives another name.

The cache only grows: 4 bytes a feature, image, encoder and stage (a ResNet-50's last stage: 8 kB
an image; its maps at 224 px: 400 kB). It may be deleted at any time; what is needed is computed
again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from scxr.cache import cache_folder
from scxr.data.store import RadiographStore
from scxr.encoders import Encoder, resize
from scxr.errors import InputError
from scxr.progress import progress_bar
from scxr.public import PublicEncoder

log = logging.getLogger(__name__)

STAGES = ("layer1", "layer2", "layer3", "layer4")
_FORMAT = 1  # part of every cache name: raise it when the same weights would give other features
_PIXELS = 256 * 128 * 128
"""In one batch at most: about 1 GB of activations in a ResNet-50."""


class PixelEncoder(nn.Module):
    """The baseline without a network: the picture itself, made small and laid out in a row."""

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        if size < 1:
            raise InputError(f"The pixel baseline needs a size of at least 1 pixel, not {size}.")
        self.name, self.image_size, self.feature_dim = "pixels", size, size * size

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, size, size) -> (B, size * size)."""
        return images.flatten(1)


Item = TypeVar("Item")
Network = TypeVar("Network", bound=nn.Module)
AnyEncoder = Encoder | PixelEncoder | PublicEncoder
"""What can be evaluated: a module from (B, 1, S, S) in [0, 1] to (B, feature_dim) that has a
`name`, an `image_size` and a `feature_dim`. Stages and Grad-CAM need an `Encoder`."""


def extract(
    encoder: AnyEncoder,
    store: RadiographStore,
    rows: np.ndarray,
    *,
    stage: str | None = None,
    **options: Any,
) -> np.ndarray:
    """Features of the images in `rows`, each image computed once and then read from the cache.

    Args:
        encoder: left as it is; the work is done on a frozen copy.
        rows: (n,) row numbers of the store.
        stage: None for the features that the encoder returns; "layer1" to "layer4" for a stage,
            averaged over positions; "all" for the four of them side by side; "map" for the last
            stage's map, "map:layer3" for another's.
        **options: as in `extract_stages`, which gives several stages in one pass.

    Returns:
        (n, D) float32, or (n, C, h, w) for maps.

    Raises:
        InputError: an unknown stage, no rows, or features that are not finite.
    """
    return extract_stages(encoder, store, rows, [stage], **options)[stage]


def extract_stages(
    encoder: AnyEncoder,
    store: RadiographStore,
    rows: np.ndarray,
    stages: Sequence[str | None],
    *,
    batch_size: int | None = None,
    cache: Path | str | bool = True,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> dict[str | None, np.ndarray]:
    """Several stages of the same images, each picture through the network once for all of them.

    Args:
        encoder, rows: as in `extract`.
        stages: as `extract`'s stage, at least one; maps of many images need memory for all of them.
        batch_size: images at once; None for 256, or fewer where pictures are large.
        cache: True for the folder in `SCXR_CACHE` (or `.scxr`), a folder, or False for none.
        device: None for a GPU where there is one.

    Returns:
        What `extract` would give, by stage.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if rows.ndim != 1 or len(rows) == 0:
        raise InputError("There are no images to extract features from: give at least one row.")
    if not stages:
        raise InputError("There is nothing to extract: name at least one stage.")
    for stage in stages:
        _parse(stage)
    wanted = np.unique(rows)
    names = _names(encoder, store, stages) if cache else {}
    folders = {stage: features_folder(cache) / name for stage, name in names.items()}
    known = {s: _read(folders[s], wanted) if cache else {} for s in dict.fromkeys(stages)}
    missing = np.array(
        [row for row in wanted if any(int(row) not in done for done in known.values())],
        dtype=np.int64,
    )
    if len(missing):
        size = batch_size or max(1, min(256, _PIXELS // int(encoder.image_size) ** 2))
        fresh = _compute(encoder, store, missing, list(known), size, device, progress)
        for stage, features in fresh.items():
            new = np.array([int(row) not in known[stage] for row in missing])
            known[stage].update(zip(missing[new].tolist(), features[new], strict=True))
            if cache and new.any():
                _write(folders[stage], missing[new], features[new])
    found = {stage: np.stack([done[row] for row in rows.tolist()]) for stage, done in known.items()}
    _warn_of_collapse(encoder, found)
    return found


def _warn_of_collapse(encoder: AnyEncoder, found: dict[str | None, np.ndarray]) -> None:
    for stage, features in found.items():
        scale = float(np.abs(features).max())
        if len(features) > 2 and float(np.ptp(features, axis=0).max()) <= 1e-6 * scale:
            log.warning(
                "The features of %s%s are the same for all %d images, so no probe on them can be "
                "better than chance: the encoder has collapsed, or the images are all alike.",
                encoder.name,
                f" at {stage}" if stage else "",
                len(features),
            )


def features_folder(cache: Path | str | bool = True) -> Path:
    """Where features are kept: `cache`, or `features` in scxr's cache folder."""
    return cache_folder() / "features" if isinstance(cache, bool) else Path(cache)


def prepared(network: Network, device: torch.device | str | None = None) -> Network:
    """A frozen copy in evaluation mode on `device`, laid out for fast convolutions."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    twin = copy.deepcopy(network).eval().requires_grad_(False)
    twin.to(device)
    twin.to(memory_format=torch.channels_last)
    return twin


def pictures(
    encoder: AnyEncoder,
    store: RadiographStore,
    rows: np.ndarray,
    device: torch.device | str = "cpu",
) -> Tensor:
    """What `encoder` is shown of `rows`: (n, 1, S, S) float32 in [0, 1], S its image size.

    Encoders that others published see what their own libraries would show them: 8-bit pictures
    that are resized as such.
    """
    images, size = store.batch(rows).to(device), int(encoder.image_size)
    if isinstance(encoder, PublicEncoder):
        way = InterpolationMode(encoder.interpolation)
        shown = tv.resize(images, [size, size], interpolation=way, antialias=True).float() / 255
    else:
        shown = resize(images.float() / 255, size)
    return shown.contiguous(memory_format=torch.channels_last)


def fingerprint(encoder: AnyEncoder) -> str:
    """Hexadecimal SHA-256 of an encoder: its kind, the size of its pictures, and every weight."""
    digest = hashlib.sha256()
    about = [type(encoder).__name__, str(encoder.name), int(encoder.image_size)]
    digest.update(json.dumps([*about, getattr(encoder, "config", None)], sort_keys=True).encode())
    for key, tensor in sorted(encoder.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def require_finite(features: np.ndarray, what: str = "features") -> np.ndarray:
    """`features` unchanged, or an `InputError` that counts the images with NaN or infinity."""
    finite = np.isfinite(features).reshape(len(features), -1).all(axis=1)
    if not finite.all():
        raise InputError(
            f"The {what} of {int((~finite).sum())} of {len(features)} images are NaN or infinite: "
            "the encoder diverged in training or its weights are damaged; use another run."
        )
    return features


def _parse(stage: str | None) -> tuple[str | None, bool]:
    """The stage (None: what the encoder returns) and whether its whole map is wanted."""
    if stage in (None, "all", *STAGES):
        return stage, False
    name = "layer4" if stage == "map" else str(stage).removeprefix("map:")
    if name not in STAGES or not str(stage).startswith("map"):
        raise InputError(
            f"Unknown stage {stage!r}: give None, one of {', '.join(STAGES)}, 'all', 'map' or "
            "'map:' with one of them."
        )
    return name, True


def _forward(
    encoder: AnyEncoder, images: Tensor, stages: Sequence[str | None]
) -> dict[str | None, Tensor]:
    wanted = {stage: _parse(stage) for stage in stages}
    if any(name is not None for name, _ in wanted.values()) and not isinstance(encoder, Encoder):
        raise InputError(f"{encoder.name} has no stages: leave the stage out.")
    if not isinstance(encoder, Encoder) or all(name is None for name, _ in wanted.values()):
        return dict.fromkeys(stages, encoder(images))
    maps = dict(zip(STAGES, encoder.stages(images), strict=True))
    means = {name: m.mean(dim=(2, 3)) for name, m in maps.items()}
    found: dict[str | None, Tensor] = {}
    for stage, (name, as_map) in wanted.items():
        if name == "all":
            found[stage] = torch.cat(list(means.values()), dim=1)
        else:  # what the encoder returns is the mean of its last stage
            found[stage] = (maps if as_map else means)[name or STAGES[-1]]
    return found


def _compute(
    encoder: AnyEncoder,
    store: RadiographStore,
    rows: np.ndarray,
    stages: Sequence[str | None],
    batch_size: int,
    device: torch.device | str | None,
    progress: bool,
) -> dict[str | None, np.ndarray]:
    twin = prepared(encoder, device)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    label = f"features {encoder.name}"
    parts: dict[str | None, list[np.ndarray]] = {stage: [] for stage in stages}
    with torch.inference_mode():
        for batch in bar(batches, label=label, progress=progress):
            found = _forward(twin, pictures(encoder, store, batch, chosen), stages)
            for stage, features in found.items():
                parts[stage].append(features.float().cpu().contiguous().numpy())
    return {stage: require_finite(np.concatenate(part)) for stage, part in parts.items()}


def bar(
    items: Iterable[Item], *, label: str, progress: bool, total: int | None = None
) -> Iterable[Item]:
    """`items` with a progress bar on standard error, unless `TQDM_DISABLE` forbids it."""
    return progress_bar(items, desc=label, total=total, leave=False) if progress else items


def _names(
    encoder: AnyEncoder, store: RadiographStore, stages: Sequence[str | None]
) -> dict[str | None, str]:
    """The name of the cache folder by stage."""
    about = [_FORMAT, fingerprint(encoder), store.fingerprint]
    parts = {stage: json.dumps([*about, stage]) for stage in stages}
    return {s: hashlib.sha256(part.encode()).hexdigest()[:32] for s, part in parts.items()}


def _read(folder: Path, wanted: np.ndarray) -> dict[int, np.ndarray]:
    """Cached features of the `wanted` rows; a damaged file counts as absent."""
    known: dict[int, np.ndarray] = {}
    for file in sorted(folder.glob("*.npz")):
        try:
            with np.load(file, allow_pickle=False) as shard:
                rows = shard["rows"]
                useful = np.isin(rows, wanted)
                if useful.any():
                    known.update(zip(rows[useful].tolist(), shard["features"][useful], strict=True))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            log.warning("Cached features in %s cannot be read (%s); computing again.", file, error)
    return known


def _write(folder: Path, rows: np.ndarray, features: np.ndarray) -> None:
    """One file more in the cache, complete or not there at all."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(rows.tobytes()).hexdigest()[:16]
    part = Path(tempfile.mkstemp(dir=folder, suffix=".part")[1])
    try:
        with part.open("wb") as file:
            np.savez(file, rows=rows, features=features)
        part.replace(folder / f"{name}.npz")
    finally:
        part.unlink(missing_ok=True)
