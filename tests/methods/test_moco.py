"""MoCo's loss on paper and against lightly; the queue, the key encoder and their order."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from scxr.collapse import effective_rank
from scxr.errors import InputError
from scxr.methods.moco import (
    MoCo,
    MoCoSettings,
    contrastive_logits,
    info_nce,
    variance_hinge,
)


def unit(x: torch.Tensor) -> torch.Tensor:
    return F.normalize(x, dim=1)


# --- InfoNCE -----------------------------------------------------------------------------------


def test_info_nce_by_hand():
    # q.k+ = 1, q.queue = 0 and -1: softmax's denominator over its numerator is 1 + e^-1 + e^-2.
    q = k = torch.tensor([[1.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert info_nce(q, k, queue, 1.0).item() == pytest.approx(0.4076060, abs=1e-6)
    # A temperature of 1/2 doubles the logits: ln(1 + e^-2 + e^-4).
    assert info_nce(q, k, queue, 0.5).item() == pytest.approx(0.1429316, abs=1e-6)


def test_in_batch_negatives_by_hand():
    # Row 0 sees its key (1), the queue (-1) and the other's key (0); row 1 sees 1, 0 and 0.
    q = k = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    queue = torch.tensor([[-1.0, 0.0]])
    expected = (math.log(1 + math.exp(-2) + math.exp(-1)) + math.log(1 + 2 * math.exp(-1))) / 2
    assert info_nce(q, k, queue, 1.0, in_batch=True).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("keys", [1, 7, 512])
def test_info_nce_is_chance_when_everything_is_equal(keys):
    same = unit(torch.ones(4, 8))
    queue = unit(torch.ones(keys, 8))
    assert info_nce(same, same, queue, 0.07).item() == pytest.approx(math.log(1 + keys), abs=1e-5)
    # In the batch there are three strangers more, and no fourth: a query's own key counts once.
    with_batch = info_nce(same, same, queue, 0.07, in_batch=True).item()
    assert with_batch == pytest.approx(math.log(1 + keys + 3), abs=1e-5)


def test_info_nce_vanishes_when_every_query_knows_its_key():
    q = k = torch.eye(4)
    assert info_nce(q, k, -torch.eye(4), 0.05, in_batch=True).item() == pytest.approx(0, abs=1e-6)


def test_logits_put_the_own_key_first_and_nowhere_else(normal):
    q, k, queue = (unit(normal(n, 5, name=s)) for n, s in ((3, "q"), (3, "k"), (4, "queue")))
    logits = contrastive_logits(q, k, queue, 0.2, in_batch=True)
    assert logits.shape == (3, 1 + 4 + 3)
    for i in range(3):
        assert logits[i, 0].item() == pytest.approx(float(q[i] @ k[i]) / 0.2, abs=1e-5)
        for j in range(4):
            assert logits[i, 1 + j].item() == pytest.approx(float(q[i] @ queue[j]) / 0.2, abs=1e-5)
        for j in range(3):
            expected = float(q[i] @ k[j]) / 0.2 if j != i else -math.inf
            assert logits[i, 5 + j].item() == pytest.approx(expected, abs=1e-5)


def test_info_nce_agrees_with_lightly(normal):
    loss_module = pytest.importorskip("lightly.loss").NTXentLoss
    reference = loss_module(temperature=0.07, memory_bank_size=(32, 16))
    bank = unit(normal(32, 16, name="bank"))
    reference.memory_bank.bank = bank.clone()
    inputs = [normal(8, 16, name=s).requires_grad_() for s in ("q", "k")]
    theirs = reference(*inputs)
    ours = info_nce(unit(inputs[0]), unit(inputs[1]), bank, 0.07)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    gradients = (torch.autograd.grad(loss, inputs) for loss in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


def test_in_batch_negatives_agree_with_a_plain_loop(normal):
    q, k, queue = (
        unit(normal(n, 6, name=s, dtype=torch.float64)).requires_grad_()
        for n, s in ((5, "q"), (5, "k"), (3, "queue"))
    )
    total = torch.zeros((), dtype=torch.float64)
    for i in range(5):
        strangers = [*queue, *(k[j] for j in range(5) if j != i)]
        scores = torch.stack([q[i] @ other for other in [k[i], *strangers]]) / 0.1
        total = total + torch.logsumexp(scores, 0) - scores[0]
    ours = info_nce(q, k, queue, 0.1, in_batch=True)
    torch.testing.assert_close(ours, total / 5, atol=1e-10, rtol=0)
    for mine, other in zip(
        torch.autograd.grad(ours, (q, k)), torch.autograd.grad(total / 5, (q, k)), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=0)


# --- the variance term -------------------------------------------------------------------------


def test_variance_hinge_by_hand():
    # Dimension 0 holds 0 and 2: unbiased variance 2, above the target. Dimension 1 is constant:
    # the root of 1e-4 is 0.01, so 0.99 is missing. Their mean is 0.495.
    z = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
    assert variance_hinge(z).item() == pytest.approx(0.495, abs=1e-6)
    # Target 2 asks for more of both: (2 - sqrt(2.0001) + 2 - 0.01) / 2.
    assert variance_hinge(z, target=2.0).item() == pytest.approx(1.2878755, abs=1e-5)


def test_variance_hinge_rests_above_the_target(normal):
    z = (3 * normal(64, 8)).requires_grad_()
    loss = variance_hinge(z)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.item() == 0
    assert gradient.abs().max() == 0


def test_variance_hinge_is_content_with_rank_one(normal):
    # Every dimension varies as it should, and all of them say the same: the term sees no collapse.
    z = 2 * normal(64, 1) * torch.ones(1, 16)
    assert variance_hinge(z).item() == 0
    assert effective_rank(z) == pytest.approx(1, abs=1e-6)


def test_variance_hinge_agrees_with_lightly(normal):
    module = pytest.importorskip("lightly.loss.vicreg_loss")
    z = (0.7 * normal(16, 32)).requires_grad_()
    ours, theirs = variance_hinge(z), module.variance_loss(z, eps=1e-4)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    for mine, other in zip(
        torch.autograd.grad(ours, z), torch.autograd.grad(theirs, z), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


# --- the method --------------------------------------------------------------------------------


def small(**changes) -> MoCoSettings:
    defaults = {"image_size": 32, "batch_size": 4, "queue_size": 6, "projection": 8, "steps": 1}
    return MoCoSettings(**{**defaults, **changes})


def test_queue_keeps_the_newest_keys_in_order(encoder, pictures):
    moco = MoCo(encoder, small()).eval()
    seen = list(moco.queue)
    for step in range(4):
        views = [pictures(4, name=f"q{step}"), pictures(4, name=f"k{step}")]
        before = moco.queue.clone()
        moco(views)
        assert torch.equal(moco.queue, before), "keys entered the queue before the optimiser's step"
        with torch.no_grad():
            seen += list(unit(moco.key_head(moco.key_encoder(views[1]))))
        moco.after_step()
        start = int(moco.queue_start)
        oldest_first = torch.roll(moco.queue, -start, dims=0)
        torch.testing.assert_close(oldest_first, torch.stack(seen[-6:]), atol=1e-6, rtol=0)


def test_loss_uses_the_queue_as_it_was_so_the_own_key_is_no_negative(encoder, pictures):
    moco = MoCo(encoder, small(in_batch_negatives=False, temperature=0.2)).eval()
    # The same pictures twice: only the second time round are their (old) keys in the queue.
    for step in range(2):
        views = [pictures(4, name="q"), pictures(4, name="k")]
        with torch.no_grad():
            q = unit(moco.head(moco.encoder(views[0])))
            k = unit(moco.key_head(moco.key_encoder(views[1])))
        own_keys_among_negatives = torch.isclose(k @ moco.queue.T, torch.ones(()), atol=1e-6).any()
        assert own_keys_among_negatives.item() == (step == 1)
        expected = info_nce(q, k, moco.queue, 0.2)
        terms = moco(views)
        assert terms.keys() == {"info_nce"}
        assert terms["info_nce"].item() == pytest.approx(expected.item(), abs=1e-5)
        moco.after_step()


def test_key_encoder_follows_after_the_step_and_has_no_gradient(encoder, pictures):
    moco = MoCo(encoder, small(key_momentum=0.75))
    optimizer = torch.optim.SGD([p for p in moco.parameters() if p.requires_grad], lr=0.1)
    before = {k: p.clone() for k, p in moco.key_encoder.named_parameters()}
    terms = moco([pictures(4, name="a"), pictures(4, name="b")])
    sum(terms.values()).backward()
    optimizer.step()
    for name, p in moco.key_encoder.named_parameters():
        assert torch.equal(p, before[name]), f"{name} moved before after_step"
        assert p.grad is None
    moco.after_step()
    moved = 0
    for name, p in moco.key_encoder.named_parameters():
        query = moco.encoder.get_parameter(name)
        torch.testing.assert_close(p, 0.75 * before[name] + 0.25 * query, atol=1e-6, rtol=1e-5)
        moved += not torch.equal(p, before[name])
    assert moved > 0.9 * len(before)


def test_key_networks_start_as_copies(encoder):
    moco = MoCo(encoder, small())
    for query, key in ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head)):
        for a, b in zip(query.parameters(), key.parameters(), strict=True):
            assert torch.equal(a, b)
            assert a.data_ptr() != b.data_ptr()


def test_variance_term_is_weighted_and_sees_queries_before_normalisation(encoder, pictures):
    moco = MoCo(encoder, small(variance_weight=0.5)).eval()
    views = [pictures(4, name="a"), pictures(4, name="b")]
    with torch.no_grad():
        expected = 0.5 * variance_hinge(moco.head(moco.encoder(views[0])))
    terms = moco(views)
    assert terms.keys() == {"info_nce", "variance"}
    assert terms["variance"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_retrieval_is_a_share_of_the_batch(encoder, pictures):
    moco = MoCo(encoder, small()).eval()
    same = pictures(4)
    moco([same, same])  # identical views, identical networks: each query is its key
    assert moco.metrics["retrieval"].item() == 1.0


def test_a_queue_smaller_than_a_batch_is_refused(encoder):
    with pytest.raises(InputError, match="queue_size 3 is smaller than batch_size 4"):
        MoCo(encoder, small(queue_size=3))


# --- batch norm's company, clean pictures, fresh keys --------------------------------------------


def test_an_unmasked_own_key_is_a_negative_too(normal):
    q, k, queue = (unit(normal(n, 5, name=s)) for n, s in ((3, "q"), (3, "k"), (4, "queue")))
    masked = contrastive_logits(q, k, queue, 0.2, in_batch=True)
    bare = contrastive_logits(q, k, queue, 0.2, in_batch=True, mask_own_key=False)
    own = torch.eye(3, dtype=torch.bool)
    torch.testing.assert_close(bare[:, 5:][own], bare[:, 0])
    torch.testing.assert_close(bare[:, 5:][~own], masked[:, 5:][~own])


def test_keys_of_other_processes_are_negatives(normal):
    q, k = unit(normal(2, 5, name="q")), unit(normal(6, 5, name="k"))
    queue = unit(normal(4, 5, name="queue"))
    logits = contrastive_logits(q, k, queue, 0.2, in_batch=True, first=2)
    strangers = torch.cat([queue, k[:2], k[4:]])
    alone = contrastive_logits(q, k[2:4], strangers, 0.2, in_batch=True)
    assert logits.shape == (2, 1 + 4 + 6)
    torch.testing.assert_close(logits.logsumexp(1), alone.logsumexp(1))
    torch.testing.assert_close(logits[:, 0], alone[:, 0])


def test_split_batch_norm_sees_each_part_alone(encoder, pictures):
    moco = MoCo(encoder, small(norm_splits=2))
    view = pictures(4)
    expected = torch.cat([moco.head(moco.encoder(part)) for part in view.split(2)])
    torch.testing.assert_close(moco._project(view), expected)
    assert not torch.allclose(moco._project(view), moco.head(moco.encoder(view)), atol=1e-3)


def test_keys_are_normalised_in_the_company_that_the_order_deals(encoder, pictures):
    moco = MoCo(encoder, small(norm_splits=2))
    view, order = pictures(4), torch.tensor([2, 0, 3, 1])
    keys = moco._keys_of(view, order)
    with torch.no_grad():
        for company in ([2, 0], [3, 1]):
            expected = unit(moco.key_head(moco.key_encoder(view[company])))
            torch.testing.assert_close(keys[company], expected, atol=1e-5, rtol=1e-4)


def test_views_bring_an_order_only_where_batch_norm_is_split(encoder, pictures):
    from scxr.seeds import generator

    assert len(MoCo(encoder, small()).views(pictures(4), generator(0, "v"))) == 2
    *_, order = MoCo(encoder, small(norm_splits=4)).views(pictures(4), generator(0, "v"))
    assert sorted(order.tolist()) == [0, 1, 2, 3]


def test_the_clean_pictures_feed_the_variance_term(encoder, pictures):
    from scxr.seeds import generator

    moco = MoCo(encoder, small(variance_weight=1.0, regularise="clean")).eval()
    images = pictures(4, 48)
    views = moco.views(images, generator(0, "v"))
    shrunk = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(views[2], shrunk)
    with torch.no_grad():
        expected = variance_hinge(moco.head(moco.encoder(shrunk)))
    assert moco(views)["variance"].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_stale_queue_raises_retrieval_but_not_among_fresh_keys(encoder, pictures):
    # Every picture is the same but for a whisper: keys cannot be told apart, only their age can.
    moco = MoCo(encoder, small(in_batch_negatives=False, queue_size=64)).eval()
    base = pictures(1).expand(4, -1, -1, -1)
    with torch.no_grad():
        direction = unit(moco.key_head(moco.key_encoder(base[:1])))
        moco.queue.copy_(-direction.expand(64, -1))
    moco([base, base])
    assert moco.metrics["retrieval"].item() == 1.0
    assert moco.metrics["fresh_retrieval"].item() <= 0.5


@pytest.mark.parametrize("splits", [0, 3])
def test_batches_that_do_not_split_are_refused(encoder, splits):
    with pytest.raises(InputError, match=f"norm_splits {splits} does not cut a batch of 4"):
        MoCo(encoder, small(norm_splits=splits))


def test_an_unknown_place_for_the_variance_term_is_refused(encoder):
    with pytest.raises(InputError, match="choose views or clean"):
        MoCo(encoder, small(regularise="dirty"))


# --- towards MoCo v3 -----------------------------------------------------------------------------


def test_the_symmetric_loss_is_the_mean_of_both_ways_round(encoder, pictures):
    one_way = MoCo(encoder, small()).eval()
    both_ways = MoCo(encoder, small(symmetric=True, variance_weight=0.5)).eval()
    both_ways.load_state_dict(one_way.state_dict())
    a, b = pictures(4, name="a"), pictures(4, name="b")
    there, back = one_way([a, b]), one_way([b, a])
    terms = both_ways([a, b])
    mean = (there["info_nce"] + back["info_nce"]) / 2
    torch.testing.assert_close(terms["info_nce"], mean, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        hinges = [variance_hinge(both_ways.head(both_ways.encoder(view))) for view in (a, b)]
    assert terms["variance"].item() == pytest.approx(float(sum(hinges)) / 4, abs=1e-5)


def test_both_views_keys_enter_the_queue_after_the_step(encoder, pictures):
    moco = MoCo(encoder, small(symmetric=True, queue_size=9)).eval()
    views = [pictures(4, name="a"), pictures(4, name="b")]
    before = moco.queue.clone()
    moco(views)
    assert torch.equal(moco.queue, before)
    with torch.no_grad():
        keys = [unit(moco.key_head(moco.key_encoder(view))) for view in reversed(views)]
    moco.after_step()
    torch.testing.assert_close(moco.queue[:8], torch.cat(keys), atol=1e-6, rtol=0)
    assert int(moco.queue_start) == 8


def test_output_norm_spreads_every_dimension_alike(encoder, pictures):
    bare, normed = (MoCo(encoder, small(output_norm=norm)) for norm in (False, True))
    assert not [name for name, _ in normed.head[-1].named_parameters()]
    normed.head.load_state_dict(bare.head.state_dict(), strict=False)
    z, plain = (moco._project(pictures(4)) for moco in (normed, bare))
    centred = plain - plain.mean(dim=0)
    expected = centred / (centred.pow(2).mean(dim=0) + 1e-5).sqrt()
    torch.testing.assert_close(z, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_head_has_the_layers_asked_for(encoder, layers):
    moco = MoCo(encoder, small(head_layers=layers, head_norm=False))
    widths = [m.weight.shape for m in moco.head if isinstance(m, torch.nn.Linear)]
    assert widths == [(512, 512)] * (layers - 1) + [(8, 512)]


def test_a_head_without_layers_is_refused(encoder):
    with pytest.raises(InputError, match="head_layers is 0"):
        MoCo(encoder, small(head_layers=0))


@pytest.mark.parametrize("preset", ["full", "paper"])
def test_the_published_recipes_stay_moco_v2(preset):
    settings = MoCo.presets[preset]
    assert not settings.symmetric
    assert not settings.output_norm
    assert settings.head_layers == 2
