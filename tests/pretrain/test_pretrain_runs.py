"""What a run of each method leaves behind, and when it is used again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_runs import (
    METHOD_NAMES,
    OWN,
    SIZE,
    STEPS,
    TERMS,
    TINY,
    content,
    train,
    unplugged,
    write_store,
)

from scxr.data import RadiographStore
from scxr.encoders import build_encoder
from scxr.optimisation import learning_rate
from scxr.pretrain import build_method, preset_settings
from scxr.runs import read_tensors


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_run_leaves_the_documented_files(finished, store, method):
    run = finished(method)
    assert run.method == method
    assert run.finished
    files = {f.name for f in run.path.iterdir()}
    expected = {"config.json", "log.jsonl", "method.safetensors", "encoder.safetensors"}
    assert files == expected | ({"snapshots"} if method == "spark" else set())
    assert run.config["data"]["fingerprint"] == store.fingerprint
    assert run.config["settings"]["steps"] == STEPS
    assert run.config["environment"]["packages"]["torch"]


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_step_is_logged_once_with_terms_that_sum_to_the_loss(finished, method):
    log = finished(method).log()
    assert log["step"].tolist() == list(range(1, STEPS + 1))
    assert log["epoch"].tolist() == [s / 4 for s in range(1, STEPS + 1)]  # 64 / 16 steps an epoch
    assert TERMS[method] <= set(log.columns)
    assert np.isfinite(log.to_numpy(float)).all()
    sums = log[sorted(TERMS[method])].sum(axis=1)
    np.testing.assert_allclose(sums, log["loss"], rtol=1e-4)
    settings = finished(method).config["settings"]
    rates = [learning_rate(s, STEPS, settings["lr"], settings["warmup"]) for s in range(STEPS)]
    assert log["lr"].tolist() == pytest.approx(rates)
    assert (log["images_per_second"] > 0).all()
    assert log["waiting"].between(0, 1).all()


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_collapse_is_measured_from_before_the_first_step_to_the_last(finished, method):
    log = finished(method).log("monitor")
    assert log["step"].tolist() == list(range(STEPS + 1))
    numbers = {"std", "std_normalised", "mean_cosine", "effective_rank", "rankme"}
    assert numbers <= set(log.columns)
    assert np.isfinite(log[sorted(numbers)].to_numpy(float)).all()
    assert (log["seconds"] > 0).all()
    assert {len(s) for s in log["spectrum"]} == {64}  # 64 images, 512 dimensions
    assert {len(s) for s in log["spectrum_uncentred"]} == {64}


def test_short_runs_are_looked_at_less_often_than_every_step(store, tmp_path):
    run = train("barlow", store, tmp_path, settings={"steps": 13})
    assert run.log("monitor")["step"].tolist() == [0, 3, 6, 9, 12, 13]


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_the_encoder_that_survives_was_trained_and_normalises_with_the_store(
    finished, store, method
):
    encoder = finished(method).encoder()
    start = build_encoder(
        "resnet18", image_size=SIZE, mean=store.mean, std=store.std, seed=0
    ).state_dict()
    weights, _ = read_tensors(finished(method).path / "method.safetensors")
    state = encoder.state_dict()
    assert all(torch.equal(value, weights[f"encoder.{name}"]) for name, value in state.items())
    moved = [k for k in state if not torch.equal(state[k], start[k])]
    assert set(state) - set(moved) == {"mean", "std"}
    assert encoder.mean.item() == pytest.approx(store.mean)


def test_dinos_survivor_is_the_teacher(finished):
    weights, _ = read_tensors(finished("dino").path / "method.safetensors")
    survivor = finished("dino").encoder().trunk.conv1.weight
    assert torch.equal(survivor, weights["encoder.trunk.conv1.weight"])
    assert not torch.equal(survivor, weights["student.trunk.conv1.weight"])


def test_schedules_follow_the_progress_of_the_run(finished, store):
    # The last layer rests for 0.4 of the run and moves after that.
    settings = preset_settings("dino", "quick", {**TINY, **OWN["dino"]})
    start = build_method("dino", settings, store, seed=0).student_head.prototypes.weight
    weights, _ = read_tensors(finished("dino").path / "method.safetensors")
    assert not torch.equal(weights["student_head.prototypes.weight"], start)


def test_every_step_draws_views_of_its_own(tmp_path):
    # One batch is the whole store and the weights hardly move: what is left to differ is the views.
    write_store(tmp_path / "store", 16)
    data = RadiographStore.open(tmp_path / "store")
    run = train("barlow", data, tmp_path / "run", settings={"steps": 3, "lr": 1e-12})
    assert run.log()["loss"].nunique() == 3
    gap = run.log()["loss"].max() - run.log()["loss"].min()
    assert gap > 1e-3


def test_spark_keeps_reconstructions_along_the_way(finished, store):
    found = finished("spark").snapshots()
    assert [s.step for s in found] == list(range(STEPS + 1))
    first, last = found[0].tensors, found[-1].tensors
    assert first["images"].shape == first["prediction"].shape == (8, SIZE, SIZE)
    assert first["mask"].flatten(1).sum(dim=1).tolist() == [9] * 8  # 0.6 of 4 x 4 patches
    assert torch.equal(first["images"], last["images"])
    assert torch.equal(first["mask"], last["mask"])
    assert not torch.equal(first["prediction"], last["prediction"])
    assert finished("moco").snapshots() == []


def test_training_lowers_the_loss(store, tmp_path):
    run = train("spark", store, tmp_path / "run", settings={"steps": 12})
    loss = run.log()["loss"]
    assert loss.tail(3).mean() < 0.95 * loss.head(3).mean()


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_half_precision_trains_too(finished, store, tmp_path, method):
    run = train(method, store, tmp_path / "run", precision="bf16-mixed", settings={"steps": 2})
    # The same weights, views and order: the first loss differs by rounding alone.
    assert run.log()["loss"][0] == pytest.approx(finished(method).log()["loss"][0], rel=0.05)
    assert np.isfinite(run.log()["loss"]).all()
    assert all(p.dtype == torch.float32 for p in run.encoder().parameters())


# --- reuse ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", [True, False])
def test_a_finished_run_is_opened_not_trained_again(finished, store, resume):
    run = finished("barlow")
    before = content(run.path)
    again = train("barlow", unplugged(store, 0), run.path, resume=resume)
    assert again.finished
    assert content(run.path) == before


def test_a_run_without_a_name_is_found_by_its_content(store, tmp_path, monkeypatch):
    monkeypatch.setenv("SCXR_CACHE", str(tmp_path / "cache"))
    one_step = {"steps": 1}
    first = train("barlow", store, None, settings=one_step)
    assert first.path.parent == tmp_path / "cache" / "runs"
    before = content(first.path)
    assert train("barlow", store, None, settings=one_step).path == first.path
    assert content(first.path) == before
    other = train("barlow", store, None, settings=one_step, seed=1)
    assert other.path != first.path
    assert other.log()["loss"][0] != first.log()["loss"][0]
