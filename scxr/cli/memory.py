"""`scxr memory`: what a training step keeps, and which batch a card can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scxr.cli.answers import Answer, Command, pairs


@dataclass
class Memory(Command):
    """Count the memory of a training step, without a GPU. GB is 10^9 bytes."""

    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """moco, barlow, dino, spark or another method's name."""
    backbone: str | None = None
    """resnet18, resnet34, resnet50, vit_tiny or vit_small; the preset's, if not given."""
    batch: int | None = None
    """Images in a step; the preset's, if not given."""
    size: int | None = None
    """Height and width of the views, pixels; the preset's, if not given."""
    precision: str = "bf16-mixed"
    """bf16 (bf16-mixed), fp16 (16-mixed) or fp32 (32-true)."""
    checkpointing: Literal["off", "on"] = "off"
    """Compute the encoder's inner maps again in the backward pass instead of keeping them."""
    quick: bool = False
    """Start from the quick preset instead of the full one."""
    set: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE")] = ()
    """Change settings of the preset, for example optimizer=sgd local_crops=8."""

    def __call__(self) -> Answer:
        from scxr.memory import count

        counted = count(
            self.method,
            backbone=self.backbone,
            batch=self.batch,
            size=self.size,
            precision=self.precision,
            checkpointing=self.checkpointing == "on",
            preset="quick" if self.quick else "full",
            settings=pairs(self.set),
        )
        told = counted.to_dict()
        lines = [
            f"{counted.method}, {counted.backbone}, {counted.views} x {counted.batch_size} images "
            f"of {counted.image_size} px, {counted.precision}, checkpointing {self.checkpointing}",
            "",
            *(
                f"{f'{row.part} {row.stage}'.strip():<20}{row.gigabytes:>9.3f} GB"
                for row in counted.to_frame().itertuples()
            ),
            f"{'total':<20}{counted.total_bytes / 1e9:>9.3f} GB",
            "",
            "Largest batch for a card of ...",
            "   ".join(f"{card} GB: {batch or 'none'}" for card, batch in told["fits"].items()),
            "GB is 10^9 bytes. An L4 is sold with 24 GB and shows 22 GiB: count it as 22.",
        ]
        return Answer(told, "\n".join(lines))
