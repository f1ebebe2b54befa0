"""DINO's loss on paper and against lightly; teacher, centre, temperature, frozen layer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from scxr.errors import InputError
from scxr.methods.dino import (
    DINO,
    DINOSettings,
    centred_targets,
    cross_view_entropy,
    dino_loss,
    sinkhorn_targets,
    uniform_loss,
)
from scxr.methods.heads import PrototypeHead
from scxr.seeds import generator

LN3 = math.log(3)


# --- the loss ----------------------------------------------------------------------------------


def test_loss_by_hand():
    # Temperatures 1, centre 0. Teacher: view 0 says (3/4, 1/4), view 1 says (1/2, 1/2).
    # Student: view 0 says (1/2, 1/2), view 1 says (3/4, 1/4).
    # Pairs of different views: (t0, s1) = -(3/4 ln 3/4 + 1/4 ln 1/4) = 0.562335, (t1, s0) = ln 2.
    teacher = [torch.tensor([[LN3, 0.0]]), torch.zeros(1, 2)]
    student = [torch.zeros(1, 2), torch.tensor([[LN3, 0.0]])]
    loss = dino_loss(student, teacher, torch.zeros(2), 1.0, 1.0)
    assert loss.item() == pytest.approx((0.5623351 + 0.6931472) / 2, abs=1e-6)


def test_centre_and_temperatures_by_hand():
    # The centre takes ln 3 off the first output: (2 ln 3 - ln 3) / 0.5 = 2 ln 3, so 9 : 1.
    teacher, centre = torch.tensor([[2 * LN3, 0.0]]), torch.tensor([LN3, 0.0])
    targets = centred_targets(teacher, centre, 0.5)
    torch.testing.assert_close(targets, torch.tensor([[0.9, 0.1]]))
    # The student at temperature 2 says sqrt(3) : 1.
    student = torch.tensor([[LN3, 0.0]])
    p = math.sqrt(3) / (1 + math.sqrt(3))
    expected = -(0.9 * math.log(p) + 0.1 * math.log(1 - p))
    loss = dino_loss([student, student], [teacher], centre, 2.0, 0.5)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("prototypes", [2, 64, 1024])
def test_uniform_outputs_cost_ln_k(prototypes):
    outputs = [torch.full((3, prototypes), 0.3)] * 2
    loss = dino_loss(outputs, outputs, torch.zeros(prototypes)).item()
    assert loss == pytest.approx(math.log(prototypes), abs=1e-5)
    assert uniform_loss(prototypes) == pytest.approx(math.log(prototypes))


def test_same_view_is_skipped(normal):
    student = [normal(4, 8, name=f"s{i}").requires_grad_() for i in range(3)]
    loss = dino_loss(student, [normal(4, 8, name="t")], torch.zeros(8))
    loss.backward()
    assert student[0].grad is None  # the one teacher's view is view 0: nothing else to predict
    assert all(s.grad.abs().sum() > 0 for s in student[1:])


def test_loss_is_the_mean_over_pairs(normal):
    student = [normal(4, 8, name=f"s{i}") for i in range(4)]
    targets = [normal(4, 8, name=f"t{i}").softmax(dim=1) for i in range(2)]
    pairs = [
        F.cross_entropy(student[j] / 0.1, targets[i]) for i in (0, 1) for j in range(4) if i != j
    ]
    assert len(pairs) == 6
    loss = cross_view_entropy(student, targets, 0.1)
    assert loss.item() == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-5)


def test_no_gradient_reaches_the_teacher(normal):
    teacher = [normal(4, 8, name=f"t{i}").requires_grad_() for i in range(2)]
    student = [normal(4, 8, name=f"s{i}").requires_grad_() for i in range(2)]
    dino_loss(student, teacher, torch.zeros(8)).backward()
    assert all(t.grad is None for t in teacher)
    assert all(s.grad.abs().sum() > 0 for s in student)


@pytest.mark.parametrize("local_crops", [0, 3])
def test_loss_and_gradient_agree_with_lightly(normal, local_crops):
    reference = pytest.importorskip("lightly.loss").DINOLoss(
        output_dim=32, teacher_temp=0.05, student_temp=0.1, center_momentum=0.9
    )
    centre = 0.2 * normal(32, name="centre")
    reference.center = centre.clone()[None, None]
    teacher = [F.normalize(normal(6, 32, name=f"t{i}")) for i in range(2)]
    student = [
        F.normalize(normal(6, 32, name=f"s{i}")).requires_grad_() for i in range(2 + local_crops)
    ]
    theirs = reference(teacher, student)
    ours = dino_loss(student, teacher, centre, 0.1, 0.05)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    gradients = (torch.autograd.grad(loss, student) for loss in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


# --- Sinkhorn ----------------------------------------------------------------------------------


def test_sinkhorn_marginals(normal):
    # Cosines, as the head's, but all leaning towards the first prototypes.
    scores = torch.tanh(normal(64, 16) + torch.linspace(1, -1, 16))
    plain = torch.softmax(scores / 0.25, dim=1).sum(dim=0)
    assert plain.max() > 8, "the example must be unbalanced to begin with"
    balanced = sinkhorn_targets(scores, 0.25, iterations=50)
    torch.testing.assert_close(balanced.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(balanced.sum(dim=0), torch.full((16,), 4.0), atol=1e-3, rtol=0)
    quick = sinkhorn_targets(scores, 0.25)  # three rounds: rows exact, columns on the way
    torch.testing.assert_close(quick.sum(dim=1), torch.ones(64))
    assert (quick.sum(dim=0) - 4).abs().max() < 0.2


def test_sinkhorn_agrees_with_lightly(normal):
    module = pytest.importorskip("lightly.loss.swav_loss")
    scores = F.normalize(normal(24, 10))
    theirs = module.sinkhorn(scores, iterations=3, epsilon=0.05)
    torch.testing.assert_close(sinkhorn_targets(scores, 0.05), theirs, atol=1e-5, rtol=1e-4)


def test_sinkhorn_survives_sharp_scores():
    # exp(2 / 0.01) overflows float32 unless the largest score is taken off first.
    scores = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, 1.0]])
    targets = sinkhorn_targets(scores, 0.01)
    torch.testing.assert_close(targets, (scores > 0).float())


# --- the method --------------------------------------------------------------------------------


def small(**changes) -> DINOSettings:
    defaults = {
        "image_size": 32,
        "batch_size": 4,
        "prototypes": 16,
        "hidden": 24,
        "bottleneck": 8,
        "steps": 10,
    }
    return DINOSettings(**{**defaults, **changes})


def two_views(pictures):
    return [pictures(4, name="a"), pictures(4, name="b")]


def test_centre_moves_after_the_loss_not_before(encoder, pictures):
    dino = DINO(encoder, small(centring="centre", centre_momentum=0.75)).eval()
    dino.centre.fill_(0.1)
    views = two_views(pictures)
    with torch.no_grad():
        teacher = dino.teacher_head(dino.encoder(torch.cat(views)))
        student = dino.student_head(dino.student(torch.cat(views)))
        expected = dino_loss(list(student.chunk(2)), list(teacher.chunk(2)), dino.centre, 0.1, 0.04)
    loss = dino(views)["cross_entropy"]
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.equal(dino.centre, torch.full((16,), 0.1))
    dino.after_step()
    moved = 0.75 * 0.1 + 0.25 * teacher.mean(dim=0)
    torch.testing.assert_close(dino.centre, moved, atol=1e-6, rtol=0)


def test_centre_moves_as_in_lightly(normal, encoder, pictures):
    reference = pytest.importorskip("lightly.loss").DINOLoss(output_dim=16, center_momentum=0.9)
    dino = DINO(encoder, small(centring="centre", centre_momentum=0.9)).eval()
    for step in range(3):
        views = [pictures(4, name=f"a{step}"), pictures(4, name=f"b{step}")]
        with torch.no_grad():
            teacher = dino.teacher_head(dino.encoder(torch.cat(views))).chunk(2)
        reference(list(teacher), [normal(4, 16)] * 2)
        dino(views)
        dino.after_step()
        torch.testing.assert_close(dino.centre, reference.center.flatten(), atol=1e-6, rtol=0)


def test_teacher_follows_the_student_and_has_no_gradient(encoder, pictures):
    dino = DINO(encoder, small(teacher_momentum=0.5, frozen_prototypes=0.0))
    dino.progress = 0.5  # half way the momentum is half way between 0.5 and 1
    before = {k: p.clone() for k, p in dino.encoder.named_parameters()}
    dino(two_views(pictures))["cross_entropy"].backward()
    torch.optim.SGD([p for p in dino.parameters() if p.requires_grad], lr=0.1).step()
    assert all(p.grad is None for p in dino.encoder.parameters())
    assert all(p.grad is None for p in dino.teacher_head.parameters())
    assert all(p.grad is not None for p in dino.student.parameters())
    dino.after_step()
    for name, p in dino.encoder.named_parameters():
        student = dino.student.get_parameter(name)
        torch.testing.assert_close(p, 0.75 * before[name] + 0.25 * student, atol=1e-6, rtol=1e-5)


def test_student_and_teacher_start_alike(encoder):
    dino = DINO(encoder, small())
    for name, p in dino.encoder.named_parameters():
        assert torch.equal(p, dino.student.get_parameter(name))
    assert torch.equal(dino.encoder.mean, dino.student.mean)
    assert dino.student.config == dino.encoder.config


@pytest.mark.parametrize(("progress", "moves"), [(0.0, False), (0.19, False), (0.2, True)])
def test_prototypes_stay_where_they_are_while_frozen(encoder, pictures, progress, moves):
    dino = DINO(encoder, small(frozen_prototypes=0.2))
    dino.progress = progress
    trained = [p for p in dino.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.5)
    before = dino.student_head.prototypes.weight.detach().clone()
    dino(two_views(pictures))["cross_entropy"].backward()
    optimizer.step()
    assert torch.equal(dino.student_head.prototypes.weight, before) != moves
    assert dino.student_head.mlp[0].weight.grad.abs().sum() > 0


def test_teacher_temperature_warms_up_and_stays(encoder):
    dino = DINO(encoder, small(teacher_temperature=(0.04, 0.07), teacher_warmup=0.5))
    schedule = {}
    for progress in (0.0, 0.25, 0.5, 0.99):
        dino.progress = progress
        schedule[progress] = dino.teacher_temperature
    expected = {0.0: 0.04, 0.25: 0.055, 0.5: 0.07, 0.99: 0.07}
    assert schedule == pytest.approx(expected)


def test_teacher_temperature_without_a_warmup_is_the_second_value(encoder):
    dino = DINO(encoder, small(teacher_temperature=(0.04, 0.07), teacher_warmup=0.0))
    dino.progress = 0.1
    assert dino.teacher_temperature == pytest.approx(0.07)


def test_local_crops_are_small_and_only_the_student_sees_them(encoder, pictures):
    dino = DINO(encoder, small(local_crops=3, local_size=16)).eval()
    views = dino.views(pictures(4, size=48), generator(0, "views"))
    assert [v.shape[-1] for v in views] == [32, 32, 16, 16, 16]
    with torch.no_grad():
        teacher = dino.teacher_head(dino.encoder(torch.cat(views[:2])))
        targets = [sinkhorn_targets(t, 0.04) for t in teacher.chunk(2)]
        student = [dino.student_head(dino.student(v)) for v in views]
        expected = cross_view_entropy(student, targets, 0.1)
    assert dino(views)["cross_entropy"].item() == pytest.approx(expected.item(), abs=1e-4)


def test_metrics_tell_two_kinds_of_collapse_apart(encoder):
    dino = DINO(encoder, small())
    dino._observe(torch.full((8, 16), 1 / 16))  # uniform: every target says nothing
    assert dino.metrics["target_entropy"].item() == pytest.approx(math.log(16), abs=1e-5)
    assert dino.metrics["mutual_information"].item() == pytest.approx(0, abs=1e-5)
    same = torch.zeros(8, 16)
    same[:, 3] = 1  # one prototype for every image
    dino._observe(same)
    assert dino.metrics["target_entropy"].item() == pytest.approx(0, abs=1e-6)
    assert dino.metrics["mutual_information"].item() == pytest.approx(0, abs=1e-6)
    dino._observe(torch.eye(16)[:8])  # one prototype each: ln 8
    assert dino.metrics["mutual_information"].item() == pytest.approx(math.log(8), abs=1e-5)


def test_unknown_centring_is_refused(encoder):
    with pytest.raises(InputError, match="choose centre or sinkhorn"):
        DINO(encoder, small(centring="mean"))


# --- the head ----------------------------------------------------------------------------------


@pytest.fixture
def head():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PrototypeHead(12, hidden=16, bottleneck=8, prototypes=20, norm=False)


def test_head_outputs_are_cosines(head, normal):
    output = head(100 * normal(32, 12))
    assert output.shape == (32, 20)
    assert output.abs().max() <= 1 + 1e-5
    z, w = head.mlp(100 * normal(32, 12)), head.prototypes.weight
    expected = F.cosine_similarity(z[:, None], w[None], dim=2)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)


def test_length_of_a_prototype_does_not_matter(head, normal):
    x = normal(4, 12)
    before = head(x)
    with torch.no_grad():
        head.prototypes.weight.mul_(torch.linspace(0.1, 9, 20)[:, None])
    torch.testing.assert_close(head(x), before, atol=1e-5, rtol=0)


def test_head_agrees_with_weight_norm_of_gain_one(head, normal):
    last = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(8, 20, bias=False))
    with torch.no_grad():
        last.parametrizations.weight.original0.fill_(1)
        last.parametrizations.weight.original1.copy_(head.prototypes.weight)
    x = normal(4, 12)
    torch.testing.assert_close(head(x), last(F.normalize(head.mlp(x))), atol=1e-6, rtol=1e-5)


def test_head_computes_cosines_in_full_precision_under_autocast(head, normal):
    # bfloat16 knows no number between 0.9961 and 1: a step of 0.1 in the teacher's logits.
    x = normal(16, 12)
    expected = head(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(x)
    assert output.dtype == torch.float32
    assert not torch.equal(output, output.bfloat16().float())
    torch.testing.assert_close(output, expected, atol=0.02, rtol=0)
