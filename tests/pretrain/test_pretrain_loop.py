"""Accumulated batches, schedules, precision, memory that runs out, and several processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import two_processes
from tiny_runs import OWN, TINY, assert_same_run, interrupt, train

from scxr import pretrain as loop
from scxr.errors import InputError
from scxr.methods.barlow import BarlowTwins
from scxr.methods.base import Settings
from scxr.optimisation import schedule
from scxr.runs import Run, read_tensors
from scxr.seeds import generator


def test_accumulated_batches_give_their_mean_gradient(store, tmp_path):
    """Two batches a step, SGD without momentum: the step is the mean of the two alone."""
    base = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "warmup": 0.0, "clip": None}
    base |= {"weight_decay": 0.0, "steps": 1, "batch_size": 16, "image_size": 32, "projection": 32}
    run = train("barlow", store, tmp_path / "both", settings={**base, "accumulate": 2})
    settings = loop.preset_settings("barlow", "quick", base)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gradients = []
    for batch in range(2):
        method = loop.build_method("barlow", settings, store, seed=0)
        method.to(memory_format=torch.channels_last)
        images = store.batch(loop.batch_rows(len(store), 16, batch, seed=0)).float() / 255
        sum(method(method.views(images, generator(0, "views", batch))).values()).backward()
        gradients.append({name: p.grad for name, p in method.named_parameters()})
    torch.set_num_threads(threads)
    weights, _ = read_tensors(run.path / "method.safetensors")
    start = loop.build_method("barlow", settings, store, seed=0)
    for name, p in start.named_parameters():
        expected = p.detach() - 0.1 * (gradients[0][name] + gradients[1][name]) / 2
        torch.testing.assert_close(weights[name], expected, atol=1e-5, rtol=1e-4)


def test_the_clipped_step_is_the_whole_accumulated_one_made_shorter(store, tmp_path):
    """Clipping looks at the mean gradient of all batches, not at each of them."""
    base = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "warmup": 0.0, "weight_decay": 0.0}
    base |= {"steps": 1, "accumulate": 2}
    settings = loop.preset_settings("barlow", "quick", {**TINY, **OWN["barlow"], **base})
    start = dict(loop.build_method("barlow", settings, store, seed=0).named_parameters())
    moves = []
    for clip in (None, 0.5):
        out = tmp_path / str(clip)
        run = train("barlow", store, out, settings={**base, "clip": clip})
        weights, _ = read_tensors(run.path / "method.safetensors")
        moves.append(torch.cat([(weights[n] - p.detach()).flatten() for n, p in start.items()]))
    free, clipped = moves
    assert free.norm() > 0.1 * 5  # or nothing would have been cut
    assert clipped.norm().item() == pytest.approx(0.1 * 0.5, rel=1e-3)
    assert torch.nn.functional.cosine_similarity(free, clipped, dim=0) > 0.9999


def test_an_epoch_of_accumulated_batches_has_fewer_steps(store):
    settings = loop.preset_settings(
        "moco", "quick", {"batch_size": 16, "epochs": 3, "accumulate": 2}
    )
    assert loop.total_steps(settings, store) == 3 * (64 // 16) // 2


def test_accumulated_moco_resumes_bit_for_bit(store, tmp_path):
    changes = {"settings": {"accumulate": 2}}
    interrupt("moco", store, tmp_path / "cut", after=10, **changes)
    whole = train("moco", store, tmp_path / "whole", **changes)
    assert_same_run(train("moco", store, tmp_path / "cut", **changes), whole)


def test_weight_decay_goes_along_a_cosine_and_spares_norms():
    decayed, spared = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW(
        [
            {"params": [decayed], "weight_decay": 0.04},
            {"params": [spared], "weight_decay": 0.0},
        ],
        lr=1.0,
    )
    settings = Settings(steps=100, lr=2.0, warmup=0.1, weight_decay=0.04, weight_decay_end=0.4)
    seen = []
    for step in (0, 50, 99):
        rate = schedule(optimizer, settings, step, 100)
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate]
        assert optimizer.param_groups[1]["weight_decay"] == 0.0
        seen.append(optimizer.param_groups[0]["weight_decay"])
    assert seen == pytest.approx([0.04, 0.22, 0.4], abs=1e-3)


def test_another_precision_is_another_run(store, tmp_path):
    train("barlow", store, tmp_path)
    with pytest.raises(InputError, match="other settings, precision, seed or data"):
        train("barlow", store, tmp_path, precision="bf16-mixed")


def test_memory_that_runs_out_ends_in_advice(store, tmp_path, monkeypatch):
    original = BarlowTwins.forward

    def forward(self, views):
        if type(views[0]) is torch.Tensor:  # the fake ones are those that count memory
            torch.empty(2**60)
        return original(self, views)

    monkeypatch.setattr("scxr.methods.barlow.BarlowTwins.forward", forward)
    with pytest.raises(InputError, match=r"^Out of memory: a step of barlow .* GB"):
        train("barlow", store, tmp_path)


@pytest.mark.parametrize("compiled", [(True, False), (False, True)], ids=["off", "on"])
def test_a_run_goes_on_with_compilation_switched(finished, store, tmp_path, monkeypatch, compiled):
    """Names and weights in the saved state are those of the plain network, either way."""
    # The translator without its code generator: no compiler needed, the same sums to the bit.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    before, after = compiled
    interrupt("barlow", store, tmp_path, after=5, compiled=before)
    assert_same_run(train("barlow", store, tmp_path, compiled=after), finished("barlow"))


def test_other_failures_are_not_taken_for_it(store, tmp_path, monkeypatch):
    def forward(self, views):
        raise RuntimeError("the fan fell off")

    monkeypatch.setattr("scxr.methods.barlow.BarlowTwins.forward", forward)
    with pytest.raises(RuntimeError, match="fan fell off"):
        train("barlow", store, tmp_path)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")
def test_two_processes_train_as_one(store, tmp_path):
    """gloo, half a batch each; one process normalises the same halves apart."""
    script = str(Path(two_processes.__file__))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    jobs = {
        "one": [sys.executable, script, str(store.path), str(tmp_path / "one"), "2"],
        "two": [*torchrun, script, str(store.path), str(tmp_path / "two"), "1"],
    }
    for job in jobs.values():
        done = subprocess.run(job, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (Run.open(tmp_path / name) for name in jobs)
    assert one.log()["step"].tolist() == two.log()["step"].tolist() == [1, 2, 3, 4, 5]
    losses = [run.log()["loss"].tolist() for run in (one, two)]
    assert losses[1][:3] == pytest.approx(losses[0][:3], rel=5e-4)
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)  # rounding grows from step to step
    assert two.log()["retrieval"].tolist() == pytest.approx(
        one.log()["retrieval"].tolist(), abs=0.1
    )
    for name in ("encoder.trunk.conv1.weight", "head.3.weight", "queue"):
        a, b = (read_tensors(run.path / "method.safetensors")[0][name] for run in (one, two))
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999, name


def test_batches_that_processes_cannot_share_are_refused(store, tmp_path, monkeypatch):
    class Three:
        world_size = 3

    monkeypatch.setattr(loop, "build_fabric", lambda *a, **k: Three())
    with pytest.raises(InputError, match="batch of 16 cannot be shared by 3 processes"):
        train("barlow", store, tmp_path)


KILLED_AT_RANDOM = """
import json, os, sys
import torch
torch.set_num_threads(1)
from scxr.data import RadiographStore
from scxr.pretrain import pretrain

store, out, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for line in sys.stdin:  # a word a try: the parent kills the child, at a moment of its own
    child = os.fork()
    if child == 0:
        pretrain("moco", RadiographStore.open(store), out, settings=settings, device="cpu",
                 precision="32-true", checkpoint_every=2)
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_thirty_kills_at_random_moments_change_nothing(store, tmp_path):
    """SIGKILL at any instant, also while a file is written; what is left resumes bit for bit."""
    settings = {**TINY, **OWN["moco"], "steps": 40}
    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED_AT_RANDOM, str(store.path), str(out)]
    process = subprocess.Popen(
        [*command, json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    moments, killed, states = random.Random(20261120), 0, set()
    window = 0.6  # seconds; wider until a run gets as far as to save a state, on any machine
    while killed < 30 and not (out / "encoder.safetensors").exists():
        process.stdin.write("go\n")
        process.stdin.flush()
        child = int(process.stdout.readline())
        time.sleep(moments.uniform(0.05, window))
        with contextlib.suppress(ProcessLookupError):  # it was faster
            os.kill(child, signal.SIGKILL)
        killed += int(process.stdout.readline()) == -signal.SIGKILL
        known = len(states)
        states |= {f.stat().st_mtime_ns for f in out.glob("resume.safetensors")}
        window *= 1.0 if len(states) > known else 1.2
    process.stdin.close()
    process.wait(timeout=60)
    assert killed >= 5, "the run was over before it could be killed"
    assert states, "no kill left a saved state to go on from"
    whole = train("moco", store, tmp_path / "whole", settings=settings, checkpoint_every=1000)
    resumed = train("moco", store, out, settings=settings, checkpoint_every=1000)
    assert_same_run(resumed, whole)
