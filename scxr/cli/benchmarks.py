"""`scxr bench …`: measurements beside the usual way; nothing here is a test."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import arg

from scxr.cli.answers import Answer, Command, table


@dataclass
class Views(Command):
    """Views a second of our pipeline, of Pillow's, torchvision's, kornia's and lightly's."""

    size: tuple[int, ...] = (64, 224)
    """Heights and widths of the views, pixels."""
    store: Annotated[str | None, arg(metavar="STORE|phantom")] = None
    """Where the images come from; phantoms of 128 and 256 pixels without it."""
    views: int = 2
    """Of each image."""
    seconds: float = 3.0
    """Time of one measurement."""
    repeats: int = 3
    """Measurements of each pipeline, in turns."""

    def __call__(self) -> Answer:
        import pandas as pd

        from scxr.benchmarks import data

        started = _load()
        rows = data.run(
            self.size, self.store, views=self.views, seconds=self.seconds, repeats=self.repeats
        )
        parts = [
            row
            for size in self.size
            for row in data.stages(size, data.images_for(size, self.store))
        ]
        answer = table(
            pd.DataFrame(rows),
            "",
            "Ours, stage by stage (microseconds of one core, a view):",
            pd.DataFrame(parts).to_string(index=False),
            "",
            f"Processes that wanted a core: {started} before, {_load()} after; "
            f"{os.cpu_count()} cores.",
        )
        return Answer({**answer.data, "stages": parts, "load_before": started}, answer.text)


@dataclass
class Steps(Command):
    """Training steps a second beside the series' way, lightly's parts and the limit."""

    method: Literal["barlow", "moco"] = "barlow"
    size: int = 64
    """Height and width of the views, pixels."""
    batch: int = 128
    """Images."""
    backbone: str = "resnet18"
    store: Annotated[str | None, arg(metavar="STORE|phantom")] = None
    """Where the images come from; phantoms without it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: str = "auto"
    """bf16-mixed, 16-mixed or 32-true; auto takes what the device computes in."""
    steps: int = 6
    """Steps of one measurement."""
    repeats: int = 3
    """Measurements of each way, in turns."""

    def __call__(self) -> Answer:
        import pandas as pd

        from scxr.benchmarks import steps

        started = _load()
        rows = steps.run(
            self.method,
            size=self.size,
            batch_size=self.batch,
            backbone=self.backbone,
            store=self.store,
            device=self.device,
            precision=self.precision,
            steps=self.steps,
            repeats=self.repeats,
        )
        answer = table(pd.DataFrame(rows), "", f"Load average before: {started}.")
        return Answer({**answer.data, "load_before": started}, answer.text)


@dataclass
class Imports(Command):
    """Images a second that are imported, beside a loop with Pillow, and what opening costs."""

    images: int = 12
    """Files of each kind, made for the measurement."""
    repeats: int = 3
    """Measurements of each, in turns."""
    workers: Annotated[int | None, arg(metavar="INT")] = None
    """Threads of the import; all cores without it."""
    folder: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Where the files go for the while; a temporary folder without it."""

    def __call__(self) -> Answer:
        import pandas as pd

        from scxr.benchmarks import imports

        rows = imports.run(self.images, self.repeats, self.workers, folder=self.folder)
        return table(pd.DataFrame(rows))


@dataclass
class Bench:
    """Measure speed beside the usual way: tables for people, never a test."""

    command: (
        Annotated[Views, tyro.conf.subcommand("data")]
        | Annotated[Imports, tyro.conf.subcommand("import")]
        | Annotated[Steps, tyro.conf.subcommand("step")]
    )


def _load() -> float | None:
    """The last minute's load average, where the system has one."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
