"""`scxr pretrain`, `scxr collapse` and `scxr export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scxr.cli.answers import Answer, Command, facts, pairs, table
from scxr.errors import InputError


@dataclass
class Pretrain(Command):
    """Pretrain an encoder on unlabelled radiographs."""

    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """moco, barlow, vicreg, dino or spark."""
    data: Annotated[str, arg(metavar="STORE|phantom")]
    """A store's folder, or "phantom" for the embedded radiographs."""
    out: Annotated[Path, arg(metavar="RUN")]
    """Folder to write."""
    quick: bool = False
    """The quick preset: about a minute on two CPU cores (the default)."""
    full: bool = False
    """The full preset: the published recipe, 224 px, for a GPU."""
    paper: bool = False
    """The method's own paper, where the series differs from it: moco, dino and spark."""
    resume: bool = False
    """Finish a run that was interrupted."""
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: str = "auto"
    """bf16-mixed, 16-mixed or 32-true; auto takes what the device computes in."""
    compile: bool = False
    """Let torch.compile translate the method first: minutes, repaid by long runs on a GPU."""
    control: Annotated[Literal["rank"] | None, arg(metavar="rank")] = None
    """moco and vicreg: let the features' measured rank set the weight of the variance and
    covariance terms; --set target_rank=32 names the rank to hold."""
    set: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE")] = ()
    """Change settings of the preset, for example steps=100 augmentation.crop_scale=0.2,1."""

    def __call__(self) -> Answer:
        from scxr.data import open_data
        from scxr.pretrain import pretrain

        chosen = [name for name in ("quick", "full", "paper") if getattr(self, name)]
        if len(chosen) > 1:
            raise InputError(f"Choose one of --{' and --'.join(chosen)}, not both.")
        changes = pairs(self.set)
        if self.control is not None:
            changes["control"] = self.control
        run = pretrain(
            self.method,
            open_data(self.data),
            self.out,
            preset=chosen[0] if chosen else "quick",
            settings=changes,
            seed=self.seed,
            resume=self.resume,
            device=self.device,
            precision=self.precision,
            compiled=self.compile,
        )
        return facts(run.summary())


@dataclass
class Collapse(Command):
    """Print the collapse monitor of runs: spread, cosine and rank over training."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")]

    def __call__(self) -> Answer:
        import pandas as pd

        from scxr.runs import Run

        logs = [Run.open(p).log("monitor").assign(run=p.name) for p in self.runs]
        frame = pd.concat(logs) if logs else pd.DataFrame()
        if frame.empty:
            raise InputError("There is nothing to show: name at least one run that was trained.")
        shown = ["run", "step", "epoch", "std", "std_normalised", "mean_cosine"]
        return table(frame[[*shown, "effective_rank", "rankme"]])


@dataclass
class Export(Command):
    """Write a run's encoder as torchvision's state dict, for code that knows nothing of scxr."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    out: Annotated[Path, arg(metavar="FILE")]
    """File to write, .safetensors."""

    def __call__(self) -> Answer:
        from scxr.export import export
        from scxr.runs import Run

        return facts(export(Run.open(self.run), self.out))
