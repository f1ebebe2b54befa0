"""Where a network looks, beside where the finding is.

Reading: Selvaraju et al. 2017, arXiv:1610.02391 (Grad-CAM); Saporta et al. 2022 (localisation
scores for chest radiographs, doi:10.1038/s42256-022-00536-x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import traitlets

from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate.heads import Classifier
from scxr.explain.findings import Explanation
from scxr.explain.gradcam import class_activation_maps
from scxr.explain.localisation import energy_inside, hit
from scxr.widgets.base import CourseWidget, front_end, style
from scxr.widgets.packing import as_uint8, pack, read_picture, sheet, shrink, shrink_masks

Key = tuple[str, str, str]
Explain = Callable[[np.ndarray, str, str, str], np.ndarray]


class GradCamWidget(CourseWidget):
    """Finding, image, init, stage and opacity; the true region outlined; localisation scores.

    Args:
        images: (n, H, W) uint8, or floats in [0, 1].
        cams: (init, stage, finding) -> (n, H, W) class activation maps in [0, 1].
        masks: finding -> (n, H, W) bool, the true region. A finding with masks is shown on the
            images that have it, one without on all images, without scores.
        scores: (init, stage, finding) -> {"hit": (n,), "energy_inside": (n,)}; computed from
            `cams` and `masks` with `scxr.explain.localisation` where it is not given.
        aucs: (init, finding) -> AUC of the probe that is explained, shown beside the scores.
        shown: finding -> the images to show it on, where that is not told by `masks`.
        size: largest side of the pictures in the page, pixels.
        explain: `explain(image, init, stage, finding) -> map`, all (H, W), image uint8, map in
            [0, 1]. With a kernel, the reader may then have a picture of their own explained.

    Raises:
        InputError: no map, or shapes that do not belong together.
    """

    _esm = front_end("pictures", "gradcam")
    _css = style()

    shape = traitlets.List(traitlets.Int()).tag(sync=True)
    pictures = traitlets.Bytes().tag(sync=True)
    maps = traitlets.Bytes().tag(sync=True)
    regions = traitlets.Bytes().tag(sync=True)
    entries = traitlets.List(traitlets.Dict()).tag(sync=True)
    finding = traitlets.Unicode().tag(sync=True)
    init = traitlets.Unicode().tag(sync=True)
    stage = traitlets.Unicode().tag(sync=True)
    image = traitlets.Int().tag(sync=True)
    opacity = traitlets.Float(0.5).tag(sync=True)
    outlined = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        images: np.ndarray,
        cams: Mapping[Key, np.ndarray],
        masks: Mapping[str, np.ndarray] | None = None,
        scores: Mapping[Key, Mapping[str, np.ndarray]] | None = None,
        *,
        aucs: Mapping[tuple[str, str], float] | None = None,
        shown: Mapping[str, Iterable[int]] | None = None,
        size: int = 128,
        explain: Explain | None = None,
    ) -> None:
        self._images, self._explain = as_uint8(images), explain
        masks = dict(masks or {})
        _check(self._images, cams, masks)
        shown = _shown(cams, masks, len(self._images)) | dict(shown or {})
        keep = {(f, i): k for k, (f, i) in enumerate(_regions(masks))}
        entries: list[dict[str, Any]] = []
        maps: list[np.ndarray] = []
        for key, cam in cams.items():
            for i in shown[key[2]]:
                given = None if scores is None else {k: v[i] for k, v in scores[key].items()}
                mask = masks[key[2]][i] if (key[2], i) in keep else None
                entry = _entry(key, i, np.asarray(cam[i], np.float32), mask, given)
                entry["auc"] = (aucs or {}).get((key[0], key[2]))
                entries.append(entry | {"map": len(maps), "region": keep.get((key[2], i))})
                maps.append(np.rint(np.clip(cam[i], 0, 1) * 255).astype(np.uint8))
        if not entries:
            raise InputError("No image has any of the findings: there is nothing to show.")
        small = shrink(self._images, size)
        truth = [masks[f][i] for f, i in keep] or [np.zeros(self._images.shape[1:], bool)]
        self._scale = small.shape[2] / self._images.shape[2]
        for entry in entries:
            entry["peak"] = self._on_page(entry["peak"])
        first = entries[0]
        super().__init__(
            shape=list(small.shape),
            pictures=sheet(small),
            maps=pack(shrink(np.stack(maps), size)),
            regions=pack(shrink_masks(np.stack(truth), size)),
            entries=entries,
            **{k: first[k] for k in ("finding", "init", "stage", "image")},
        )

    @classmethod
    def from_explanations(
        cls,
        explanations: Iterable[Explanation],
        encoders: Mapping[str, Encoder] | None = None,
        *,
        images: int = 2,
        size: int = 128,
    ) -> GradCamWidget:
        """Findings and stages as `scxr.explain.findings.explain_finding` made them.

        Args:
            explanations: of several findings, and of several stages each.
            encoders: name of the init -> encoder. With them and a kernel, the networks explain a
                picture of the reader's own.
            images: at most so many of each finding.
        """
        told = list(explanations)
        rows = {int(r): None for e in told for r in e.rows[:images]}
        place = {row: i for i, row in enumerate(rows)}
        if not place:
            raise InputError("Give at least one explanation with an image.")
        pictures = np.zeros((len(place), *told[0].images.shape[1:]), np.uint8)
        cams: dict[Key, np.ndarray] = {}
        masks: dict[str, np.ndarray] = {}
        shown: dict[str, list[int]] = {}
        for e in told:
            at = [place[int(r)] for r in e.rows[:images]]
            pictures[at], shown[e.finding] = e.images[:images], at
            for init, cam in e.cams.items():
                stack = cams.setdefault((init, e.stage, e.finding), np.zeros(pictures.shape))
                stack[at] = cam[:images]
            if e.masks is not None:
                masks.setdefault(e.finding, np.zeros(pictures.shape, bool))[at] = e.masks[:images]
        aucs = {(init, e.finding): value for e in told for init, value in e.aucs.items()}
        explain = _probes(told, encoders) if encoders else None
        return cls(pictures, cams, masks, aucs=aucs, shown=shown, size=size, explain=explain)

    def _on_page(self, peak: tuple[float, float] | None) -> list[float] | None:
        return None if peak is None else [round(p * self._scale, 2) for p in peak]

    def abilities(self) -> list[str]:
        return ["explain"] if self._explain else []

    def answer(self, content: dict[str, Any], buffers: list[Any]) -> tuple[dict, list[bytes]]:
        if content.get("type") != "explain" or self._explain is None:
            return super().answer(content, buffers)
        picture = read_picture(bytes(buffers[0]), *self._images.shape[1:])
        key = (content["init"], content["stage"], content["finding"])
        cam = np.asarray(self._explain(picture, *key), np.float32)
        if cam.shape != picture.shape:
            raise InputError(f"explain returned {cam.shape} instead of a map of {picture.shape}.")
        peak = self._on_page(_peak(cam))
        frames = np.stack([picture, np.rint(np.clip(cam, 0, 1) * 255).astype(np.uint8)])
        small = shrink(frames, max(self.shape[1:]))
        return {"peak": peak}, [small[0].tobytes(), small[1].tobytes()]

    def describe(self) -> str:
        """The mean scores of every init and stage, in words."""
        parts = []
        for name in dict.fromkeys((e["init"], e["stage"]) for e in self.entries):
            known = [
                e for e in self.entries if (e["init"], e["stage"]) == name and e["hit"] is not None
            ]
            if known:
                hits = np.mean([e["hit"] for e in known])
                energy = np.mean([e["energy_inside"] for e in known])
                parts.append(
                    f"{name[0]}, {name[1]}: the peak lies in the true region in {hits:.0%} of "
                    f"{len(known)} maps, {energy:.0%} of the energy inside."
                )
        return "Grad-CAM beside the true region. " + " ".join(parts)


def _check(images: np.ndarray, cams: Mapping[Key, np.ndarray], masks: Mapping) -> None:
    if not cams:
        raise InputError("Give at least one class activation map.")
    for name, stack in [*cams.items(), *masks.items()]:
        if np.shape(stack) != images.shape:
            raise InputError(f"{name} has shape {np.shape(stack)}, the images {images.shape}.")


def _regions(masks: Mapping[str, np.ndarray]) -> list[tuple[str, int]]:
    return [(f, int(i)) for f, m in masks.items() for i in np.flatnonzero(m.any(axis=(1, 2)))]


def _shown(cams: Mapping[Key, Any], masks: Mapping, count: int) -> dict[str, list[int]]:
    """The images that have a finding; all images where no region is known."""
    everywhere = {finding: list(range(count)) for _, _, finding in cams}
    marked: dict[str, list[int]] = {finding: [] for finding in masks}
    for finding, image in _regions(masks):
        marked[finding].append(image)
    return everywhere | marked


def _peak(cam: np.ndarray) -> tuple[float, float] | None:
    """Middle of the hottest pixel, x and y from the upper left corner; None for an empty map."""
    if cam.max() <= 0:
        return None
    y, x = np.unravel_index(int(cam.argmax()), cam.shape)
    return float(x) + 0.5, float(y) + 0.5


def _probes(told: list[Explanation], encoders: Mapping[str, Encoder]) -> Explain:
    """The very networks that the explanations explain, probes or fine-tuned, ready for another
    picture."""
    known = {(init, e.stage, e.finding): e for e in told for init in e.cams}

    def explain(image: np.ndarray, init: str, stage: str, finding: str) -> np.ndarray:
        if init not in encoders:
            raise InputError(f"The encoder of {init!r} was not given to the widget.")
        e = known[init, stage, finding]
        model = e.models.get(init) or Classifier(encoders[init], e.heads[init])
        picture = torch.from_numpy(image)[None, None]
        return class_activation_maps(model, None, picture, stage, method=e.method)[0]

    return explain


def _entry(
    key: Key, image: int, cam: np.ndarray, mask: np.ndarray | None, given: Mapping | None
) -> dict[str, Any]:
    entry: dict[str, Any] = dict(zip(("init", "stage", "finding"), key, strict=True))
    entry |= {"image": image, "peak": _peak(cam), "hit": None, "energy_inside": None, "area": None}
    if mask is None:
        return entry
    scores = given or {"hit": hit(cam, mask), "energy_inside": energy_inside(cam, mask)}
    numbers = {name: float(scores[name]) for name in ("hit", "energy_inside")}
    return entry | numbers | {"area": float(np.mean(mask))}
