"""`scxr evaluate`, `explain`, `reconstruct` and `published`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from scxr.cli.answers import Answer, Command, facts, require_writable, save, table
from scxr.errors import InputError

# Help of more than one line: tyro would keep the breaks of a docstring.
INITS = (
    "Baselines beside the runs: random, random-calibrated, pixels, imagenet, rad-dino, xrv, "
    "timm:NAME; weights that are brought behind a =, as in xrv=FILE."
)
COMPARE = (
    "Add the paired differences to this init on the same images, with p-values after Holm; best: "
    "of the runs to the best baseline."
)
REPORT = (
    "Write one page to hand to a colleague: tables, curves, comparison, how many labels, Grad-CAM, "
    "settings and limits. Works without a network."
)
SCORES = (
    "Keep the score of every validation image, to redo tables and comparisons later. It has the "
    "patients' identifiers."
)
EXPLAINED_INITS = (
    "Baselines beside the runs: random, random-calibrated, imagenet (imagenet=FILE where it cannot "
    "be fetched); pixels and published encoders have no stages to look into."
)
STRUCTURES = (
    'Regions to score against, as in "own" heart; without it the finding\'s own. scxr data info '
    "lists the regions of a store."
)

FIGURES = (".png", ".svg", ".pdf")
FROZEN = ("pixels", "rad-dino", "xrv", "timm:")
"""Beginnings of the inits that cannot be fine-tuned."""


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
    inits: Annotated[tuple[str, ...], arg(help=INITS)] = ("random", "pixels")
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
    compare: Annotated[str | None, arg(metavar="INIT|best", help=COMPARE)] = None
    test: Literal["permutation", "delong", "bootstrap"] = "permutation"
    """How --compare gets its p-values."""
    out: Annotated[Path | None, arg(metavar="TABLE.csv|.parquet")] = None
    """Write the table there as well."""
    scores: Annotated[Path | None, arg(metavar="FILE.parquet|.csv", help=SCORES)] = None
    report: Annotated[Path | None, arg(metavar="PAGE.html", help=REPORT)] = None
    images: int = 3
    """Radiographs a finding in the report, at most 6; 0 leaves all pictures of patients out."""

    def __call__(self) -> Answer:
        for path in (self.out, self.scores):
            require_writable(path, ".csv", ".parquet")
        require_writable(self.report, ".html", ".htm")
        if self.out is not None and self.out == self.scores:
            raise InputError(f"--out and --scores are both {self.out}: name two files.")
        self._require_comparable()

        from scxr.data import open_data
        from scxr.evaluate import run_evaluation
        from scxr.evaluate.results import write_table

        evaluation = run_evaluation(
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
        results, lines, others = evaluation.results(), [], {}
        for frame, path in ((results, self.out), (evaluation.scores, self.scores)):
            if path is not None:
                write_table(frame, path)
        if self.compare is not None:
            baseline = None if self.compare == "best" else self.compare
            others["comparison"] = evaluation.comparison(baseline, test=self.test)
        if self.report is not None:
            from scxr.report import write_report

            write_report(evaluation, self.report, command=self.typed, images=self.images)
            lines.append(f"The report is {self.report}.")
        return table(results, *lines, **others)

    def _require_comparable(self) -> None:
        """Know before the computing that --compare names something to compare with."""
        baselines = [init.partition("=")[0] for init in self.inits]
        if self.mode == "finetune":
            baselines = [name for name in baselines if not name.startswith(FROZEN)]
        runs = [Path(os.path.abspath(run)).name for run in self.runs]  # noqa: PTH100  (as Run.name)
        inits = [*runs, *baselines]
        named = self.compare not in (None, "best")
        if named and self.compare not in inits:
            raise InputError(
                f"--compare {self.compare}: there is no such init; choose best, {', '.join(inits)}."
            )
        if self.compare == "best" and not baselines:
            raise InputError(
                f"--compare best needs a baseline to {self.mode}: add one, as in --inits random."
            )


@dataclass
class Explain(Command):
    """Grad-CAM of runs and baselines, with localisation scores: of one finding, or of all."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")]
    data: Annotated[str, arg(metavar="STORE|phantom:B")]
    """A store with labels; scores need masks or boxes too."""
    out: Annotated[Path, arg(metavar="FIGURE")]
    """Picture to write (.png, .svg or .pdf)."""
    finding: str | None = None
    """For example "hiatal hernia"; without it scores of all findings that have regions."""
    structures: Annotated[tuple[str, ...], arg(metavar="REGION", help=STRUCTURES)] = ()
    inits: Annotated[tuple[str, ...], arg(help=EXPLAINED_INITS)] = ("random",)
    mode: Literal["probe", "finetune"] = "probe"
    """Which head to explain: as in scxr evaluate."""
    min_train: int = 15
    """Without --finding: findings need this many positives to train on..."""
    min_val: int = 6
    """...and this many held out."""
    images: int = 3
    """How many images of one finding to draw."""
    shots: int = 50
    """Labelled images a class behind the head that is explained."""
    stage: Literal["layer1", "layer2", "layer3", "layer4"] = "layer4"
    """Where in the network to look; early stages are finer."""
    method: Literal["centred", "grad-cam", "hires-cam", "layer-cam", "grad-cam++"] = "centred"
    """How channels are weighted; centred is Grad-CAM less its mean, the same at layer4."""
    negatives: Literal["No Finding", "other"] = "No Finding"
    """What a finding is told from: normal images, or images without any of the findings."""
    seed: int = 42

    def __call__(self) -> Answer:
        require_writable(self.out, *FIGURES)
        if self.finding is not None and len(self.structures) > 1:
            raise InputError(
                "One finding is drawn with one region: name one with --structures, or leave "
                "--finding out for a table."
            )

        from scxr.data import open_data
        from scxr.explain import explain, localise

        options: dict[str, Any] = {
            "baselines": self.inits,
            "mode": self.mode,
            "shots": self.shots,
            "stage": self.stage,
            "method": self.method,
            "negatives": self.negatives,
            "seed": self.seed,
        }
        store = open_data(self.data)
        if self.finding is None:
            regions = self.structures or None
            options |= {"min_train": self.min_train, "min_val": self.min_val}
            figure, frame = localise(self.runs, store, structures=regions, **options)
        else:
            region = self.structures[0] if self.structures else None
            figure, frame = explain(
                self.runs, store, self.finding, structure=region, images=self.images, **options
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
        require_writable(self.out, *FIGURES)

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
