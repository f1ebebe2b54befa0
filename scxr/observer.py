"""Looks at a run while it is trained: how far the features collapse, what the network paints.

A look costs a pass of `IMAGES` pictures without gradients, where training computes in bfloat16 in
bfloat16 too: about a quarter of a training step of two views. Features too much alike for that are
computed again in single precision. A long run is looked at `POINTS` times, one of minutes every
`CLOSEST` steps, a shorter one `FEWEST` times, or there would be no curve to see. In CPU time of one
core that is 1.6 per cent of MoCo's quick preset, 1.5 of BarlowTwins' and VICReg's, 1.2 of DINO's
and, as its steps are short and its features alike, 4.7 of SparK's. Small batches and runs of a few
dozen steps pay more. The rows of kind "monitor" tell for any run, here one with batches of 128 and
every step logged:

    run = Run.open("runs/moco")
    run.log("monitor")["seconds"].sum() / (128 / run.log()["images_per_second"]).sum()
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from scxr import runs
from scxr.checkpoint import TrainingLog, saved_step
from scxr.collapse import Monitor
from scxr.data.store import RadiographStore
from scxr.distributed import from_first
from scxr.encoders import resize
from scxr.errors import InputError
from scxr.methods import Method
from scxr.seeds import generator

IMAGES = 256
POINTS = 100  # at most so many looks at a long run
CLOSEST = 20  # steps between two looks at a run of minutes
FEWEST = 6  # looks at the shortest, after the one at its start
SNAPSHOT_IMAGES = 8


class Observer:
    """Measures collapse, keeps snapshots, and tells a method that asks for it its features' rank.

    Args:
        data: `IMAGES` of its pictures, drawn from the seed, are looked at each time.
        log: gets a row of kind "monitor" a look.
        folder: the run's; snapshots go below it.
        steps: of the whole run.
        half: look in bfloat16, as `scxr.collapse.Monitor` does it.
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
        *,
        half: bool = False,
    ) -> None:
        self.method, self.log, self.folder, self.steps = method, log, folder, steps
        self.epoch_length = len(data) // method.settings.batch_size
        self.interval = max(math.ceil(steps / POINTS), min(CLOSEST, math.ceil(steps / FEWEST)))
        order = torch.randperm(len(data), generator=generator(seed, "monitor"))
        rows = order[:IMAGES].sort().values
        sample = data.batch(rows).to(device).float() / 255
        sample = resize(sample, method.settings.image_size)
        self.monitor = Monitor(sample, half=half)
        self.pictures = sample[:SNAPSHOT_IMAGES]

    def epoch(self, step: int) -> float:
        """Passes over the store after `step` steps."""
        return step / self.epoch_length

    def control(self, step: int) -> None:
        """Tell the method its features' rank, if it wants to know after `step` steps."""
        every = self.method.control_every
        if every is not None and step % every == 0:
            # Batch norm's statistics differ between processes, the weight they share must not.
            with self._where(step):
                rank = self.monitor.rank(self.method.encoder)
            self.method.hold_rank(from_first(rank))

    def __call__(self, step: int) -> None:
        """Look, if a look is due after `step` steps."""
        due = step % self.interval == 0 or step == self.steps
        if not due or step in self.log.observed:
            return
        started, epoch = time.perf_counter(), self.epoch(step)
        with self._where(step):
            row = self.monitor(self.method.encoder)
        kept = self.method.snapshot(self.pictures)
        if kept:
            file = self.folder / "snapshots" / f"step_{step:07d}.safetensors"
            runs.write_tensors(file, kept, {"step": str(step), "epoch": f"{epoch:.4f}"})
        seconds = round(time.perf_counter() - started, 4)
        self.log.write("monitor", step, epoch, {**row, "seconds": seconds})

    @contextmanager
    def _where(self, step: int) -> Iterator[None]:
        """Features that are no numbers are a run that diverged, here."""
        try:
            yield
        except InputError as error:
            raise diverged(step, self.folder / "resume.safetensors") from error


def diverged(step: int, state: Path) -> InputError:
    """What to say when numbers are no longer finite after `step` steps.

    Args:
        state: where the run keeps its last good state, if it has saved one.
    """
    kept = "nothing had been saved before"
    if state.is_file():
        kept = f"{state.parent} keeps the last good state, of step {saved_step(state)}"
    return InputError(
        f"Training diverged at step {step}: {kept}; try a lower lr, a longer warmup or precision "
        f"32-true."
    )
