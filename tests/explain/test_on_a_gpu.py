"""The same numbers on a GPU as on the CPU, to single precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scxr.data import RadiographStore
from scxr.encoders import Encoder
from scxr.evaluate.features import extract, pictures
from scxr.evaluate.finetune import finetune
from scxr.evaluate.heads import LinearHead
from scxr.evaluate.recipes import FinetuneSettings
from scxr.explain.gradcam import raw_maps

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")

ROWS = np.arange(8)


def test_features_and_maps_agree(encoder: Encoder, target: RadiographStore) -> None:
    here, there = (
        extract(encoder, target, ROWS, cache=False, device=device) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(here, there, rtol=1e-2, atol=1e-3)
    head = LinearHead(np.random.default_rng(0).normal(size=512), 0.0)
    maps = [raw_maps(encoder, head, target.batch(ROWS), device=d) for d in ("cpu", "cuda")]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-2, atol=1e-3 * np.abs(maps[0]).max())


@pytest.mark.parametrize("late", [False, True])
def test_fine_tuning_runs(encoder: Encoder, target: RadiographStore, late: bool) -> None:
    settings = FinetuneSettings(epochs=2, views=2, jitter_after_normalising=late)
    images = pictures(encoder, target, ROWS)
    model = finetune(encoder, images, ROWS % 2, settings, device="cuda")
    assert np.isfinite(model.score(images)).all()
    assert next(encoder.parameters()).device.type == "cpu"
