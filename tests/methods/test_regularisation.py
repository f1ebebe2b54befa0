"""Variance and covariance: closed forms, lightly, and what the rank control does with them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from scxr.collapse import effective_rank
from scxr.errors import InputError
from scxr.methods.moco import MoCo, MoCoSettings
from scxr.methods.regularisation import (
    COVARIANCE_SHARE,
    RegularisedSettings,
    Regulariser,
    covariance_penalty,
    variance_hinge,
)
from scxr.methods.vicreg import VICReg, VICRegSettings, vicreg_loss


def test_covariance_by_hand():
    # Centred: (-1, -2), (1, 2). Unbiased covariance 4, twice off the diagonal, over d = 2: 16.
    z = torch.tensor([[0.0, 1.0], [2.0, 5.0]])
    assert covariance_penalty(z).item() == pytest.approx(16.0, abs=1e-5)
    assert covariance_penalty(torch.tensor([[1.0, 1.0], [-1.0, 1.0]])).item() == 0.0


def test_covariance_sees_the_rank_one_that_the_hinge_accepts(normal):
    # z = 1.1 n 1': variance 1.21 s^2 (s^2 of the draw) everywhere, all 15 others equal to it.
    n = normal(4096, 1)
    z = 1.1 * n * torch.ones(1, 16)
    variance = 1.21 * n.var().item()
    assert variance_hinge(z).item() == 0
    assert covariance_penalty(z).item() == pytest.approx(15 * variance**2, rel=1e-4)
    assert effective_rank(z) == pytest.approx(1, abs=1e-6)


def test_terms_agree_with_lightly(normal):
    module = pytest.importorskip("lightly.loss.vicreg_loss")
    z = (0.7 * normal(16, 32)).requires_grad_()
    pairs = [
        (variance_hinge(z), module.variance_loss(z, eps=1e-4)),
        (covariance_penalty(z), module.covariance_loss(z)),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        gradients = (torch.autograd.grad(loss, z)[0] for loss in (ours, theirs))
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_vicreg_agrees_with_lightly(normal):
    module = pytest.importorskip("lightly.loss.vicreg_loss")
    inputs = [(0.5 * normal(24, 16, name=s)).requires_grad_() for s in "ab"]
    ours, theirs = vicreg_loss(*inputs), module.VICRegLoss()(*inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for mine, other in zip(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_the_method_adds_up_to_the_loss(encoder, pictures):
    settings = VICRegSettings(image_size=32, batch_size=6, steps=1, projection=16)
    method = VICReg(encoder, settings).eval()
    views = [pictures(6, name="a"), pictures(6, name="b")]
    terms = method(views)
    assert terms.keys() == {"invariance", "variance", "covariance"}
    with torch.no_grad():
        expected = vicreg_loss(*(method.projector(method.encoder(v)) for v in views))
    torch.testing.assert_close(sum(terms.values()), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "terms"),
    [
        ({"variance_weight": 0.0, "covariance_weight": 0.0}, {"invariance"}),
        ({"variance_weight": 1.0, "covariance_weight": 0.0}, {"invariance", "variance"}),
        ({"variance_weight": 0.0, "covariance_weight": 1.0}, {"invariance", "covariance"}),
    ],
)
def test_every_part_of_vicreg_can_be_left_out(encoder, pictures, weights, terms):
    settings = VICRegSettings(image_size=32, batch_size=4, steps=1, projection=8, **weights)
    assert VICReg(encoder, settings)([pictures(4), pictures(4, name="b")]).keys() == terms


# --- the control -------------------------------------------------------------------------------


def controlled(**changes) -> RegularisedSettings:
    return RegularisedSettings(steps=1, control="rank", **changes)


def test_control_starts_at_the_fixed_weights_and_integrates():
    regulariser = Regulariser(controlled(target_rank=10.0, control_gain=0.5))
    assert regulariser.strength.item() == 0.0
    regulariser.hold(10.0)
    assert regulariser.strength.item() == 0.0
    regulariser.hold(10.0 / math.e)
    assert regulariser.strength.item() == pytest.approx(0.5, abs=1e-6)
    regulariser.hold(10.0 / math.e**2)
    assert regulariser.strength.item() == pytest.approx(1.5, abs=1e-6)
    regulariser.hold(10.0 * math.e)
    assert regulariser.strength.item() == pytest.approx(1.0, abs=1e-6)
    for _ in range(9):
        regulariser.hold(1000.0)
    assert regulariser.strength.item() == 0.0


def test_control_adds_to_both_weights(normal):
    z = 0.3 * normal(16, 8)
    regulariser = Regulariser(controlled(variance_weight=0.25, covariance_weight=0.125))
    regulariser.strength.fill_(2.0)
    terms = regulariser(z)
    assert terms["variance"].item() == pytest.approx(2.25 * variance_hinge(z).item(), rel=1e-5)
    share = 0.125 + 2.0 * COVARIANCE_SHARE
    assert terms["covariance"].item() == pytest.approx(
        share * covariance_penalty(z).item(), rel=1e-5
    )


def test_control_holds_a_rank_that_a_weight_of_zero_loses():
    """A linear encoder under strong noise in half of its directions (Jing et al. 2022)."""

    def rank_after(control: str) -> float:
        generator = torch.Generator().manual_seed(0)
        noise = torch.cat([torch.full((8,), 0.5), torch.full((8,), 2.0)])
        weight = torch.eye(16, requires_grad=True)
        clean = torch.randn(512, 16, generator=generator)
        regulariser = Regulariser(
            RegularisedSettings(steps=1, control=control, target_rank=10.0, control_gain=2.0)
        )
        optimizer = torch.optim.Adam([weight], lr=0.01)
        for step in range(400):
            x = torch.randn(256, 16, generator=generator)
            z1, z2 = (
                (x + noise * torch.randn(256, 16, generator=generator)) @ weight for _ in range(2)
            )
            q, k = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
            loss = F.cross_entropy(q @ k.T / 0.2, torch.arange(256))
            loss = loss + sum(regulariser(z1).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if control == "rank" and step % 5 == 0:
                regulariser.hold(effective_rank(clean @ weight))
        return effective_rank(clean @ weight)

    assert rank_after("none") < 8.7
    assert rank_after("rank") == pytest.approx(10.0, abs=0.8)


def test_moco_and_vicreg_pass_the_rank_on(encoder, pictures):
    for method, settings in (
        (MoCo, MoCoSettings(image_size=32, batch_size=4, queue_size=8, steps=1, control="rank")),
        (VICReg, VICRegSettings(image_size=32, batch_size=4, steps=1, control="rank")),
    ):
        network = method(encoder, settings)
        assert network.control_every == 20
        network.hold_rank(settings.target_rank / math.e)
        network([pictures(4), pictures(4, name="b")])
        assert network.metrics["strength"].item() == pytest.approx(0.5, abs=1e-5)
        assert "regulariser.strength" in network.state_dict()


def test_without_control_nothing_is_watched(encoder):
    network = MoCo(encoder, MoCoSettings(image_size=32, batch_size=4, queue_size=8, steps=1))
    assert network.control_every is None
    assert "regulariser.strength" not in network.state_dict()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"control": "cosine"}, "choose none or rank"),
        ({"target_rank": 0.5}, "a rank is at least 1"),
        ({"control_every": 0}, "at least 1 step"),
        ({"variance_weight": -1.0}, "must not be negative"),
        ({"control_gain": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        RegularisedSettings(steps=1, **changes)
