"""The series' memory arithmetic beside a count of the same network.

The figures are those of part 3 of the SCARCE-CXR series, section 3.6 ("How to Reason About OOM"),
as printed: BarlowTwins at 224 px, batch 512, both views, float32.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pandas as pd
from torch import Tensor

from scxr.encoders import Encoder, recomputed
from scxr.memory.counting import count
from scxr.memory.step import fake_step
from scxr.methods.barlow import BarlowSettings, BarlowTwins

PRINTED = {"stem": 0.6, "layer1": 13.1, "layer2": 13.4, "layer3": 8.3, "layer4": 3.4}
"""GB of activations of a ResNet-50, as the series printed them."""
BATCH, VIEWS, SIZE, FLOAT = 512, 2, 224, 4


def series_table() -> pd.DataFrame:
    """The series' 38.8 GB taken apart, one row a stage and their sum; GB (10^9 bytes).

    Columns: `printed` (by the series); `convolution_inputs` (one tensor a convolution, by
    arithmetic: within a few per cent of what was printed); `counted` (what autograd keeps);
    `batch_norm_inputs` (the part of `counted` that batch norm keeps: every convolution's OUTPUT, a
    second tensor of about the same size, which the series left out).
    """
    counted = count("barlow", backbone="resnet50", batch=BATCH, size=SIZE, precision="32-true")
    kinds = counted.by_kind().loc[list(PRINTED)]
    table = pd.DataFrame(
        {
            "printed": PRINTED,
            "convolution_inputs": _convolution_inputs(),
            "batch_norm_inputs": kinds["BatchNorm2d"],
            "counted": kinds.sum(axis=1),
        }
    )
    table.loc["total"] = table.sum()
    return table


def _convolution_inputs() -> dict[str, float]:
    """GB of the tensors that enter the convolutions of a ResNet-50 on RGB pictures, by stage.

    A block's input also enters its shortcut; it is one tensor and counts once.
    """

    def gigabytes(values_an_image: int) -> float:
        return values_an_image * BATCH * VIEWS * FLOAT / 1e9

    sizes = {"stem": gigabytes(3 * SIZE**2)}
    widths, side = [64, 256, 512, 1024, 2048], SIZE // 4
    for stage, (blocks, (inputs, outputs)) in enumerate(
        zip((3, 4, 6, 3), pairwise(widths), strict=True), start=1
    ):
        inner, small = outputs // 4, side if stage == 1 else side // 2
        first = (inputs + inner) * side**2 + inner * small**2
        others = (blocks - 1) * (outputs + 2 * inner) * small**2
        sizes[f"layer{stage}"] = gigabytes(first + others)
        side = small
    return sizes


class _StagewiseEncoder(Encoder):
    """Checkpointed as in the series: stage by stage, the stem kept."""

    def stages(self, images: Tensor, *, normalised: bool = False) -> list[Tensor]:
        x = self.stem(images if normalised else self.normalise(images))
        maps = []
        for stage in self.residual_stages():
            x = recomputed(stage, x, owner=self)
            maps.append(x)
        return maps


class _SeriesBarlow(BarlowTwins):
    def __init__(self, encoder: Encoder, settings: BarlowSettings) -> None:
        super().__init__(_StagewiseEncoder(**encoder.config), settings)


def series_checkpointed() -> pd.DataFrame:
    """The series' 1.6 GB for a checkpointed ResNet-18 at batch 512; GB (10^9 bytes), float32.

    One row a part, columns `printed` and `counted`. Of the parts that the series left out, the stem
    is the largest that is kept (its checkpointing starts behind it), and a recomputed stage with
    its gradients the largest that comes and goes. The last stage's output need not be kept, the
    stem's must be.
    """
    settings = BarlowTwins.presets["full"]
    assert isinstance(settings, BarlowSettings)
    settings = replace(settings, backbone="resnet18", batch_size=BATCH, image_size=SIZE)
    step = fake_step(_SeriesBarlow, settings, "32-true")
    whole = step.activations
    stem = sum(n for (stage, kind), n in step.kept.items() if stage == "stem" and kind != "other")
    between = step.kept["stem", "other"]  # the stem's map enters the first checkpointed stage
    between += sum(n for (stage, _), n in step.kept.items() if stage.startswith("layer"))
    kept = {"between stages": between, "stem": stem, "head and loss": whole - between - stem}
    fixed = step.parameters + step.buffers + step.optimizer
    rows = {
        **kept,
        "optimiser state": step.optimizer,
        "parameters and buffers": step.parameters + step.buffers,
        "recomputation, gradients, inputs": step.peak - fixed - whole,
        "all at once": step.peak,
    }
    printed = {"between stages": 1.4, "optimiser state": 0.2, "all at once": 1.6}
    return pd.DataFrame(
        {"printed": printed, "counted": {part: size / 1e9 for part, size in rows.items()}}
    ).reindex(list(rows))
