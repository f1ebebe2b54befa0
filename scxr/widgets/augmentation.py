"""Move one augmentation at a time, and see what it does to a radiograph and to its finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from scipy.ndimage import binary_dilation

from scxr.augment import Augmentation, AugmentationParameters, affine, apply, draw, warp
from scxr.errors import InputError
from scxr.seeds import generator
from scxr.widgets import lattice
from scxr.widgets.base import CourseWidget, front_end, style
from scxr.widgets.packing import as_uint8, pack, read_picture, sheet, shrink

NOISE_SEED = 0


class AugmentationWidget(CourseWidget):
    """Crop, rotate, mirror, brighten, blur and add noise; the finding's mask goes along.

    Args:
        images: (n, H, H) uint8, or floats in [0, 1].
        masks: finding -> (n, H, H) bool, or None. An image shows the masks that its label names.
        labels: one an image; several findings are separated by "|".
        settings: what the method draws; the sliders' stops lie inside it.
        size: side of the views, pixels; H where H is smaller.
        pairs: how many random pairs an image gets in the page.
        seed: of the pairs.

    Without a kernel the reader moves a crop or one other control at a time, over stops that
    `scxr.augment.apply` computed. With a kernel all controls move together and freely, new pairs
    can be drawn, and a picture of the reader's own can be loaded.

    Raises:
        InputError: images that are not square, or masks and labels that do not fit them.
    """

    _esm = front_end("pictures", "augmentation")
    _css = style()

    size = traitlets.Int().tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    controls = traitlets.List(traitlets.Dict()).tag(sync=True)
    originals = traitlets.Bytes().tag(sync=True)
    regions = traitlets.Bytes().tag(sync=True)
    views = traitlets.Bytes().tag(sync=True)
    view_masks = traitlets.Bytes().tag(sync=True)
    frames = traitlets.List(traitlets.Dict()).tag(sync=True)
    pairs = traitlets.Int().tag(sync=True)
    image = traitlets.Int().tag(sync=True)
    mode = traitlets.Enum(["hand", "pair"], default_value="hand").tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    pair = traitlets.Int().tag(sync=True)
    outlined = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        images: np.ndarray,
        masks: Mapping[str, np.ndarray] | None = None,
        labels: Sequence[str] | None = None,
        settings: Augmentation | None = None,
        *,
        size: int = 128,
        pairs: int = 4,
        seed: int = 0,
    ) -> None:
        pictures = as_uint8(images)
        labels = list(labels) if labels is not None else [""] * len(pictures)
        _check(pictures, masks or {}, labels)
        self._settings, self._seed = settings or Augmentation(), seed
        self._view_size = min(size, pictures.shape[1])
        self._images = list(pictures)
        self._masks = [_mask_of(masks or {}, label, i) for i, label in enumerate(labels)]
        sliders = lattice.controls(self._settings)
        frames, views, view_masks = self._compute_page(sliders, pairs)
        regions = [m if m is not None else np.zeros_like(pictures[0], bool) for m in self._masks]
        super().__init__(
            size=self._view_size,
            labels=labels,
            controls=lattice.as_json(sliders),
            originals=sheet(shrink(pictures, self._view_size)),
            regions=pack(shrink(np.stack(regions).astype(np.uint8) * 255, self._view_size) >= 128),
            views=sheet(np.stack(views)),
            view_masks=pack(np.stack(view_masks)),
            frames=frames,
            pairs=pairs,
            values=lattice.neutral(sliders),
        )

    def parameters(self, values: lattice.Values) -> AugmentationParameters:
        """What a position of the sliders means to `scxr.augment.apply`."""
        return lattice.parameters(values, self._settings, NOISE_SEED)

    def drawn(self, image: int, pair: int) -> tuple[AugmentationParameters, ...]:
        """The parameters of both views of a random pair; the same ones for the same numbers."""
        source = generator(self._seed, "pair", image, pair)
        return draw(self._settings, 1, source), draw(self._settings, 1, source)

    def view(
        self, image: int, parameters: AugmentationParameters
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        """One view as the front end shows it.

        Returns:
            numbers (the crop's corners in the picture, what was drawn, how much of the finding is
            left), the view (size, size) uint8, and the finding's mask in it (size, size) bool.
        """
        picture = torch.from_numpy(self._images[image]).float().div(255)[None, None]
        view = apply(picture, parameters, self._view_size)[0, 0].numpy()
        mask = self._masks[image]
        numbers: dict[str, Any] = {"left": None, "covers": None, "stands_out": None}
        numbers |= {"corners": _corners(parameters), "drawn": _scalars(parameters)}
        moved = np.zeros(view.shape, bool)
        if mask is not None:
            warped = warp(torch.from_numpy(mask)[None, None], parameters, self._view_size)
            moved = warped[0, 0].numpy()
            numbers |= _finding(view, moved, mask, parameters)
        return numbers, np.rint(view * 255).astype(np.uint8), moved

    def abilities(self) -> list[str]:
        return ["view", "pair", "add"]

    def answer(self, content: dict[str, Any], buffers: list[Any]) -> tuple[dict, list[bytes]]:
        kind = content.get("type")
        if kind == "add":
            picture = read_picture(bytes(buffers[0]), *self._images[0].shape)
            self._images.append(picture)
            self._masks.append(None)
            small = shrink(picture[None], self._view_size)[0]
            return {"image": len(self._images) - 1}, [small.tobytes()]
        image = content.get("image")
        if not isinstance(image, int) or not 0 <= image < len(self._images):
            raise InputError(f"There is no image {image!r}.")
        if kind == "view":
            shown = [self.view(image, self.parameters(content["values"]))]
        elif kind == "pair":
            shown = [self.view(image, p) for p in self.drawn(image, int(content["pair"]))]
        else:
            return super().answer(content, buffers)
        pixels = [part.astype(np.uint8).tobytes() for _, *parts in shown for part in parts]
        return {"views": [numbers for numbers, _, _ in shown]}, pixels

    def describe(self) -> str:
        """The sliders with their reasons, and what the smallest crops leave of each finding."""
        reasons = " ".join(f"{c['label']}: {c['reason']}" for c in self.controls if c["reason"])
        parts = []
        for i, label in enumerate(self.labels):
            left = [f["left"] for f in self.frames if f["image"] == i and f["left"] is not None]
            if left:
                parts.append(f"{label}: between {min(left):.0%} and {max(left):.0%} stay in view.")
        return f"Augmentations of a chest radiograph. {reasons} {' '.join(parts)}".strip()

    def _compute_page(
        self, sliders: list[lattice.Control], pairs: int
    ) -> tuple[list[dict[str, Any]], list[np.ndarray], list[np.ndarray]]:
        """All frames of the page; masks are kept once for each geometry."""
        frames: list[dict[str, Any]] = []
        views: list[np.ndarray] = []
        masks: list[np.ndarray] = []

        def keep(image: int, parameters: AugmentationParameters, place: dict[str, Any]) -> None:
            numbers, view, mask = self.view(image, parameters)
            if not (masks and np.array_equal(masks[-1], mask)):
                masks.append(mask)
            views.append(view)
            frames.append({"image": image, "mask": len(masks) - 1, **place, **numbers})

        for image in range(len(self._images)):
            for values in lattice.points(sliders):
                keep(image, self.parameters(values), {"values": values})
            for pair in range(pairs):
                for side, parameters in zip("ab", self.drawn(image, pair), strict=True):
                    keep(image, parameters, {"pair": pair, "side": side})
        return frames, views, masks


def _check(images: np.ndarray, masks: Mapping[str, np.ndarray], labels: list[str]) -> None:
    if images.shape[1] != images.shape[2]:
        raise InputError(f"The images must be square, not {images.shape[1]} x {images.shape[2]}.")
    if len(labels) != len(images):
        raise InputError(f"There are {len(images)} images, but {len(labels)} labels.")
    for name, mask in masks.items():
        if np.shape(mask) != images.shape:
            raise InputError(f"The mask of {name!r} is {np.shape(mask)}, images {images.shape}.")


def _mask_of(masks: Mapping[str, np.ndarray], label: str, image: int) -> np.ndarray | None:
    named = [np.asarray(masks[part][image], bool) for part in label.split("|") if part in masks]
    union = np.logical_or.reduce(named) if named else None
    return union if union is not None and union.any() else None


def _corners(parameters: AugmentationParameters) -> list[list[float]]:
    """The view's corners in the picture, (x, y) in [0, 1] from the upper left."""
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    placed = (affine(parameters)[0] @ corners.T).T
    return [[round(float(v), 4) for v in point] for point in (placed + 1) / 2]


def _scalars(parameters: AugmentationParameters) -> dict[str, float]:
    drawn = {"area": float(parameters.width * parameters.height)}
    for key in ("angle", "flip", "brightness", "contrast", "sigma", "noise"):
        drawn[key] = round(float(getattr(parameters, key)), 4)
    return drawn


def _share_inside(mask: np.ndarray, parameters: AugmentationParameters) -> float:
    """Share of a mask's pixels whose centres lie inside the view.

    Counted in the original picture: a view's own pixels are too coarse for small findings.
    """
    y, x = np.nonzero(mask)
    height, width = mask.shape
    centres = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1, np.ones(len(x))])
    to_picture = np.vstack([affine(parameters)[0].double().numpy(), [0.0, 0.0, 1.0]])
    in_view = np.linalg.solve(to_picture, centres)[:2]
    return float((np.abs(in_view) <= 1 + 1e-6).all(axis=0).mean())


def _finding(
    view: np.ndarray, moved: np.ndarray, mask: np.ndarray, parameters: AugmentationParameters
) -> dict[str, float | None]:
    """How much of the finding a view still shows.

    Returns:
        left: share of the finding's area inside the view, in [0, 1]. covers: share of the view.
        stands_out: contrast-to-noise ratio, the difference of mean grey inside and in a ring
        around, over the ring's standard deviation; None where too few pixels are left.
    """
    left = _share_inside(mask, parameters)
    ring = binary_dilation(moved, iterations=max(2, len(view) // 20)) & ~moved
    out: dict[str, float | None] = {"left": left, "covers": float(moved.mean())}
    if moved.sum() < 4 or ring.sum() < 8 or view[ring].std() == 0:
        return out | {"stands_out": None}
    difference = abs(float(view[moved].mean() - view[ring].mean()))
    return out | {"stands_out": difference / float(view[ring].std())}
