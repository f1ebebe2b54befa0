"""Watch SparK learn to paint in what was hidden.

Reading: Tian et al. 2023, arXiv:2301.03580 (SparK); He et al. 2021, arXiv:2111.06377 (MAE; the
target is scaled within each patch).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import traitlets

from scxr.errors import InputError
from scxr.methods.spark import masked_patch_mse, patch_statistics
from scxr.runs import Run
from scxr.widgets.base import CourseWidget, front_end, style
from scxr.widgets.packing import as_uint8, pack, sheet, shrink

VIEWS = ("input", "composite", "exposed", "raw")
RAW_RANGE = 3.0
"""Raw predictions are shown from minus to plus this many standard deviations of a patch."""
ERROR_RANGE = 3.0
ERROR_LEVELS = 24
MAX_IMAGES, MAX_EPOCHS = 4, 8

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


class ReconstructionWidget(CourseWidget):
    """Image, epoch, mask ratio; what the network saw, painted, and got wrong.

    Args:
        images: (n, H, W) uint8, or floats in [0, 1].
        masks: (n, gh, gw) bool, True = hidden; or (ratios, n, gh, gw) for several mask ratios.
        predictions: (epochs, n, H, W), or (epochs, ratios, n, H, W): what the network painted, in
            each patch's own scale (mean 0, variance 1).
        epochs: when the predictions were made.
        patch_size: pixels.
        predict: `predict(image, mask) -> prediction`, image (H, W) in [0, 1], mask (gh, gw),
            prediction (H, W) as above. With a kernel the reader then hides patches by hand.
        size: largest side of the pictures in the page, pixels.

    Raises:
        InputError: shapes that do not belong together.
    """

    _esm = front_end("pictures", "reconstruction")
    _css = style()

    shape = traitlets.List(traitlets.Int()).tag(sync=True)
    grid = traitlets.List(traitlets.Int()).tag(sync=True)
    epochs = traitlets.List(traitlets.Float()).tag(sync=True)
    ratios = traitlets.List(traitlets.Float()).tag(sync=True)
    masks: traitlets.List = traitlets.List().tag(sync=True)
    originals = traitlets.Bytes().tag(sync=True)
    pictures = traitlets.Bytes().tag(sync=True)
    errors = traitlets.Bytes().tag(sync=True)
    scores: traitlets.List = traitlets.List().tag(sync=True)
    image = traitlets.Int().tag(sync=True)
    epoch = traitlets.Int().tag(sync=True)
    ratio = traitlets.Int().tag(sync=True)
    view = traitlets.Enum([*VIEWS[1:], "error"], default_value="composite").tag(sync=True)

    def __init__(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        predictions: np.ndarray,
        epochs: Sequence[float],
        patch_size: int,
        *,
        predict: Predict | None = None,
        size: int = 128,
    ) -> None:
        grey = as_uint8(images)
        masks = np.asarray(masks, bool)
        predictions = np.asarray(predictions, np.float32)
        if masks.ndim == 3 and predictions.ndim == 4:
            masks, predictions = masks[None], predictions[:, None]
        _check(grey, masks, predictions, epochs, patch_size)
        self._images, self._patch_size, self._predict = grey, patch_size, predict
        self._side = min(size, max(grey.shape[1:]))
        frames, errors, scores = [], [], []
        for stack in predictions:
            shown = [
                self.views(i, masks[r, i], stack[r, i])
                for r in range(len(masks))
                for i in range(len(grey))
            ]
            frames += [picture for pictures, _, _ in shown for picture in pictures]
            errors += [error for _, error, _ in shown]
            scores.append([score for _, _, score in shown])
        small = shrink(grey, self._side)
        super().__init__(
            shape=list(small.shape),
            grid=list(masks.shape[2:]),
            epochs=[float(e) for e in epochs],
            ratios=masks.mean(axis=(1, 2, 3)).tolist(),
            masks=masks.reshape(*masks.shape[:2], -1).astype(int).tolist(),
            originals=sheet(small),
            pictures=sheet(np.stack(frames)),
            errors=pack(np.stack(errors)),
            scores=scores,
            epoch=len(epochs) - 1,
        )

    @classmethod
    def from_run(
        cls, run: Run, *, images: int = MAX_IMAGES, predict: Predict | None = None, size: int = 128
    ) -> ReconstructionWidget:
        """The snapshots that a SparK run kept: its first `images`, at most eight moments.

        Raises:
            InputError: the run kept no reconstructions.
        """
        kept = [s for s in run.snapshots() if "prediction" in s.tensors]
        if not kept:
            raise InputError(
                f"{run.path} keeps no reconstructions: give a run of `scxr pretrain spark`."
            )
        moments = np.linspace(0, len(kept) - 1, min(MAX_EPOCHS, len(kept))).round().astype(int)
        chosen = [kept[i] for i in np.unique(moments)]
        pictures = chosen[0].tensors["images"][:images].float().numpy()
        mask = chosen[0].tensors["mask"][:images].bool().numpy()
        predictions = np.stack([s.tensors["prediction"][:images].float().numpy() for s in chosen])
        patch_size = pictures.shape[1] // mask.shape[1]
        epochs = [s.epoch for s in chosen]
        return cls(pictures, mask, predictions, epochs, patch_size, predict=predict, size=size)

    def views(
        self, image: int, mask: np.ndarray, prediction: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray, float]:
        """What one prediction shows.

        Returns:
            The pictures named in `VIEWS` and the error map, each (h, w) uint8 at the page's size,
            and the mean squared error on hidden pixels (1 = painting every patch's mean).
        """
        truth = torch.from_numpy(self._images[image]).float().div(255)[None, None]
        painted = torch.from_numpy(np.array(prediction, np.float32))[None, None]
        patches = torch.from_numpy(np.array(mask, bool))[None]
        hidden = patches.repeat_interleave(self._patch_size, 1)
        hidden = hidden.repeat_interleave(self._patch_size, 2)[None]
        mean, std = patch_statistics(truth, self._patch_size)
        seen = truth[~hidden] if not hidden.all() else truth.flatten()
        own_scale = torch.where(hidden, painted * std + mean, truth)
        exposed = torch.where(hidden, painted * seen.std() + seen.mean(), truth)
        blank = torch.where(hidden, seen.mean(), truth)
        raw = painted / (2 * RAW_RANGE) + 0.5
        error = torch.where(hidden, (painted - (truth - mean) / std).abs() / ERROR_RANGE, 0)
        score = float(masked_patch_mse(painted, truth, patches, self._patch_size))
        pictures = [self._to_page(p) for p in (blank, own_scale, exposed, raw)]
        return pictures, self._to_page(_coarse(error)), score

    def _to_page(self, picture: torch.Tensor) -> np.ndarray:
        grey = picture[0, 0].clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
        return shrink(grey[None], self._side)[0]

    def abilities(self) -> list[str]:
        return ["predict"] if self._predict else []

    def answer(self, content: dict[str, Any], buffers: list[Any]) -> tuple[dict, list[bytes]]:
        if content.get("type") != "predict" or self._predict is None:
            return super().answer(content, buffers)
        image, cells = content.get("image"), content.get("mask")
        if not isinstance(image, int) or not 0 <= image < len(self._images):
            raise InputError(f"There is no image {image!r}.")
        if not isinstance(cells, list) or len(cells) != self.grid[0] * self.grid[1]:
            raise InputError(f"The mask must have {self.grid[0]} x {self.grid[1]} patches.")
        mask = np.array(cells, bool).reshape(self.grid)
        if not mask.any():
            raise InputError("Hide at least one patch: the network paints only what is hidden.")
        prediction = self._predict(self._images[image].astype(np.float32) / 255, mask)
        if np.shape(prediction) != self._images[image].shape:
            raise InputError(f"predict returned {np.shape(prediction)} instead of a picture.")
        pictures, error, score = self.views(image, mask, prediction)
        return {"score": score}, [p.tobytes() for p in [*pictures, error]]

    def describe(self) -> str:
        """Mask ratios and how the error fell, in words."""
        first, last = np.array(self.scores[0]), np.array(self.scores[-1])
        return (
            f"SparK's reconstructions of {len(self._images)} radiographs with "
            f"{' / '.join(f'{r:.0%}' for r in self.ratios)} of the patches hidden. Squared error "
            f"on hidden pixels (1 = painting each patch's mean): {first.mean():.2f} at epoch "
            f"{self.epochs[0]:g}, {last.mean():.2f} at epoch {self.epochs[-1]:g}."
        )


def _coarse(error: torch.Tensor) -> torch.Tensor:
    """A few levels are enough for the eye, and travel in half the bytes."""
    return error.clamp(0, 1).mul(ERROR_LEVELS).round().div(ERROR_LEVELS)


def _check(
    images: np.ndarray,
    masks: np.ndarray,
    predictions: np.ndarray,
    epochs: Sequence[float],
    patch_size: int,
) -> None:
    count, height, width = images.shape
    if masks.ndim != 4 or masks.shape[1:] != (count, height // patch_size, width // patch_size):
        raise InputError(
            f"masks are {masks.shape}; {count} images of {height} x {width} in patches of "
            f"{patch_size} need (ratios, {count}, {height // patch_size}, {width // patch_size})."
        )
    if height % patch_size or width % patch_size:
        raise InputError(f"Patches of {patch_size} do not divide {height} x {width} images.")
    expected = (len(epochs), len(masks), count, height, width)
    if predictions.shape != expected or not len(epochs):
        raise InputError(f"predictions are {predictions.shape}, but {expected} were expected.")
