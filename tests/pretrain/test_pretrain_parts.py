"""The parts of the loop: order, schedule, optimiser, seeds."""

from __future__ import annotations

import math

import pytest
import torch
from lightning_fabric.plugins.precision import Precision
from tiny_runs import OWN, SIZE, TINY

from scxr.checkpoint import load_state, save_state
from scxr.methods import METHODS
from scxr.optimisation import build_optimizer, learning_rate, precision_for
from scxr.pretrain import batch_rows, build_method, preset_settings, total_steps


def test_an_epoch_shows_every_image_once_and_drops_the_rest():
    n, batch = 70, 16
    epochs = [[batch_rows(n, batch, e * 4 + i, seed=0) for i in range(4)] for e in range(3)]
    for epoch in epochs:
        rows = torch.cat(epoch).tolist()
        assert len(set(rows)) == 64
        assert all(torch.equal(b, b.sort().values) for b in epoch)
    left_out = [set(range(n)) - set(torch.cat(epoch).tolist()) for epoch in epochs]
    assert len(set(map(frozenset, left_out))) == 3  # another six every epoch
    assert not torch.equal(epochs[0][0], epochs[1][0])
    assert torch.equal(batch_rows(n, batch, 5, seed=0), epochs[1][1])
    assert not torch.equal(batch_rows(n, batch, 5, seed=1), epochs[1][1])


def test_steps_follow_from_epochs(store):
    changes = {"image_size": SIZE, "batch_size": 16, "epochs": 3}
    settings = preset_settings("moco", "quick", changes)
    assert total_steps(settings, store) == 3 * 4


def test_learning_rate_by_hand():
    # Ten steps, two of warm-up: 1/2, 1, then (1 + cos(pi k / 8)) / 2 for k = 0 to 7.
    rates = [learning_rate(s, 10, 2.0, 0.2) for s in range(10)]
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[6] == pytest.approx(1.0)  # half way down, k = 4
    assert rates[9] == pytest.approx(1 + math.cos(math.pi * 7 / 8))
    assert [learning_rate(s, 4, 1.0, 0.0) for s in (0, 2)] == pytest.approx([1.0, 0.5])
    assert [learning_rate(s, 4, 1.0, 1.0) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_norms_do_not_decay(store, name):
    settings = preset_settings("moco", "quick", {**TINY, **OWN["moco"], "optimizer": name})
    method = build_method("moco", settings, store, seed=0)
    optimizer = build_optimizer(method, settings)
    decayed, spared = (group["params"] for group in optimizer.param_groups)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [settings.weight_decay, 0.0]
    assert {p.ndim for p in decayed} == {2, 4}
    assert {p.ndim for p in spared} == {1}
    trained = [p for p in method.parameters() if p.requires_grad]
    assert len(decayed) + len(spared) == len(trained)
    keys = {id(p) for p in (*method.key_encoder.parameters(), *method.key_head.parameters())}
    assert not keys & {id(p) for p in (*decayed, *spared)}


def layout(tensor: torch.Tensor) -> list[int]:
    """Strides of the dimensions that have one."""
    return [s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_restored_optimizer_is_laid_out_as_the_one_saved(store, tmp_path, name):
    settings = preset_settings("barlow", "quick", {**TINY, **OWN["barlow"], "optimizer": name})

    def fresh():
        method = build_method("barlow", settings, store, seed=0)
        method.to(memory_format=torch.channels_last)
        return method, build_optimizer(method, settings)

    method, optimizer = fresh()
    for p in method.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    save_state(tmp_path / "state", method, optimizer, Precision(), 7)
    again, restored = fresh()
    assert load_state(tmp_path / "state", again, restored, Precision()) == 7
    for p, q in zip(method.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
        assert optimizer.state[p].keys() == restored.state[q].keys()
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, restored.state[q][key])
            assert layout(value) == layout(restored.state[q][key])
            assert not restored.state[q][key].requires_grad


def test_precision_is_taken_as_given_or_chosen_to_exist():
    assert precision_for("cpu", "bf16-mixed") == "bf16-mixed"
    assert precision_for("cpu") in ("32-true", "bf16-mixed")
    for device in ("cpu", "auto", "cuda"):
        assert precision_for(device, "32-true") == "32-true"


@pytest.mark.parametrize("method", list(METHODS))
def test_the_same_seed_builds_the_same_method(store, method):
    settings = preset_settings(method, "quick", {**TINY, **OWN[method]})
    first, second, other = (build_method(method, settings, store, seed=s) for s in (0, 0, 1))
    states = [m.state_dict() for m in (first, second, other)]
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert any(not torch.equal(v, states[2][k]) for k, v in states[0].items())
