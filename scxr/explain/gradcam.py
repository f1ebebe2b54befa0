"""Grad-CAM: which positions of a feature map raise the score of a finding?

Selvaraju et al. 2017, arXiv:1610.02391, through the `grad-cam` library. The score is that of the
head as it was fitted, L2 normalisation included, on the picture as the encoder sees it, with the
encoder in evaluation mode: nothing is redrawn, rescaled or cropped between fit and map. The map
covers the whole picture and can be laid over it.

With a head on unit-length features the score does not change when all features grow alike, so
the raw map of the last stage has mean zero: as much speaks against the finding as for it, and
what is shown is the part that speaks for it.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from scxr.encoders import Encoder, resize
from scxr.errors import InputError
from scxr.evaluate.features import STAGES, prepared
from scxr.evaluate.heads import Classifier, LinearHead

log = logging.getLogger(__name__)


def class_activation_maps(
    encoder: Encoder | Classifier,
    head: LinearHead | np.ndarray | None,
    images: Tensor,
    stage: str = "layer4",
    *,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> np.ndarray:
    """Where each picture speaks for the finding, scaled to a maximum of 1 a picture.

    Args:
        encoder: frozen or not, it is left as it is; or a fine-tuned `Classifier`, with its head.
        head: a probe on the encoder's features, or its (D,) weights; None for a `Classifier`.
        images: (n, 1, H, W), float in [0, 1] or uint8, of any size.
        stage: "layer1" to "layer4"; earlier stages are finer and know less.
        device: None for a GPU where there is one.

    Returns:
        (n, H, W) float32 in [0, 1], 0 where nothing speaks for the finding. A map that is 0
        everywhere stays so, and a warning says how many there are.

    Raises:
        InputError: an encoder without stages, a head that does not fit, no pictures.
    """
    maps = raw_maps(encoder, head, images, stage, batch_size=batch_size, device=device)
    positive = torch.from_numpy(maps).clamp(min=0)[:, None]
    # Bilinear, as the library does; but it shifts every map to a minimum of 0, which would give
    # energy to positions that have none.
    size = images.shape[-2:]
    spread = F.interpolate(positive, size, mode="bilinear", align_corners=False)[:, 0]
    peak = spread.amax(dim=(1, 2), keepdim=True)
    empty = int((peak <= 0).sum())
    if empty:
        log.warning(
            "Grad-CAM at %s is zero everywhere for %d of %d images: no position there raises the "
            "score.",
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
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> np.ndarray:
    """The same before anything is cut off or scaled: (n, h, w) with the stage's own resolution.

    The channels of the stage, each weighted by the mean gradient of the score with respect to it,
    and summed. Arguments as in `class_activation_maps`.
    """
    if stage not in STAGES:
        raise InputError(f"Unknown stage {stage!r}: choose from {', '.join(STAGES)}.")
    if len(images) == 0:
        raise InputError("There are no pictures to explain: give at least one.")
    model = _classifier(encoder, head)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = prepared(model, device)
    layer = getattr(model.encoder.trunk, stage)
    cam = GradCAM(model=model, target_layers=[layer])
    scale = 1 / 255 if images.dtype == torch.uint8 else 1.0
    results = []
    try:
        for batch in images.split(batch_size):
            seen = resize(batch.to(device).float() * scale, model.encoder.image_size)
            # All weights are frozen; the picture itself has to start the graph.
            seen.requires_grad_(True)
            targets = [ClassifierOutputTarget(0)] * len(seen)
            cam(input_tensor=seen, targets=targets)
            activations, gradients = (
                recorded[0].numpy()
                for recorded in (cam.activations_and_grads.activations, _gradients(cam))
            )
            results.append(cam.get_cam_image(seen, layer, targets, activations, gradients))
    finally:
        cam.activations_and_grads.release()
    return np.concatenate(results).astype(np.float32)


def _gradients(cam: GradCAM) -> list[Tensor]:
    return cam.activations_and_grads.gradients


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
