"""BarlowTwins' loss on paper and against lightly."""

from __future__ import annotations

import pytest
import torch

from scxr.methods.barlow import (
    BarlowSettings,
    BarlowTwins,
    barlow_twins_loss,
    correlation_terms,
    cross_correlation,
)


def test_loss_by_hand():
    # Each column has mean 0 and (biased) variance 1. z1's columns both read (1, -1); z2's read
    # (1, -1) and (-1, 1). C = [[1, -1], [1, -1]]: invariance 0^2 + (-2)^2 = 4, redundancy 1 + 1.
    z1 = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    z2 = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    correlation = cross_correlation(z1, z2)
    torch.testing.assert_close(
        correlation, torch.tensor([[1.0, -1.0], [1.0, -1.0]]), atol=2e-5, rtol=0
    )
    invariance, redundancy = correlation_terms(correlation)
    assert invariance.item() == pytest.approx(4, abs=1e-3)
    assert redundancy.item() == pytest.approx(2, abs=1e-3)
    assert barlow_twins_loss(z1, z2, 0.005).item() == pytest.approx(4.01, abs=1e-3)
    assert barlow_twins_loss(z1, z2, 0.5).item() == pytest.approx(5, abs=1e-3)


@pytest.mark.parametrize("batch", [2, 5, 256])
def test_identical_views_have_no_invariance_term_whatever_the_batch(normal, batch):
    # With the unbiased variance the diagonal would be (B - 1) / B, and 2 images would cost d / 4.
    z = normal(batch, 8) * 30 + 70  # spread enough for the 1e-5 under the root to vanish
    invariance, _ = correlation_terms(cross_correlation(z, z))
    assert invariance.item() == pytest.approx(0, abs=1e-6)


def test_independent_dimensions_have_no_redundancy_term():
    # Four rows of a Hadamard matrix: columns of mean 0, orthogonal to one another.
    z = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    _, redundancy = correlation_terms(cross_correlation(z, z))
    assert redundancy.item() == pytest.approx(0, abs=1e-8)
    assert barlow_twins_loss(z, z).item() == pytest.approx(0, abs=1e-8)


def test_scale_and_shift_of_a_dimension_do_not_matter(normal):
    z1, z2 = normal(32, 6, name="a"), normal(32, 6, name="b")
    moved = z1 * torch.arange(1.0, 7.0) + torch.arange(6.0)
    assert barlow_twins_loss(moved, z2).item() == pytest.approx(
        barlow_twins_loss(z1, z2).item(), abs=1e-4
    )


def test_loss_agrees_with_lightly(normal):
    reference = pytest.importorskip("lightly.loss").BarlowTwinsLoss(lambda_param=0.005)
    shared = normal(16, 24, name="shared")
    inputs = [(shared + 0.5 * normal(16, 24, name=s)).requires_grad_() for s in ("a", "b")]
    ours, theirs = barlow_twins_loss(*inputs, 0.005), reference(*inputs)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    gradients = (torch.autograd.grad(loss, inputs) for loss in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_method_returns_the_two_terms_of_the_loss(encoder, pictures):
    settings = BarlowSettings(image_size=32, batch_size=4, projection=16, redundancy=0.02)
    barlow = BarlowTwins(encoder, settings).eval()
    views = [pictures(4, name="a"), pictures(4, name="b")]
    terms = barlow(views)
    assert terms.keys() == {"invariance", "redundancy"}
    with torch.no_grad():
        z1, z2 = (barlow.projector(barlow.encoder(v)) for v in views)
    expected = barlow_twins_loss(z1, z2, 0.02)
    assert sum(terms.values()).item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_reaches_the_encoder_through_both_views(encoder, pictures):
    settings = BarlowSettings(image_size=32, batch_size=4, projection=16)
    barlow = BarlowTwins(encoder, settings)
    views = [pictures(4, name=s).requires_grad_() for s in "ab"]
    sum(barlow(views).values()).backward()
    assert all(v.grad is not None and v.grad.abs().sum() > 0 for v in views)
    assert all(p.grad is not None for p in barlow.encoder.parameters())
