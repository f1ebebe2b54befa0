"""What SparK paints into the patches it was not shown, and how to look at it honestly.

SparK predicts every patch in the patch's own scale: mean 0, variance 1. To see a picture, each
painted patch has to be given a brightness and a contrast, and the network never said which:

- `oracle`: the hidden patch's own. It shows what the network drew, and uses what it could not
  know.
- `neighbours`: interpolated from the visible patches nearby. Nothing hidden is used.
- `stitched`: those with which both sides of every border of a painted patch agree, see
  `stitched_statistics`. Nothing hidden is used.
- `global`: one mean and standard deviation of all visible pixels. That gives air and bone the same
  grey, which is why such patches never fuse.

The composite of the SCARCE-CXR series, `series`, is `global` with feathered edges (section 4.7).
The feathering blends with the ORIGINAL on both sides of the mask's edge, so along the border of
every painted patch it shows hidden pixels that the network never saw.

Arrays here are numpy: pictures (n, H, W) in [0, 1], masks (n, gh, gw) bool, True = hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scxr import figures
from scxr.data.store import RadiographStore
from scxr.encoders import resize
from scxr.errors import InputError
from scxr.evaluate.features import prepared
from scxr.explain.exposure import (
    feathered,
    neighbour_statistics,
    spread,
    stitched_statistics,
    visible_statistics,
)
from scxr.methods.settings import with_changes
from scxr.methods.spark import SparK, SparKSettings, masked_patch_mse, patch_statistics, random_mask
from scxr.runs import Run, read_tensors
from scxr.seeds import generator

STATISTICS = ("oracle", "neighbours", "stitched", "global")


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Pictures, what was hidden of them, and what was painted.

    Attributes:
        images: (n, H, W) float in [0, 1].
        mask: (n, gh, gw) bool, True = hidden.
        prediction: (n, H, W) float, in each patch's own scale.
        epoch: of training, when it is known.
    """

    images: np.ndarray
    mask: np.ndarray
    prediction: np.ndarray
    epoch: float | None = None

    def __post_init__(self) -> None:
        n, height, width = self.images.shape
        if self.prediction.shape != self.images.shape or len(self.mask) != n or not n:
            raise InputError(
                f"Images {self.images.shape}, masks {self.mask.shape} and predictions "
                f"{self.prediction.shape} do not belong together."
            )
        if height % self.mask.shape[1] or height // self.mask.shape[1] != self.patch_size:
            raise InputError(f"A mask {self.mask.shape[1:]} does not divide {height} x {width}.")

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels."""
        return self.images.shape[2] // self.mask.shape[2]

    @property
    def hidden(self) -> np.ndarray:
        """(n, H, W) bool: the hidden pixels."""
        return spread(self.mask, self.patch_size).astype(bool)

    def shown(self) -> np.ndarray:
        """What the network saw, hidden patches in the visible pixels' mean grey, (n, H, W)."""
        grey, _ = self._scale("global")
        return np.where(self.hidden, grey, self.images).astype(np.float32)

    def painted(self, statistics: str = "neighbours") -> np.ndarray:
        """The prediction everywhere, as grey values, (n, H, W), not clipped.

        Args:
            statistics: where brightness and contrast come from, one of `STATISTICS`.
        """
        mean, std = self._scale(statistics)
        return (self.prediction * std + mean).astype(np.float32)

    def composite(self, statistics: str = "neighbours") -> np.ndarray:
        """Visible pixels as they are, hidden ones as painted, clipped to [0, 1], (n, H, W).

        Args:
            statistics: one of `STATISTICS`, or `series` for the picture of the SCARCE-CXR series.
        """
        if statistics == "series":
            painted = self.painted("global").clip(0, 1)
            return feathered(self.images, painted, self.hidden, self.patch_size)
        return np.where(self.hidden, self.painted(statistics).clip(0, 1), self.images)

    def error(self, statistics: str = "neighbours") -> np.ndarray:
        """Absolute error of the composite, share of the grey range, (n, H, W); 0 where visible."""
        return np.abs(self.composite(statistics) - self.images)

    def loss(self) -> np.ndarray:
        """(n,) mean squared error on hidden pixels in the patches' scale; 1 = painting the mean."""
        images, prediction = (torch.from_numpy(x)[:, None] for x in (self.images, self.prediction))
        masks = torch.from_numpy(self.mask)
        losses = [
            masked_patch_mse(p, i, m, self.patch_size)
            for p, i, m in zip(prediction.split(1), images.split(1), masks.split(1), strict=True)
        ]
        return torch.stack(losses).numpy()

    def _scale(self, statistics: str) -> tuple[np.ndarray, np.ndarray]:
        if statistics == "global":
            return visible_statistics(self.images, self.hidden)
        if statistics not in STATISTICS:
            known = ", ".join(STATISTICS)
            raise InputError(f"Unknown statistics {statistics!r}: choose from {known}.")
        pixels = torch.from_numpy(self.images)[:, None]
        mean, std = (x[:, 0].numpy() for x in patch_statistics(pixels, self.patch_size))
        if statistics == "oracle":
            return mean, std
        p = self.patch_size
        coarse = mean[:, ::p, ::p], std[:, ::p, ::p]
        centre, width = (neighbour_statistics(values, self.mask) for values in coarse)
        if statistics == "stitched":
            centre, width = stitched_statistics(
                self.images, self.mask, self.prediction, centre, width
            )
        return spread(centre, p), spread(width, p)


def over_training(run: Run, images: int | None = None) -> list[Reconstruction]:
    """What a SparK run kept along the way: the same pictures and masks, oldest first.

    Args:
        images: at most so many of the pictures; None for all.
    """
    _require_spark(run)
    kept = [s for s in run.snapshots() if "prediction" in s.tensors]
    if not kept:
        raise InputError(f"{run.path} kept no reconstructions: train it again.")
    return [
        Reconstruction(
            s.tensors["images"][:images].float().numpy(),
            s.tensors["mask"][:images].bool().numpy(),
            s.tensors["prediction"][:images].float().numpy(),
            s.epoch,
        )
        for s in kept
    ]


def load_spark(run: Run) -> SparK:
    """The whole network of a finished SparK run, decoder included, frozen and in eval mode."""
    _require_spark(run)
    saved = dict(run.config["settings"])
    nested = saved.pop("augmentation")
    changes: dict[str, Any] = {f"augmentation.{key}": value for key, value in nested.items()}
    changes |= {k: v for k, v in saved.items() if v is not None or k not in ("steps", "epochs")}
    settings = with_changes(SparK.presets["quick"], changes)
    method = SparK(run.encoder(), cast(SparKSettings, settings))
    weights, _ = read_tensors(run.path / "method.safetensors")
    method.load_state_dict(weights)
    return method.eval().requires_grad_(False)


@torch.inference_mode()
def reconstruct(
    run: Run | SparK,
    images: Tensor,
    *,
    mask: np.ndarray | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Reconstruction:
    """Hide patches of any pictures and let a run paint them.

    Args:
        run: a finished SparK run, or its network from `load_spark`.
        images: (n, 1, H, W), float in [0, 1] or uint8; resized to what the run was trained on.
        mask: (n, grid, grid) bool, True = hidden; drawn with the run's mask ratio when None.
        seed: of the mask.
    """
    method = run if isinstance(run, SparK) else load_spark(run)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    scaled = images.float() / 255 if images.dtype == torch.uint8 else images
    scaled = resize(scaled, method.settings.image_size)
    if mask is None:
        ratio = method.settings.mask_ratio
        hidden = random_mask(len(scaled), method.grid, ratio, generator(seed, "reconstruct"))
    else:
        hidden = torch.from_numpy(np.asarray(mask, dtype=bool))
    twin = prepared(method, device)
    prediction = twin.predict(scaled.to(device), hidden.to(device))
    return Reconstruction(
        scaled[:, 0].numpy(), hidden.numpy(), prediction[:, 0].float().cpu().numpy()
    )


def reconstruction_figure(
    run: Run | str | Path, store: RadiographStore, *, images: int = 4, seed: int = 0
) -> tuple[Figure, dict[str, float]]:
    """What a SparK run makes of random pictures of a store: `scxr reconstruct`.

    Returns:
        A figure, one row a picture, and numbers: `loss` (mean squared error on hidden pixels in
        the patches' own scale, 1 = painting each patch's mean) and the mean absolute error on
        hidden pixels, as a share of the grey range, for every way of scaling.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    count = min(images, len(store))
    if count < 1:
        raise InputError("Draw at least one image.")
    rows = torch.randperm(len(store), generator=generator(seed, "reconstruct", "rows"))[:count]
    result = reconstruct(run, store.batch(rows.sort().values.numpy()), seed=seed)
    numbers = {"loss": float(result.loss().mean())}
    for name in STATISTICS:
        numbers[f"error_{name}"] = float(result.error(name)[result.hidden].mean())
    return figures.reconstruction_grid(columns(result)), numbers


def columns(
    result: Reconstruction, statistics: Iterable[str] = STATISTICS
) -> dict[str, np.ndarray]:
    """Pictures by title, ready for `figures.reconstruction_grid`: what was there, seen, painted."""
    named = {"original": result.images, "shown": result.shown()}
    named |= {f"painted ({name})": result.composite(name) for name in statistics}
    return named | {"error (neighbours)": result.error("neighbours")}


def _require_spark(run: Run) -> None:
    if run.method != "spark":
        raise InputError(
            f"{run.path} is a {run.method} run and reconstructs nothing: give a run of "
            "`scxr pretrain spark`."
        )
