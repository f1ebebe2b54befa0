"""The loop on a tiny store: four methods, the runs they leave, and every way to be stopped."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scxr.checkpoint import load_state, save_state
from scxr.data import RadiographStore, StoreWriter
from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.methods import METHODS
from scxr.optimisation import build_optimizer, learning_rate, precision_for
from scxr.pretrain import batch_rows, build_method, preset_settings, pretrain, total_steps
from scxr.runs import Run, read_tensors

SIZE, STEPS = 32, 6
TINY: dict[str, Any] = {"image_size": SIZE, "batch_size": 16, "steps": STEPS}
OWN: dict[str, dict[str, Any]] = {
    "moco": {"queue_size": 40, "projection": 16, "optimizer": "sgd", "variance_weight": 1.0},
    "barlow": {"projection": 32},
    "dino": {"prototypes": 32, "hidden": 32, "bottleneck": 16, "frozen_prototypes": 0.4},
    "spark": {"decoder_width": 32},
}
TERMS = {
    "moco": {"info_nce", "variance"},
    "barlow": {"invariance", "redundancy"},
    "dino": {"cross_entropy"},
    "spark": {"reconstruction"},
}
METHOD_NAMES = list(OWN)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums keep their order with one thread, in this process and in those it starts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_store(path: Path, n: int, *, value: int | None = None, width: int = SIZE) -> None:
    """Soft random pictures (or one grey value) that share nothing but their size."""
    rng = np.random.default_rng(11)
    coarse = rng.integers(0, 256, (n, 4, width // 8)).astype(np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)
    if value is not None:
        images = np.full_like(images, value)
    rows = [{"image": f"{i}.png", "patient": str(i)} for i in range(n)]
    with StoreWriter(path, SIZE, width, {"kind": "test"}) as writer:
        writer.add(images, rows)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RadiographStore:
    path = tmp_path_factory.mktemp("data") / "store"
    write_store(path, 64)
    return RadiographStore.open(path)


class UnpluggedError(OSError):
    """The disk is gone."""


class Unplugged(RadiographStore):
    """A store whose disk goes away after some batches."""

    batches_left: int = 0
    reason: type[BaseException] = UnpluggedError

    def batch(self, rows: Any) -> torch.Tensor:
        if self.batches_left == 0:
            raise self.reason("unplugged")
        self.batches_left -= 1
        return super().batch(rows)


def unplugged(store: RadiographStore, steps: int, reason: type[BaseException] = UnpluggedError):
    """The same store, readable for the monitor's sample and `steps` batches."""
    broken = Unplugged.open(store.path)
    broken.batches_left, broken.reason = 1 + steps, reason
    return broken


def train(method: str, data: RadiographStore, out: Path | None, **options) -> Run:
    settings = {**TINY, **OWN[method], **options.pop("settings", {})}
    options = {"device": "cpu", "precision": "32-true", "checkpoint_every": 4, **options}
    return pretrain(method, data, out, settings=settings, **options)


def interrupt(method: str, store: RadiographStore, out: Path, *, after: int, **options) -> None:
    with pytest.raises(UnpluggedError):
        train(method, unplugged(store, after), out, **options)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory) -> Callable[[str], Run]:
    """A run of each method that nothing disturbed, trained when it is first asked for."""
    made: dict[str, Run] = {}

    def get(method: str) -> Run:
        if method not in made:
            made[method] = train(method, store, tmp_path_factory.mktemp("runs") / method)
        return made[method]

    return get


@pytest.fixture(scope="module")
def stopped_once(store, tmp_path_factory) -> Path:
    """A BarlowTwins run that lost its disk after step 5; the state of step 4 was saved."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    interrupt("barlow", store, out, after=5)
    return out


@pytest.fixture
def stopped(stopped_once, tmp_path) -> Path:
    """A copy of `stopped_once` to do with as a test likes."""
    return Path(shutil.copytree(stopped_once, tmp_path / "stopped"))


def content(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file's time, length and place on the disk: equal where nobody wrote."""
    return {
        str(f.relative_to(folder)): (f.stat().st_mtime_ns, f.stat().st_size, f.stat().st_ino)
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


def log_rows(run: Run) -> list[dict[str, Any]]:
    """The log without the one number that depends on the clock."""
    rows = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def assert_same_run(run: Run, expected: Run) -> None:
    """Bit for bit: weights, log, snapshots, files."""
    assert sorted(content(run.path)) == sorted(content(expected.path))
    for name in ("method.safetensors", "encoder.safetensors"):
        (mine, _), (theirs, _) = (read_tensors(r.path / name) for r in (run, expected))
        different = [k for k in theirs if not torch.equal(mine[k], theirs[k])]
        assert mine.keys() == theirs.keys()
        assert different == []
    assert log_rows(run) == log_rows(expected)
    for a, b in zip(run.snapshots(), expected.snapshots(), strict=True):
        assert a.step == b.step
        assert all(torch.equal(a.tensors[k], b.tensors[k]) for k in b.tensors)


# --- what a run leaves -------------------------------------------------------------------------


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


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_collapse_is_measured_from_before_the_first_step_to_the_last(finished, method):
    log = finished(method).log("monitor")
    assert log["step"].tolist() == list(range(STEPS + 1))
    numbers = {"std", "std_normalised", "mean_cosine", "effective_rank", "rankme"}
    assert numbers <= set(log.columns)
    assert np.isfinite(log[sorted(numbers)].to_numpy(float)).all()
    assert {len(s) for s in log["spectrum"]} == {64}  # 64 images, 512 dimensions
    assert {len(s) for s in log["spectrum_uncentred"]} == {64}


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


# --- reuse -------------------------------------------------------------------------------------


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


# --- interruptions -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dino", "spark"])
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
    leftovers = [f for f in out.iterdir() if f.name.startswith(".")]
    for file in leftovers:  # a kill cannot clean up after itself
        file.unlink()
    assert_same_run(Run.open(out), finished("moco"))


def test_control_c_says_how_to_go_on(store, stopped):
    with pytest.raises(InputError, match=r"Interrupted at step 5 of 6.*--resume"):
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


# --- a loss that is no number ------------------------------------------------------------------


DIVERGING = {"lr": 1e38, "warmup": 0.0, "clip": None, "variance_weight": 1e6}


def test_a_diverging_run_stops_and_saves_no_broken_state(store, tmp_path):
    # The first loss is finite, and the step it leads to overflows; nobody measures at step 1.
    settings = {**DIVERGING, "steps": 30}
    with pytest.raises(InputError, match=r"diverged at step 1: .*last good state; try a lower lr"):
        train("moco", store, tmp_path, settings=settings, checkpoint_every=1)
    assert not Run.open(tmp_path).finished
    assert not (tmp_path / "resume.safetensors").exists()


def test_weights_that_overflow_in_the_last_step_are_not_a_finished_run(store, tmp_path):
    with pytest.raises(InputError, match="diverged at step 1:"):
        train("moco", store, tmp_path, settings={**DIVERGING, "steps": 1})
    assert not Run.open(tmp_path).finished


# --- refusals ----------------------------------------------------------------------------------


def test_a_folder_of_another_run_is_refused_and_kept(finished, store, tmp_path):
    run = finished("barlow")
    before = content(run.path)
    with pytest.raises(InputError, match="holds a barlow run, not moco: choose another --out"):
        train("moco", store, run.path)
    with pytest.raises(InputError, match="with other settings, seed or data"):
        train("barlow", store, run.path, settings={"lr": 0.5})
    with pytest.raises(InputError, match="with other settings, seed or data"):
        train("barlow", store, run.path, seed=1)
    write_store(tmp_path / "store", 48)
    with pytest.raises(InputError, match="with other settings, seed or data"):
        train("barlow", RadiographStore.open(tmp_path / "store"), run.path)
    assert content(run.path) == before


def test_an_interrupted_run_of_another_method_is_refused_and_kept(store, stopped):
    before = content(stopped)
    with pytest.raises(InputError, match="holds a barlow run, not dino"):
        train("dino", store, stopped)
    assert content(stopped) == before


def test_a_folder_of_something_else_is_refused_and_kept(store, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists and is no run folder: choose another --out"):
        train("barlow", store, tmp_path)
    with pytest.raises(InputError, match="exists and is no run folder"):
        train("barlow", store, tmp_path / "thesis.tex")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')  # others use that name too
    with pytest.raises(InputError, match=r"config\.json"):
        train("barlow", store, tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"thesis.tex", "config.json"}


def test_an_empty_folder_is_a_place_like_any_other(store, tmp_path):
    assert train("barlow", store, tmp_path, settings={"steps": 1}).finished


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("moko", {}, "Unknown method 'moko': choose from moco, barlow, dino, spark"),
        ("moco", {"preset": "fast"}, "Unknown preset 'fast': choose from quick, full"),
        ("moco", {"settings": {"batch_size": 65, "queue_size": 65}}, "holds 64 images, fewer than"),
        ("moco", {"settings": {"queue_sise": 64}}, "did you mean 'queue_size'"),
        ("moco", {"settings": {"queue_size": 3}}, "queue_size 3 is smaller than batch_size 16"),
        ("moco", {"settings": {"backbone": "resnet19"}}, "Unknown backbone"),
        ("moco", {"settings": {"optimizer": "adam"}}, "Unknown optimizer 'adam'"),
        ("moco", {"settings": {"steps": "0"}}, "steps is 0"),
        ("spark", {"settings": {"patch_size": 7}}, "does not divide"),
        ("moco", {"device": "abacus"}, "abacus"),
        ("moco", {"precision": "64-untrue"}, "64-untrue"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing_behind(
    store, tmp_path, method, options, message
):
    settings = {**TINY, **OWN.get(method, {}), **options.pop("settings", {})}
    options = {"device": "cpu", "precision": "32-true", **options}
    with pytest.raises(InputError, match=message):
        pretrain(method, store, tmp_path / "run", settings=settings, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pictures", "message"), [({"width": 2 * SIZE}, "square"), ({"value": 0}, "one grey value")]
)
def test_pictures_that_cannot_be_learned_from_are_refused(tmp_path, pictures, message):
    write_store(tmp_path / "store", 16, **pictures)
    with pytest.raises(InputError, match=message):
        train("moco", RadiographStore.open(tmp_path / "store"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- parts of the loop -------------------------------------------------------------------------


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
    save_state(tmp_path / "state", method, optimizer, 7)
    again, restored = fresh()
    assert load_state(tmp_path / "state", again, restored) == 7
    for p, q in zip(method.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
        assert optimizer.state[p].keys() == restored.state[q].keys()
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, restored.state[q][key])
            assert layout(value) == layout(restored.state[q][key])
            assert not restored.state[q][key].requires_grad


def test_precision_is_taken_as_given_or_chosen_to_exist():
    assert precision_for("cpu", "64-true") == "64-true"
    assert precision_for("cpu") in ("32-true", "bf16-mixed")


@pytest.mark.parametrize("method", list(METHODS))
def test_the_same_seed_builds_the_same_method(store, method):
    settings = preset_settings(method, "quick", {**TINY, **OWN[method]})
    first, second, other = (build_method(method, settings, store, seed=s) for s in (0, 0, 1))
    states = [m.state_dict() for m in (first, second, other)]
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    assert any(not torch.equal(v, states[2][k]) for k, v in states[0].items())
