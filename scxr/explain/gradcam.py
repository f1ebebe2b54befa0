"""Class activation maps: which positions of a feature map raise the score of a finding?

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) and its relatives, through the `grad-cam`
library. The score is that of the head as it was fitted, L2 normalisation included, on the picture
as the encoder sees it, with the encoder in evaluation mode: nothing is redrawn, rescaled or
cropped between fit and map. The map covers the whole picture and can be laid over it.

**At the last stage** Grad-CAM is exact. Behind it come the mean over positions and the head, so
every position has the same gradient and the map says what each adds to the score (there it equals
HiResCAM; Draelos & Carin 2020, arXiv:2011.08891). With a head on unit-length features the score
does not change when all features grow alike, so that map has mean zero: as much speaks against
the finding as for it, and what is shown is the part that speaks for it.

**At earlier stages** its zero is arbitrary, and it can be blank. The map sums, over channels,
activation times mean gradient; activations behind a ReLU are never negative, so where strong
channels have a negative gradient every position of a picture is negative. Over ten findings of
phantoms at 64 px and four inits 14 % of the maps at layer3 were blank (40 % for a SparK run, all
of them for some findings), with gradients position by position (HiResCAM) still 8 %.

LayerCAM (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943), made for early stages, counts positive
gradients alone and was never blank. But it hears only the evidence for: with the head drawn at
RANDOM its maps at layer3 stayed the same (mean rank correlation 0.90 over two findings and four
inits, 0.97 for untrained weights), so they show the picture more than what was learned
(`scxr.explain.randomisation`).

So the default, `centred`, is Grad-CAM less its mean over the picture: what speaks for the finding
more than the picture's average position does. At the last stage it is Grad-CAM itself, whose mean
is zero; before it, it puts the zero where the last stage has it. No map was blank, and with a
random head the same rank correlation was 0.11. A stage with a single position (32-px pictures at
layer4) has no map: nothing there is more than average.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from scxr.encoders import Encoder, resize
from scxr.errors import InputError
from scxr.evaluate.features import STAGES, prepared
from scxr.evaluate.heads import Classifier, LinearHead

log = logging.getLogger(__name__)


class CentredGradCAM(GradCAM):
    """Grad-CAM less its mean over the picture: the same weights on activations less their mean."""

    def get_cam_image(self, *args: Any) -> np.ndarray:
        cam = super().get_cam_image(*args)
        return cam - cam.mean(axis=(1, 2), keepdims=True)


METHODS: dict[str, type[BaseCAM]] = {
    "centred": CentredGradCAM,
    "grad-cam": GradCAM,
    "grad-cam++": GradCAMPlusPlus,  # Chattopadhyay et al. 2018, arXiv:1710.11063
    "hires-cam": HiResCAM,
    "layer-cam": LayerCAM,
}
DEFAULT = "centred"


def class_activation_maps(
    encoder: Encoder | Classifier,
    head: LinearHead | np.ndarray | None,
    images: Tensor,
    stage: str = "layer4",
    *,
    method: str = DEFAULT,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> np.ndarray:
    """Where each picture speaks for the finding, scaled to a maximum of 1 a picture.

    Args:
        encoder: frozen or not, it is left as it is; or a fine-tuned `Classifier`, with its head.
        head: a probe on the encoder's features, or its (D,) weights; None for a `Classifier`.
        images: (n, 1, H, W), float in [0, 1] or uint8, of any size.
        stage: "layer1" to "layer4"; earlier stages are finer and know less.
        method: one of `METHODS`, see the module.
        device: None for a GPU where there is one.

    Returns:
        (n, H, W) float32 in [0, 1], 0 where nothing speaks for the finding. A map that is 0
        everywhere stays so, and a warning says how many there are.

    Raises:
        InputError: an encoder without stages, a head that does not fit, no pictures.
    """
    maps = raw_maps(
        encoder, head, images, stage, method=method, batch_size=batch_size, device=device
    )
    positive = torch.from_numpy(maps).clamp(min=0)[:, None]
    # Bilinear, as the library does; but it shifts every map to a minimum of 0, which would give
    # energy to positions that have none.
    size = images.shape[-2:]
    spread = F.interpolate(positive, size, mode="bilinear", align_corners=False)[:, 0]
    peak = spread.amax(dim=(1, 2), keepdim=True)
    empty = int((peak <= 0).sum())
    if empty:
        log.warning(
            "%s at %s is zero everywhere for %d of %d images: no position there raises the score.",
            method,
            stage,
            empty,
            len(spread),
        )
    return (spread / torch.where(peak > 0, peak, 1)).numpy()


def raw_maps(
    encoder: Encoder | Classifier,
    head: LinearHead | np.ndarray | None,
    images: Tensor,
    stage: str = "layer4",
    *,
    method: str = DEFAULT,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> np.ndarray:
    """The same before anything is cut off or scaled: (n, h, w) with the stage's own resolution.

    Arguments as in `class_activation_maps`.
    """
    if method not in METHODS:
        raise InputError(f"Unknown method {method!r}: choose from {', '.join(METHODS)}.")
    if stage not in STAGES:
        raise InputError(f"Unknown stage {stage!r}: choose from {', '.join(STAGES)}.")
    if len(images) == 0:
        raise InputError("There are no pictures to explain: give at least one.")
    model = _classifier(encoder, head)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = prepared(model, device)
    layer = getattr(model.encoder.trunk, stage)
    cam = METHODS[method](model=model, target_layers=[layer])
    scale = 1 / 255 if images.dtype == torch.uint8 else 1.0
    results = []
    try:
        for batch in images.split(batch_size):
            seen = resize(batch.to(device).float() * scale, model.encoder.image_size)
            # All weights are frozen; the picture itself has to start the graph.
            seen.requires_grad_(True)
            targets = [ClassifierOutputTarget(0)] * len(seen)
            cam(input_tensor=seen, targets=targets)
            kept = cam.activations_and_grads
            activations, gradients = kept.activations[0].numpy(), kept.gradients[0].numpy()
            results.append(cam.get_cam_image(seen, layer, targets, activations, gradients, False))
    finally:
        cam.activations_and_grads.release()
    return np.concatenate(results).astype(np.float32)


def _classifier(encoder: Encoder | Classifier, head: LinearHead | np.ndarray | None) -> Classifier:
    if isinstance(encoder, Classifier):
        if head is not None:
            raise InputError("A fine-tuned classifier brings its own head: give None for the head.")
        return encoder
    if not isinstance(encoder, Encoder):
        raise InputError(f"{encoder.name} has no stages to look into: leave it out.")
    if head is None:
        raise InputError("An encoder alone has no score to explain: give a probe's head too.")
    if not isinstance(head, LinearHead):
        head = LinearHead(np.asarray(head, dtype=np.float64).ravel(), 0.0)
    return Classifier(encoder, head)
