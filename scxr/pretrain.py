"""The one training loop: any method, any store, any preset; quick on a laptop, full on a GPU.

All randomness of step s comes from streams named after (seed, s), and everything else that a step
depends on is saved. A killed run that goes on therefore reaches, on the CPU, the very weights of
one that was never disturbed.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer

from scxr import identity, runs
from scxr.cache import cache_folder
from scxr.checkpoint import TrainingLog, load_state, save_state
from scxr.data.batches import Batches
from scxr.data.store import RadiographStore
from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.memory import advice
from scxr.methods import METHODS, Method, Settings, preset_settings
from scxr.methods.settings import to_dict
from scxr.observer import Observer, diverged
from scxr.optimisation import (
    build_fabric,
    build_optimizer,
    device_memory,
    precision_for,
    schedule,
)
from scxr.progress import progress_bar
from scxr.runs import Run
from scxr.seeds import generator, seed_for

LOGGED_STEPS = 500  # a run's log has about this many training rows at most


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
    compiled: bool = False,
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
        precision: "auto", "bf16-mixed", "16-mixed" (on a GPU) or "32-true".
        compiled: let torch.compile translate the method first: minutes, repaid by long runs.
        checkpoint_every: steps between saved states.

    Started by `torchrun`, every process computes its share of each batch; the first one writes.

    Raises:
        InputError: unknown names, a store that is too small, a folder that holds something else,
            an interruption, a loss that is no longer finite, too little memory.
    """
    chosen = preset_settings(method, preset, settings or {})
    steps = total_steps(chosen, data)
    fabric = build_fabric(device, precision, unused_parameters=METHODS[method].unused_parameters)
    if chosen.batch_size % fabric.world_size:
        raise InputError(
            f"A batch of {chosen.batch_size} cannot be shared by {fabric.world_size} processes: "
            f"set batch_size to a multiple."
        )
    config = identity.describe(method, preset, to_dict(chosen), seed, data)
    config["precision"] = precision_for(device, precision)
    folder = Path(out) if out is not None else cache_folder() / "runs" / identity.key(config)
    ready = identity.existing(folder, config, resume)
    if ready is not None:
        runs.remove_leftovers(folder)
        return ready
    # All that can be refused is refused before the folder is touched.
    network = build_method(method, chosen, data, seed)
    if fabric.world_size > 1 and fabric.device.type == "cuda" and network.synchronised_norm:
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    optimizer = build_optimizer(network, chosen)
    fabric.barrier()
    if fabric.is_global_zero:
        runs.remove_leftovers(folder)
        runs.write_json(folder / "config.json", config)
    try:
        _train(fabric, network, optimizer, data, folder, steps, seed, checkpoint_every, compiled)
    except KeyboardInterrupt:
        raise InputError(
            "Interrupted: run the same command with --resume to go on from the last saved state."
        ) from None
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        mine = replace(chosen, batch_size=chosen.batch_size // fabric.world_size)
        room = device_memory(fabric.device)
        told = advice(method, mine, precision=config["precision"], capacity_bytes=room)
        raise InputError(told) from error
    return Run.open(folder)


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
    batches = (settings.epochs or 1) * (len(data) // settings.batch_size)
    return max(1, batches // settings.accumulate)


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
    compiled: bool,
) -> None:
    settings, state_file = method.settings, folder / "resume.safetensors"
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained: Any = torch.compile(method) if compiled else method
    model, optimizer = fabric.setup(trained, optimizer)
    precision = fabric.strategy.precision
    done = load_state(state_file, method, optimizer, precision)
    fabric.barrier()
    log_every = max(1, steps // LOGGED_STEPS)
    batches = Batches(data, _rows_ahead(fabric, data, settings, done, steps, seed), fabric.device)
    with ExitStack() as stack:
        if not fabric.is_global_zero:
            # Other processes train along; what they would write goes where nobody reads it.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = stack.enter_context(TrainingLog(folder / "log.jsonl", done))
        quiet = {} if fabric.is_global_zero else {"disable": True}
        bar = progress_bar(total=steps, initial=done, desc=method.title, unit="step", **quiet)
        stack.enter_context(bar)
        stack.enter_context(batches)
        half = precision.precision == "bf16-mixed"
        observe = Observer(method, data, log, folder, steps, seed, fabric.device, half=half)
        observe(done)
        pace = _Pace(batches, settings.batch_size * settings.accumulate, done)
        while done < steps:
            rate = schedule(optimizer, settings, done, steps)
            method.progress = done / steps
            terms = _gradients(fabric, model, method, batches, done, seed)
            if settings.clip is not None:
                fabric.clip_gradients(
                    model, optimizer, max_norm=settings.clip, error_if_nonfinite=False
                )
            optimizer.step()
            optimizer.zero_grad()
            method.after_step()
            done += 1
            observe.control(done)
            bar.update()
            if done % log_every == 0 or done == steps:
                row = _numbers(fabric, terms | method.metrics)
                _require_finite(row["loss"], done, state_file)
                row |= {"lr": rate, **pace(done)}
                log.write("train", done, observe.epoch(done), row)
                bar.set_postfix(_shown(row, fabric), refresh=False)
            if done % checkpoint_every == 0 or done == steps:
                _require_finite(_checksum(method), done, state_file)
            observe(done)
            if done % checkpoint_every == 0 and done < steps:
                save_state(folder / state_file.name, method, optimizer, precision, done)
        runs.write_tensors(folder / "method.safetensors", method.state_dict())
        runs.write_encoder(folder / "encoder.safetensors", method.encoder)
        (folder / state_file.name).unlink(missing_ok=True)
    fabric.barrier()


def _gradients(
    fabric: Fabric, model: Any, method: Method, batches: Batches, step: int, seed: int
) -> dict[str, Tensor]:
    """Leave the gradient of one step, the mean over its batches; the loss and its terms."""
    parts = method.settings.accumulate
    total: dict[str, Tensor] = {}
    for part in range(parts):
        images = next(batches).float() / 255
        views = method.views(images, generator(seed, "views", step * parts + part))
        with fabric.no_backward_sync(model, enabled=part < parts - 1):
            terms = {name: term / parts for name, term in model(views).items()}
            loss = torch.stack(list(terms.values())).sum()
            fabric.backward(loss)
        for name, term in {"loss": loss, **terms}.items():
            total[name] = total.get(name, 0) + term.detach()
    return total


def _rows_ahead(
    fabric: Fabric, data: RadiographStore, settings: Settings, done: int, steps: int, seed: int
) -> Iterator[Tensor]:
    """This process's rows of every batch from step `done` on."""
    size, parts = settings.batch_size, settings.accumulate
    for batch in range(done * parts, steps * parts):
        yield batch_rows(len(data), size, batch, seed).chunk(fabric.world_size)[fabric.global_rank]


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


class _Pace:
    """Images a second, and the share of the time spent waiting for them, since last asked."""

    def __init__(self, batches: Batches, batch_size: int, step: int) -> None:
        self.batches, self.batch_size = batches, batch_size
        self.last = step, time.perf_counter(), batches.waited

    def __call__(self, step: int) -> dict[str, float]:
        then, self.last = self.last, (step, time.perf_counter(), self.batches.waited)
        steps, seconds, waited = (now - before for now, before in zip(self.last, then, strict=True))
        seconds = max(seconds, 1e-9)
        return {
            "images_per_second": round(steps * self.batch_size / seconds, 3),
            "waiting": round(waited / seconds, 4),
        }


def _numbers(fabric: Fabric, tensors: dict[str, Tensor]) -> dict[str, float]:
    """Means over the processes, as plain numbers."""
    names = list(tensors)
    values = torch.stack([tensors[name].detach().float() for name in names])
    means: Any = fabric.all_reduce(values, reduce_op="mean")
    return {n: float(f"{mean:.6g}") for n, mean in zip(names, means.tolist(), strict=True)}


def _shown(row: dict[str, float], fabric: Fabric) -> dict[str, str]:
    """What stands behind the progress bar."""
    shown = {"loss": f"{row['loss']:.3f}", "images/s": f"{row['images_per_second']:.0f}"}
    if fabric.device.type == "cuda":
        shown["memory"] = f"{torch.cuda.max_memory_allocated(fabric.device) / 1e9:.1f} GB"
    return shown


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@torch.no_grad()
def _checksum(method: Method) -> float:
    """A number that is finite only if all weights are; a finite loss can leave infinite ones."""
    return float(torch.stack([p.sum() for p in method.parameters()]).sum())


def _require_finite(number: float, step: int, state: Path) -> None:
    if not math.isfinite(number):
        raise diverged(step, state)
