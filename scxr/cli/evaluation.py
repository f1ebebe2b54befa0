"""`scxr evaluate`, `explain`, `reconstruct` and `published`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scxr.cli.answers import Answer, Command, facts, save, table


@dataclass
class Evaluate(Command):
    """Few-shot evaluation of runs beside baselines, with intervals over patients."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")]
    data: Annotated[str, arg(metavar="STORE|phantom:B")]
    """A store with labels, or "phantom:B"."""
    mode: Literal["probe", "finetune"] = "probe"
    """probe: logistic regression on frozen features; finetune: the network moves too."""
    findings: Annotated[tuple[str, ...], arg(metavar="FINDING")] = ()
    """Which findings; without it all that have enough positives on both sides of the split."""
    shots: tuple[int, ...] = (1, 5, 10, 20, 50)
    """Labelled images a class."""
    trials: int = 10
    """Independent draws of the shots."""
    inits: tuple[str, ...] = ("random", "pixels")
    """Baselines beside the runs: random, imagenet, pixels."""
    imagenet_weights: Annotated[Path | None, arg(metavar="FILE")] = None
    """torchvision's state dict, where it cannot be fetched."""
    min_train: int = 15
    """Findings need this many positives to train on..."""
    min_val: int = 6
    """...and this many to validate on."""
    negatives: Literal["No Finding", "other"] = "No Finding"
    """What a finding is told from: normal images, or images without any of the findings."""
    setting: Literal["sound", "series"] = "sound"
    """series repeats the published protocol, slips included."""
    seed: int = 42
    out: Annotated[Path | None, arg(metavar="TABLE.csv")] = None
    """Write the table there as well."""

    def __call__(self) -> Answer:
        from scxr.data import open_data
        from scxr.evaluate import evaluate

        frame = evaluate(
            self.runs,
            open_data(self.data),
            mode=self.mode,
            findings=self.findings,
            shots=self.shots,
            trials=self.trials,
            baselines=self.inits,
            imagenet_weights=self.imagenet_weights,
            min_train=self.min_train,
            min_val=self.min_val,
            negatives=self.negatives,
            setting=self.setting,
            seed=self.seed,
        )
        if self.out is not None:
            frame.to_csv(self.out, index=False)
        return table(frame)


@dataclass
class Explain(Command):
    """Grad-CAM of runs and baselines on images with a finding, with localisation scores."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")]
    data: Annotated[str, arg(metavar="STORE|phantom:B")]
    """A store with labels; scores need masks or boxes too."""
    finding: str
    """For example "hiatal hernia"."""
    out: Annotated[Path, arg(metavar="FIGURE")]
    """Picture to write (.png, .svg or .pdf)."""
    inits: tuple[str, ...] = ("random",)
    """Baselines beside the runs: random, imagenet."""
    images: int = 3
    """How many images to draw."""
    shots: int = 50
    """Labelled images a class behind the probe that is explained."""
    stage: Literal["layer1", "layer2", "layer3", "layer4"] = "layer4"
    """Where in the network to look; early stages are finer."""
    seed: int = 42

    def __call__(self) -> Answer:
        from scxr.data import open_data
        from scxr.explain import explain

        figure, frame = explain(
            self.runs,
            open_data(self.data),
            self.finding,
            baselines=self.inits,
            images=self.images,
            shots=self.shots,
            stage=self.stage,
            seed=self.seed,
        )
        save(figure, self.out)
        return table(frame, f"The figure is {self.out}.")


@dataclass
class Reconstruct(Command):
    """What a SparK run paints into masked patches."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    data: Annotated[str, arg(metavar="STORE|phantom")]
    """Where the images come from."""
    out: Annotated[Path, arg(metavar="FIGURE")]
    """Picture to write (.png, .svg or .pdf)."""
    images: int = 4
    """How many images to draw."""
    seed: int = 0
    """Of the images and their masks."""

    def __call__(self) -> Answer:
        from scxr.data import open_data
        from scxr.explain import reconstruction_figure

        figure, scores = reconstruction_figure(
            self.run, open_data(self.data), images=self.images, seed=self.seed
        )
        save(figure, self.out)
        return facts({"figure": str(self.out), **scores})


@dataclass
class Published(Command):
    """The published results of the series, with their sources."""

    def __call__(self) -> Answer:
        from scxr import published

        return Answer(published.as_dict(), published.summary())
