"""Watch SparK learn to paint in what was hidden.

Reading: Tian et al. 2023, arXiv:2301.03580 (SparK); He et al. 2021, arXiv:2111.06377 (MAE; the
target is scaled within each patch).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import traitlets

from scxr.errors import InputError
from scxr.explain.reconstruction import (
    STATISTICS,
    Reconstruction,
    load_spark,
    over_training,
    reconstruct,
)
from scxr.runs import Run
from scxr.widgets.base import CourseWidget, front_end, style
from scxr.widgets.packing import as_uint8, pack, sheet, shrink

VIEWS = ("shown", "neighbours", "oracle", "global", "raw", "stitched", "series")
"""What a kernel answers; a page has the first once, the others for every epoch."""
RAW_RANGE = 3.0
"""Raw predictions are shown from minus to plus this many standard deviations of a patch."""
ERROR_RANGE = 0.5
"""Errors are coloured up to this share of the grey range."""
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
    inputs = traitlets.Bytes().tag(sync=True)
    pictures = traitlets.Bytes().tag(sync=True)
    errors = traitlets.Bytes().tag(sync=True)
    scores: traitlets.List = traitlets.List().tag(sync=True)
    image = traitlets.Int().tag(sync=True)
    epoch = traitlets.Int().tag(sync=True)
    ratio = traitlets.Int().tag(sync=True)
    view = traitlets.Enum([*VIEWS[1:], "error"], default_value="neighbours").tag(sync=True)

    def __init__(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        predictions: np.ndarray,
        epochs: Sequence[float],
        *,
        predict: Predict | None = None,
        size: int = 128,
    ) -> None:
        grey = as_uint8(images)
        masks = np.asarray(masks, bool)
        predictions = np.asarray(predictions, np.float32)
        if masks.ndim == 3 and predictions.ndim == 4:
            masks, predictions = masks[None], predictions[:, None]
        _check(grey, masks, predictions, epochs)
        self._images, self._predict = grey, predict
        self._side = min(size, max(grey.shape[1:]))
        shown = [
            [self.views(grey, mask, painted) for mask, painted in zip(masks, stack, strict=True)]
            for stack in predictions
        ]
        flat = [part for epoch in shown for part in epoch]
        # What the network saw is the same at every epoch.
        inputs = np.concatenate([pictures[:, 0] for pictures, _, _ in shown[0]])
        frames = np.concatenate([np.concatenate(pictures[:, 1:]) for pictures, _, _ in flat])
        errors = np.concatenate([error for _, error, _ in flat])
        scores = [[score for _, _, scores in epoch for score in scores] for epoch in shown]
        small = shrink(grey, self._side)
        super().__init__(
            shape=list(small.shape),
            grid=list(masks.shape[2:]),
            epochs=[float(e) for e in epochs],
            ratios=masks.mean(axis=(1, 2, 3)).tolist(),
            masks=masks.reshape(*masks.shape[:2], -1).astype(int).tolist(),
            originals=sheet(small),
            inputs=sheet(inputs),
            pictures=sheet(frames),
            errors=pack(errors),
            scores=scores,
            epoch=len(epochs) - 1,
        )

    @classmethod
    def from_run(
        cls, run: Run, *, images: int = MAX_IMAGES, size: int = 128
    ) -> ReconstructionWidget:
        """The pictures a SparK run kept along the way: the first `images`, at most eight moments.

        With a kernel the run's network, read when it is first needed, answers the reader's masks.

        Raises:
            InputError: the run kept no reconstructions.
        """
        kept = over_training(run, images)
        moments = np.linspace(0, len(kept) - 1, min(MAX_EPOCHS, len(kept))).round().astype(int)
        chosen = [kept[i] for i in np.unique(moments)]
        return cls(
            chosen[0].images,
            chosen[0].mask,
            np.stack([moment.prediction for moment in chosen]),
            [float(moment.epoch or 0) for moment in chosen],
            predict=_network(run) if run.finished else None,
            size=size,
        )

    def views(
        self, images: np.ndarray, masks: np.ndarray, predictions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """What predictions show.

        Args:
            images: (n, H, W) uint8; masks: (n, gh, gw) bool; predictions: (n, H, W).

        Returns:
            The pictures named in `VIEWS`, (n, 7, h, w) uint8 at the page's size, the errors
            (n, h, w) uint8, and n mean squared errors on hidden pixels (1 = painting the mean).
        """
        result = Reconstruction(
            images.astype(np.float32) / 255,
            np.array(masks, bool),
            np.array(predictions, np.float32),
        )
        pictures = {name: result.composite(name) for name in (*STATISTICS, "series")}
        pictures |= {"shown": result.shown(), "raw": predictions / (2 * RAW_RANGE) + 0.5}
        stacked = np.stack([self._to_page(pictures[name]) for name in VIEWS], axis=1)
        error = (result.error("neighbours") / ERROR_RANGE).clip(0, 1)
        # A few levels are enough for the eye, and travel in half the bytes.
        coarse = np.rint(error * ERROR_LEVELS) / ERROR_LEVELS
        return stacked, self._to_page(coarse), result.loss().tolist()

    def _to_page(self, pictures: np.ndarray) -> np.ndarray:
        return shrink(as_uint8(np.clip(pictures, 0, 1)), self._side)

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
        picture = self._images[image]
        prediction = self._predict(picture.astype(np.float32) / 255, mask)
        if np.shape(prediction) != picture.shape:
            raise InputError(f"predict returned {np.shape(prediction)} instead of a picture.")
        pictures, error, score = self.views(picture[None], mask[None], prediction[None])
        return {"score": score[0]}, [p.tobytes() for p in [*pictures[0], error[0]]]

    def describe(self) -> str:
        """Mask ratios and how the error fell, in words."""
        first, last = np.array(self.scores[0]), np.array(self.scores[-1])
        return (
            f"SparK's reconstructions of {len(self._images)} radiographs with "
            f"{' / '.join(f'{r:.0%}' for r in self.ratios)} of the patches hidden. Squared error "
            f"on hidden pixels (1 = painting each patch's mean): {first.mean():.2f} at epoch "
            f"{self.epochs[0]:g}, {last.mean():.2f} at epoch {self.epochs[-1]:g}."
        )


def _network(run: Run) -> Predict:
    """The network of a finished run, loaded at the first question."""
    load = cache(lambda: load_spark(run))

    def predict(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        picture = torch.from_numpy(image)[None, None]
        return reconstruct(load(), picture, mask=mask[None]).prediction[0]

    return predict


def _check(
    images: np.ndarray, masks: np.ndarray, predictions: np.ndarray, epochs: Sequence[float]
) -> None:
    if masks.ndim != 4 or masks.shape[1] != len(images):
        raise InputError(
            f"masks are {masks.shape}, but (ratios, {len(images)}, rows, columns) was expected."
        )
    expected = (len(epochs), len(masks), *images.shape)
    if predictions.shape != expected or not len(epochs):
        raise InputError(f"predictions are {predictions.shape}, but {expected} were expected.")
