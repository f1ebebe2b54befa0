"""Looks at a run while it is trained: how far the features collapse, what the network paints.

A look costs a pass of `IMAGES` pictures without gradients, in single precision, since the features
of a collapsed network differ by less than half precision can tell: on a CPU about half a training
step of two views. A long run is looked at `POINTS` times, less than 2 per cent of it from 3,000
steps on. A run of a minute is looked at a dozen times all the same, or there would be no curve to
see: 5 to 7 per cent of the quick presets of MoCo, BarlowTwins and VICReg. The rows of kind
"monitor" tell for any run, here one with batches of 128 and every step logged:

    run = Run.open("runs/moco")
    run.log("monitor")["seconds"].sum() / (128 / run.log()["images_per_second"]).sum()
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch

from scxr import runs
from scxr.checkpoint import TrainingLog
from scxr.collapse import Monitor
from scxr.data.store import RadiographStore
from scxr.distributed import from_first
from scxr.encoders import resize
from scxr.methods import Method
from scxr.seeds import generator

IMAGES = 256
POINTS = 100  # at most so many looks at a long run
CLOSEST = 15  # steps between two looks at a run of a minute
SNAPSHOT_IMAGES = 8


class Observer:
    """Measures collapse, keeps snapshots, and tells a method that asks for it its features' rank.

    Args:
        data: `IMAGES` of its pictures, drawn from the seed, are looked at each time.
        log: gets a row of kind "monitor" a look.
        folder: the run's; snapshots go below it.
        steps: of the whole run.
    """

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
        self.interval = max(math.ceil(steps / POINTS), min(CLOSEST, math.ceil(steps / 12)))
        order = torch.randperm(len(data), generator=generator(seed, "monitor"))
        rows = order[:IMAGES].sort().values
        sample = data.batch(rows).to(device).float() / 255
        sample = resize(sample, method.settings.image_size)
        self.monitor, self.pictures = Monitor(sample), sample[:SNAPSHOT_IMAGES]

    def epoch(self, step: int) -> float:
        """Passes over the store after `step` steps."""
        return step / self.epoch_length

    def control(self, step: int) -> None:
        """Tell the method its features' rank, if it wants to know after `step` steps."""
        every = self.method.control_every
        if every is not None and step % every == 0:
            # Batch norm's statistics differ between processes, the weight they share must not.
            self.method.hold_rank(from_first(self.monitor.rank(self.method.encoder)))

    def __call__(self, step: int) -> None:
        """Look, if a look is due after `step` steps."""
        due = step % self.interval == 0 or step == self.steps
        if not due or step in self.log.observed:
            return
        started, epoch = time.perf_counter(), self.epoch(step)
        row = self.monitor(self.method.encoder)
        kept = self.method.snapshot(self.pictures)
        if kept:
            file = self.folder / "snapshots" / f"step_{step:07d}.safetensors"
            runs.write_tensors(file, kept, {"step": str(step), "epoch": f"{epoch:.4f}"})
        seconds = round(time.perf_counter() - started, 4)
        self.log.write("monitor", step, epoch, {**row, "seconds": seconds})
