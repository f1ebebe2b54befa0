"""The one training loop: any method, any store, any preset; quick on a laptop, full on a GPU.

All randomness of step s comes from streams named after (seed, s), and everything else that a step
depends on is saved. A killed run that goes on therefore reaches, on the CPU, the very weights of
one that was never disturbed.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from scxr import __version__, runs
from scxr.cache import cache_folder
from scxr.checkpoint import TrainingLog, load_state, save_state
from scxr.collapse import Monitor
from scxr.data.store import RadiographStore
from scxr.encoders import build_encoder, resize
from scxr.errors import InputError
from scxr.methods import METHODS, Method, Settings
from scxr.methods.settings import to_dict, with_changes
from scxr.optimisation import build_fabric, build_optimizer, learning_rate
from scxr.progress import progress_bar
from scxr.runs import Run
from scxr.seeds import generator, seed_for

LOGGED_STEPS = 500  # a run's log has about this many training rows at most
MONITOR_IMAGES = 512
MONITOR_POINTS = 12
SNAPSHOT_IMAGES = 8


def pretrain(
    method: str,
    data: RadiographStore,
    out: str | Path | None = None,
    *,
    preset: str = "quick",
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    resume: bool = True,
    device: str = "auto",
    precision: str = "auto",
    checkpoint_every: int = 200,
) -> Run:
    """Pretrain an encoder on unlabelled radiographs and leave a run folder.

    A folder that already holds this very run is opened instead of trained again; one that holds
    it interrupted is finished.

    Args:
        method: a name in `scxr.methods.METHODS`.
        data: the pictures; their labels are not looked at.
        out: the run folder; None puts it into the cache under a name made from its content.
        preset: "quick" or "full".
        settings: what differs from the preset, see `scxr.methods.settings.with_changes`.
        seed: of weights, order and views.
        resume: finish an interrupted run; if False, meeting one is an error.
        device: "auto", "cpu" or "cuda".
        precision: "auto", or one of Fabric's, for example "bf16-mixed" or "32-true".
        checkpoint_every: steps between saved states.

    Raises:
        InputError: unknown names, a store that is too small, a folder that holds something else,
            an interruption, a loss that is no longer finite.
    """
    chosen = preset_settings(method, preset, settings or {})
    steps = total_steps(chosen, data)
    config = _describe(method, preset, chosen, seed, data)
    folder = Path(out) if out is not None else cache_folder() / "runs" / _key(config)
    ready = _existing(folder, config, resume)
    if ready is not None:
        return ready
    # All that can be refused is refused before the folder is touched.
    fabric = build_fabric(device, precision)
    network = build_method(method, chosen, data, seed)
    optimizer = build_optimizer(network, chosen)
    runs.write_json(folder / "config.json", config)
    _train(fabric, network, optimizer, data, folder, steps, seed, checkpoint_every)
    return Run.open(folder)


def preset_settings(method: str, preset: str, changes: dict[str, Any]) -> Settings:
    """The settings of a method's preset, with `changes` applied."""
    if method not in METHODS:
        raise InputError(f"Unknown method {method!r}: choose from {', '.join(METHODS)}.")
    presets = METHODS[method].presets
    if preset not in presets:
        raise InputError(f"Unknown preset {preset!r}: choose from {', '.join(presets)}.")
    return with_changes(presets[preset], changes)


def total_steps(settings: Settings, data: RadiographStore) -> int:
    """Optimiser steps of a run; a last batch that is not full is left out of an epoch."""
    _, height, width = data.shape
    if height != width:
        raise InputError(
            f"{data.path} holds pictures of {height} x {width} pixels, but views are cut from "
            f"square ones: import them again as squares."
        )
    if data.std == 0:
        raise InputError(
            f"{data.path} holds nothing but one grey value: there is nothing to learn."
        )
    if len(data) < settings.batch_size:
        raise InputError(
            f"{data.path} holds {len(data)} images, fewer than one batch of "
            f"{settings.batch_size}: set a smaller batch_size."
        )
    if settings.steps is not None:
        return settings.steps
    return (settings.epochs or 1) * (len(data) // settings.batch_size)


def build_method(method: str, settings: Settings, data: RadiographStore, seed: int) -> Method:
    """The method's networks, freshly initialised, normalising with the statistics of `data`."""
    encoder = build_encoder(
        settings.backbone,
        image_size=settings.image_size,
        mean=data.mean,
        std=data.std,
        stem=settings.stem,
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "heads"))
        return METHODS[method](encoder, settings)


def _train(
    fabric: Fabric,
    method: Method,
    optimizer: Optimizer,
    data: RadiographStore,
    folder: Path,
    steps: int,
    seed: int,
    checkpoint_every: int,
) -> None:
    settings, state_file = method.settings, folder / "resume.safetensors"
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model, optimizer = fabric.setup(method, optimizer)
    done = load_state(state_file, method, optimizer)
    log_every, speed = max(1, steps // LOGGED_STEPS), _Speed(done)
    bar = progress_bar(total=steps, initial=done, desc=method.title, unit="step")
    with TrainingLog(folder / "log.jsonl", done) as log, bar:
        observe = _Observer(method, data, log, folder, steps, seed, fabric.device)
        observe(done)
        try:
            while done < steps:
                rate = learning_rate(done, steps, settings.lr, settings.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                method.progress = done / steps
                rows = batch_rows(len(data), settings.batch_size, done, seed)
                images = data.batch(rows).to(fabric.device, non_blocking=True).float() / 255
                terms = model(method.views(images, generator(seed, "views", done)))
                loss = torch.stack(list(terms.values())).sum()
                fabric.backward(loss)
                if settings.clip is not None:
                    fabric.clip_gradients(
                        model, optimizer, max_norm=settings.clip, error_if_nonfinite=False
                    )
                optimizer.step()
                optimizer.zero_grad()
                method.after_step()
                done += 1
                bar.update()
                if done % log_every == 0 or done == steps:
                    row = _numbers({"loss": loss, **terms, **method.metrics})
                    _require_finite(row["loss"], done, folder)
                    row |= {"lr": rate, "images_per_second": speed(done) * len(images)}
                    log.write("train", done, observe.epoch(done), row)
                    bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                if done % checkpoint_every == 0 or done == steps:
                    _require_finite(_checksum(method), done, folder)
                observe(done)
                if done % checkpoint_every == 0 and done < steps:
                    save_state(state_file, method, optimizer, done)
        except KeyboardInterrupt:
            raise InputError(
                f"Interrupted at step {done} of {steps}: run the same command with --resume to go "
                f"on from the last saved state."
            ) from None
    runs.write_tensors(folder / "method.safetensors", method.state_dict())
    runs.write_encoder(folder / "encoder.safetensors", method.encoder)
    state_file.unlink(missing_ok=True)


def batch_rows(n: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Rows of one step's batch: a fresh permutation every epoch, an incomplete last batch dropped.

    Args:
        n: images in the store.
        step: steps done before this one.

    Returns:
        (batch_size,), sorted, so that a memory-mapped store is read in one sweep.
    """
    epoch, position = divmod(step, n // batch_size)
    order = torch.randperm(n, generator=generator(seed, "order", epoch))
    return order[position * batch_size : (position + 1) * batch_size].sort().values


class _Observer:
    """Measures collapse and keeps snapshots at about `MONITOR_POINTS` moments of a run."""

    def __init__(
        self,
        method: Method,
        data: RadiographStore,
        log: TrainingLog,
        folder: Path,
        steps: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.method, self.log, self.folder, self.steps = method, log, folder, steps
        self.epoch_length = len(data) // method.settings.batch_size
        self.interval = math.ceil(steps / MONITOR_POINTS)
        order = torch.randperm(len(data), generator=generator(seed, "monitor"))
        rows = order[:MONITOR_IMAGES].sort().values
        sample = data.batch(rows).to(device).float() / 255
        sample = resize(sample, method.settings.image_size)
        self.monitor, self.pictures = Monitor(sample), sample[:SNAPSHOT_IMAGES]

    def epoch(self, step: int) -> float:
        return step / self.epoch_length

    def __call__(self, step: int) -> None:
        due = step % self.interval == 0 or step == self.steps
        if not due or step in self.log.observed:
            return
        epoch = self.epoch(step)
        self.log.write("monitor", step, epoch, self.monitor(self.method.encoder))
        kept = self.method.snapshot(self.pictures)
        if kept:
            file = self.folder / "snapshots" / f"step_{step:07d}.safetensors"
            runs.write_tensors(file, kept, {"step": str(step), "epoch": f"{epoch:.4f}"})


class _Speed:
    """Steps per second since it was last asked."""

    def __init__(self, step: int) -> None:
        self.step, self.clock = step, time.perf_counter()

    def __call__(self, step: int) -> float:
        now = time.perf_counter()
        speed = (step - self.step) / max(now - self.clock, 1e-9)
        self.step, self.clock = step, now
        return round(speed, 3)


def _numbers(tensors: dict[str, Tensor]) -> dict[str, float]:
    return {key: float(f"{value.detach().item():.6g}") for key, value in tensors.items()}


@torch.no_grad()
def _checksum(method: Method) -> float:
    """A number that is finite only if all weights are; a finite loss can leave infinite ones."""
    return float(torch.stack([p.sum() for p in method.parameters()]).sum())


def _require_finite(number: float, step: int, folder: Path) -> None:
    if not math.isfinite(number):
        raise InputError(
            f"Training diverged at step {step}: {folder} keeps the last good state; try a lower "
            f"lr, a longer warmup or precision 32-true."
        )


def _describe(
    method: str, preset: str, settings: Settings, seed: int, data: RadiographStore
) -> dict[str, Any]:
    return {
        "format": runs.FORMAT,
        "method": method,
        "preset": preset,
        "settings": to_dict(settings),
        "seed": seed,
        "data": {
            "fingerprint": data.fingerprint,
            "images": len(data),
            "mean": data.mean,
            "std": data.std,
        },
        "version": __version__,
        "environment": runs.environment(),
    }


def _content(config: dict[str, Any]) -> str:
    """What makes two runs the same run; the machine and the preset's name do not."""
    parts = {k: config.get(k) for k in ("method", "settings", "seed", "data", "version")}
    return json.dumps(parts, sort_keys=True)


def _key(config: dict[str, Any]) -> str:
    return f"{config['method']}-{hashlib.sha256(_content(config).encode()).hexdigest()[:12]}"


def _existing(folder: Path, config: dict[str, Any], resume: bool) -> Run | None:
    """The finished run in `folder` if it is this very one; None when there is work to do."""
    if not (folder / "config.json").exists():
        if folder.exists() and (not folder.is_dir() or any(map(_is_foreign, folder.iterdir()))):
            raise InputError(f"{folder} exists and is no run folder: choose another --out.")
        return None
    run = Run.open(folder)
    if run.method != config["method"]:
        raise InputError(
            f"{folder} holds a {run.method} run, not {config['method']}: choose another --out."
        )
    if _content(run.config) != _content(json.loads(json.dumps(config))):
        raise InputError(
            f"{folder} holds a {run.method} run with other settings, seed or data: choose another "
            f"--out."
        )
    if run.finished:
        return run
    if not resume:
        raise InputError(
            f"{folder} holds an interrupted run: add --resume to finish it, or choose another "
            f"--out."
        )
    return None


def _is_foreign(file: Path) -> bool:
    """Whether a file is more than the unfinished config.json that a kill leaves behind."""
    return not file.name.startswith(".config.json.")
