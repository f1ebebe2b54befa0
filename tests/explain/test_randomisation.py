"""Weights drawn anew from the top down: what changes, what does not, and how alike maps are."""

from __future__ import annotations

from dataclasses import replace

import kornia
import numpy as np
import pytest
import torch

from scxr.data import RadiographStore
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate.heads import Classifier, LinearHead
from scxr.explain.findings import explain_finding
from scxr.explain.randomisation import LEVELS, cascade, randomisation, rank_correlation, ssim


def test_the_cascade_goes_from_the_head_to_the_stem(encoder: Encoder) -> None:
    head = LinearHead(np.random.default_rng(0).normal(size=512), 0.5)
    model = Classifier(encoder, head)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unchanged = {"encoder.mean", "encoder.std", "head.bias"}
    levels = []
    for level, changed in cascade(model, seed=3):
        levels.append(level)
        state = changed.state_dict()
        same = {name for name in before if torch.equal(state[name], before[name])}
        weights = [n for n in before if n.startswith("encoder.trunk") and n.endswith("weight")]
        drawn = {n.split(".")[2] for n in weights if n not in same}
        drawn = {"stem" if name in ("conv1", "bn1") else name for name in drawn}
        # Scale and shift of batch norm start at 1 and 0 in every untrained network.
        expected = set(levels) - {"head"}
        assert drawn == expected
        assert unchanged <= same and "head.weight" not in same
    assert tuple(levels) == LEVELS
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert float(changed.head.weight.detach().norm()) == pytest.approx(
        float(np.linalg.norm(head.weights)), rel=1e-5
    )


def test_alike_is_one_for_the_same_map_and_less_for_another() -> None:
    random = np.random.default_rng(0)
    a, b = random.random((2, 40, 48)).astype(np.float32)
    assert rank_correlation(a, a) == ssim(a, a) == pytest.approx(1)
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, 1 - a) == pytest.approx(-1)
    assert abs(rank_correlation(a, b)) < 0.1 and abs(ssim(a, b)) < 0.1
    assert np.isnan(rank_correlation(a, np.zeros_like(a)))
    pair = [torch.from_numpy(x)[None, None] for x in (a, 0.7 * a + 0.3 * b)]
    independent = kornia.metrics.ssim(*pair, window_size=11, padding="valid").mean()
    assert ssim(a, 0.7 * a + 0.3 * b) == pytest.approx(float(independent), abs=1e-3)
    with pytest.raises(InputError, match="smaller than the window"):
        ssim(a[:8, :8], b[:8, :8])


def test_every_init_and_level_has_a_row(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    told = explain_finding({"a": encoder}, target, findings[0], shots=5, stage="layer2")
    table = randomisation(told, images=3)
    assert list(table["randomised"]) == list(LEVELS) and (table["images"] == 3).all()
    for name in ("rank_correlation", "ssim"):
        assert table[name].between(-1, 1).all()
        assert (table[f"{name}_low"] <= table[name] + 1e-9).all()
    assert table["rank_correlation"].abs().max() < 0.9, "a random head points elsewhere"
    with pytest.raises(InputError, match="does not hold its networks"):
        randomisation(replace(told, models={}))


def test_a_method_that_ignores_the_head_is_found_out(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    """LayerCAM hears positive gradients alone: with a random head its maps hardly change."""
    kept = {}
    for method in ("centred", "layer-cam"):
        told = explain_finding(
            {"a": encoder}, target, findings[0], shots=5, stage="layer2", method=method, images=6
        )
        table = randomisation(told).set_index("randomised")
        kept[method] = table.loc["head", "rank_correlation"]
    assert kept["layer-cam"] > 0.8 > kept["centred"] + 0.2
