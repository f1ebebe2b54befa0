"""How fine-tuning is done: two recipes, and what a quick run changes.

- `series`: what the SCARCE-CXR series ran, its defect included: brightness and contrast change
  AFTER the normalisation and are clamped to [0, 1], so every pixel below the mean turns into 0 in
  training and none does in evaluation. Every init is frozen alike, a random one too.
- `sound` (the default): augmentation comes before normalisation, as everywhere in scxr, and an
  init named "random" is trained from scratch in earnest: all stages, batch norm included.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scxr.augment import Augmentation
from scxr.errors import InputError

PARTS = ("stem", "layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How a trial is trained."""

    first: str = "layer2"
    """The first part that is trained, one of `PARTS`; what lies before it stays frozen."""
    batch_norm: str = "frozen"
    """"frozen": statistics and affine parameters stay; "trained": both move."""
    epochs: int = 100
    batch_size: int = 32
    """At most; a batch never holds more than the images there are."""
    lr: float = 1e-4
    """Of the encoder at the start, then cosine to 0. AdamW."""
    head_lr: float = 1e-3
    weight_decay: float = 0.01
    views: int | None = None
    """None: a fresh view of every image in every epoch. A number: that many views an image, drawn
    once, whose frozen features are computed once and reused."""
    jitter_after_normalising: bool = False
    """The series' defect, to be able to show what it costs."""
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            crop_scale=(0.08, 1.0),
            brightness=0.8,
            contrast=0.8,
            blur_sigma=(0.1, 2.0),
            blur_kernel=9,
            noise_std=0.0,
        )
    )

    def __post_init__(self) -> None:
        if self.first not in PARTS:
            raise InputError(f"Unknown part {self.first!r}: choose from {', '.join(PARTS)}.")
        if self.batch_norm not in ("frozen", "trained"):
            raise InputError(f"batch_norm is {self.batch_norm!r}: choose frozen or trained.")
        if self.epochs < 1 or self.batch_size < 2 or (self.views is not None and self.views < 1):
            raise InputError("Fine-tuning needs an epoch, a batch of 2 and a view at least.")


SETTINGS = {
    "sound": FinetuneSettings(),
    "series": FinetuneSettings(jitter_after_normalising=True),
}


def settings_for(init: str, *, setting: str = "sound", quick: bool = True) -> FinetuneSettings:
    """The settings an init gets, by its name.

    In `series` a name that begins with "spark" trains layers 3 and 4 alone; in `sound` one that
    begins with "random" trains everything.

    Args:
        init: name of the init; only its beginning is looked at.
        setting: "sound" or "series", see the module.
        quick: 20 epochs on 4 views an image, small crops left out: minutes on two cores.
    """
    if setting not in SETTINGS:
        raise InputError(f"Unknown setting {setting!r}: choose from {', '.join(SETTINGS)}.")
    chosen = SETTINGS[setting]
    if init.lower().startswith("spark") and setting == "series":
        chosen = replace(chosen, first="layer3")
    if init.lower().startswith("random") and setting == "sound":
        chosen = replace(chosen, first="stem", batch_norm="trained", lr=chosen.head_lr)
    if quick:
        milder = replace(chosen.augmentation, crop_scale=(0.4, 1.0))
        chosen = replace(chosen, epochs=20, views=4, augmentation=milder)
    return chosen
