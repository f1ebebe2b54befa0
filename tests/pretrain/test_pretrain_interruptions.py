"""Every way to be stopped: nothing is lost, nothing is done twice, nothing broken is kept."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count

import pytest
from tiny_runs import OWN, TINY, assert_same_run, content, interrupt, train, unplugged
from torch import Tensor

from scxr import pretrain as loop
from scxr.errors import InputError
from scxr.methods.barlow import BarlowTwins
from scxr.runs import Run


@pytest.mark.parametrize("method", ["dino", "spark", "vicreg"])
def test_interrupted_and_resumed_is_never_interrupted_bit_for_bit(
    finished, store, tmp_path, method
):
    out = tmp_path / "run"
    interrupt(method, store, out, after=1)  # before anything was saved
    interrupt(method, store, out, after=5)  # a step and a log row after what was saved
    assert not Run.open(out).finished
    assert (out / "resume.safetensors").is_file()
    assert_same_run(train(method, store, out), finished(method))
    assert not (out / "resume.safetensors").exists()


def test_a_line_cut_short_is_forgotten(finished, store, stopped):
    """BarlowTwins, resumed bit for bit from a log that a kill cut in the middle of a row."""
    with (stopped / "log.jsonl").open("a") as log:
        log.write('{"kind": "train", "step": 3, "lo')
    assert_same_run(train("barlow", store, stopped), finished("barlow"))


KILLED_AT_EVERY_RENAME = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from scxr.checkpoint import load_state, save_state
from scxr.data import RadiographStore
from scxr.pretrain import pretrain

store, out, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
allowed = 0

def kill(event, arguments):
    global allowed
    if event == "os.rename":
        if allowed == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        allowed -= 1

for attempt in range(50):
    child = os.fork()
    if child == 0:
        try:
            allowed = attempt
            sys.addaudithook(kill)
            pretrain("moco", RadiographStore.open(store), out, settings=settings, device="cpu",
                     precision="32-true", checkpoint_every=2)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    print(code, flush=True)
    if code != -signal.SIGKILL:
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_file_it_puts_in_place(finished, store, tmp_path):
    # MoCo. The n-th attempt dies, by SIGKILL, just before it moves its n-th file into place; each
    # goes on from what the last one left, and the one that may move them all finishes.
    out = tmp_path / "run"
    settings = json.dumps({**TINY, **OWN["moco"]})
    command = [sys.executable, "-c", KILLED_AT_EVERY_RENAME, str(store.path), str(out), settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    codes = [int(line) for line in done.stdout.split()]
    assert codes[-1] == 0, done.stderr
    assert set(codes[:-1]) == {-9}
    assert len(codes) == 6  # at config, log, two states, encoder; the sixth had no more to move
    assert not [f for f in out.iterdir() if f.name.startswith(".")]  # the next run cleans up
    assert_same_run(Run.open(out), finished("moco"))


def test_control_c_says_how_to_go_on(store, stopped):
    with pytest.raises(InputError, match=r"Interrupted: .*--resume"):
        train("barlow", unplugged(store, 1, KeyboardInterrupt), stopped)
    assert (stopped / "resume.safetensors").is_file()


def test_an_interrupted_run_needs_permission_to_go_on(store, stopped):
    before = content(stopped)
    with pytest.raises(InputError, match="holds an interrupted run: add --resume"):
        train("barlow", store, stopped, resume=False)
    assert content(stopped) == before


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "foreign"])
def test_a_damaged_state_is_named_and_not_trained_over(store, stopped, damage, finished):
    state = stopped / "resume.safetensors"
    good = state.read_bytes()
    damaged = {
        "garbage": b"\x00garbage" * 100,
        "cut": good[: len(good) // 2],
        "empty": b"",
        "foreign": (finished("moco").path / "encoder.safetensors").read_bytes(),
    }[damage]
    state.write_bytes(damaged)
    log = (stopped / "log.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"resume\.safetensors .*delete it to start") as refusal:
        train("barlow", store, stopped)
    assert len(str(refusal.value)) < 400  # a sentence, not a list of all weights
    assert state.read_bytes() == damaged
    assert (stopped / "log.jsonl").read_bytes() == log


def test_without_its_state_a_run_starts_afresh(store, stopped, finished):
    (stopped / "resume.safetensors").unlink()
    assert_same_run(train("barlow", store, stopped), finished("barlow"))


# --- weights that are no numbers ------------------------------------------------------------------


DIVERGING = {"lr": 1e38, "warmup": 0.0, "clip": None, "variance_weight": 1e6}


def test_a_diverging_run_stops_and_saves_no_broken_state(store, tmp_path):
    # The first loss is finite, and the step it leads to overflows; nobody measures at step 1.
    settings = {**DIVERGING, "steps": 30}
    with pytest.raises(InputError, match=r"diverged at step 1: nothing had been saved before; try"):
        train("moco", store, tmp_path, settings=settings, checkpoint_every=1)
    assert not Run.open(tmp_path).finished
    assert not (tmp_path / "resume.safetensors").exists()


def test_weights_that_overflow_in_the_last_step_are_not_a_finished_run(store, tmp_path):
    with pytest.raises(InputError, match="diverged at step 1:"):
        train("moco", store, tmp_path, settings={**DIVERGING, "steps": 1})
    assert not Run.open(tmp_path).finished


def test_a_loss_that_is_no_number_leaves_a_state_to_go_on_from(
    finished, store, tmp_path, monkeypatch
):
    with monkeypatch.context() as broken:
        broken.setattr(BarlowTwins, "forward", not_a_number(at=6))
        with pytest.raises(InputError, match=r"diverged at step 6: .* good state, of step 4; try"):
            train("barlow", store, tmp_path)
    assert_same_run(train("barlow", store, tmp_path), finished("barlow"))


def test_between_two_logged_steps_the_monitor_sees_it(store, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOGGED_STEPS", 2)
    monkeypatch.setattr(BarlowTwins, "forward", not_a_number(at=3))
    with pytest.raises(InputError, match=r"diverged at step 4: nothing had been saved before; try"):
        train("barlow", store, tmp_path, settings={"steps": 24}, checkpoint_every=24)
    assert not Run.open(tmp_path).finished


def not_a_number(at: int) -> Callable[..., dict[str, Tensor]]:
    """BarlowTwins' forward pass, with a loss of NaN in one step."""
    original, steps = BarlowTwins.forward, count(1)

    def forward(self: BarlowTwins, views: list[Tensor]) -> dict[str, Tensor]:
        scale = math.nan if next(steps) == at else 1.0
        return {name: term * scale for name, term in original(self, views).items()}

    return forward
