"""Which augmentations a page can show without a kernel, and why each of them exists.

A crop (size and place) or one other change at a time, away from the untouched picture: that is
what a reader compares, and it keeps the number of pictures a sum instead of a product.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from scxr.augment import Augmentation, AugmentationParameters
from scxr.errors import InputError

Values = dict[str, float]
PLACES = (0.0, 0.5, 1.0)
CROP = ("area", "across", "down")


@dataclass(frozen=True)
class Control:
    """One slider: what it does, the physical reason, where it may stand."""

    key: str
    label: str
    reason: str
    recipe: str
    neutral: float
    stops: tuple[float, ...]
    """Positions that exist on paper, ascending, the neutral one among them."""
    live: tuple[float, float, float]
    """Smallest, largest and step with a kernel."""


def controls(settings: Augmentation) -> list[Control]:
    """The sliders for a method's augmentation, with stops inside what the method draws."""
    low, high = settings.crop_scale
    sigma = settings.blur_sigma[1] if settings.blur_p else 0.0
    flips = settings.flip > 0
    return [
        Control(
            "area",
            "Crop",
            "Collimation and body size differ, so the frame must not matter. But a small finding "
            "outside the crop is gone.",
            f"{_percent(low)} to {_percent(high)} of the picture",
            1.0,
            _ascending(np.geomspace(low, 1.0, 4)),
            (0.02, 1.0, 0.01),
        ),
        _place("across", "Crop, left to right"),
        _place("down", "Crop, top to bottom"),
        Control(
            "angle",
            "Rotation",
            "Patients do not stand straight.",
            f"up to {settings.rotation:g}° either way",
            0.0,
            _ascending(settings.rotation * np.linspace(-1, 1, 5)),
            (-45.0, 45.0, 1.0),
        ),
        Control(
            "flip",
            "Mirror",
            "No physics, only variety: the heart changes sides, and a finding loses its side.",
            f"{_percent(settings.flip)} of the views",
            0.0,
            (0.0, 1.0) if flips else (0.0,),
            (0.0, 1.0, 1.0),
        ),
        Control(
            "brightness",
            "Brightness",
            "Exposure: tube current and time.",
            _factor(settings.brightness),
            1.0,
            _around_one(settings.brightness),
            (0.2, 1.8, 0.02),
        ),
        Control(
            "contrast",
            "Contrast",
            "Tube voltage, scatter and the detector's curve.",
            _factor(settings.contrast),
            1.0,
            _around_one(settings.contrast),
            (0.2, 1.8, 0.02),
        ),
        Control(
            "sigma",
            "Blur",
            "Focal spot, motion and detector soften edges, and fine lines with them.",
            f"up to {sigma:g} px, {_percent(settings.blur_p)} of the views" if sigma else "none",
            0.0,
            _ascending(sigma * np.linspace(0, 1, 4)),
            (0.0, 4.0, 0.1),
        ),
        Control(
            "noise",
            "Noise",
            "Fewer photons, more quantum noise: faint findings drown first.",
            f"{_percent(settings.noise_std)} of the grey range",
            0.0,
            _ascending(settings.noise_std * np.array([0, 0.5, 1, 2])),
            (0.0, 0.3, 0.01),
        ),
    ]


def neutral(sliders: list[Control]) -> Values:
    """The untouched picture."""
    return {c.key: c.neutral for c in sliders}


def points(sliders: list[Control]) -> list[Values]:
    """Every position that exists on paper, the untouched picture first."""
    start = neutral(sliders)
    area = next(c for c in sliders if c.key == "area")
    crops = product((a for a in area.stops if a < 1), PLACES, PLACES)
    found = [start] + [start | dict(zip(CROP, crop, strict=True)) for crop in crops]
    for control in sliders:
        if control.key not in CROP:
            found += [start | {control.key: v} for v in control.stops if v != control.neutral]
    return found


def parameters(
    values: Values, settings: Augmentation, noise_seed: int = 0
) -> AugmentationParameters:
    """What `scxr.augment.apply` takes, for one image.

    Args:
        values: the sliders: area (share of the picture), across and down (where in its free play
            the crop lies, 0 to 1), angle (degrees), flip (0 or 1), brightness and contrast
            (factors), sigma (pixels of the view), noise (share of the grey range).

    Raises:
        InputError: a value is missing or outside what the sliders allow.
    """
    checked = {}
    for control in controls(settings):
        value = values.get(control.key)
        low, high = control.live[0], control.live[1]
        low, high = min(low, *control.stops), max(high, *control.stops)
        if not isinstance(value, int | float) or not low <= value <= high:
            raise InputError(f"{control.label} must lie between {low:g} and {high:g}: {value!r}.")
        checked[control.key] = float(value)
    side = math.sqrt(checked.pop("area"))
    across, down = checked.pop("across"), checked.pop("down")
    flip = checked.pop("flip") > 0.5
    wide_enough = 2 * math.ceil(3 * checked["sigma"]) + 1
    drawn = AugmentationParameters.identity(
        1,
        centre_x=side / 2 + (1 - side) * across,
        centre_y=side / 2 + (1 - side) * down,
        width=side,
        height=side,
        flip=flip,
        **checked,
    )
    kernel = max(settings.blur_kernel, wide_enough)
    return replace(drawn, noise_seed=noise_seed, blur_kernel=kernel)


def as_json(sliders: list[Control]) -> list[dict[str, Any]]:
    """The sliders for the front end."""
    return [asdict(c) | {"stops": list(c.stops), "live": list(c.live)} for c in sliders]


def _place(key: str, label: str) -> Control:
    reason = "Where the crop lies; it can also be dragged on the original."
    return Control(key, label, reason, "anywhere", 0.5, PLACES, (0.0, 1.0, 0.01))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _ascending(values: np.ndarray) -> tuple[float, ...]:
    return tuple(sorted({round(float(v), 4) for v in values}))


def _around_one(strength: float) -> tuple[float, ...]:
    steps = strength * np.array([-1, -0.5, 0, 0.5, 1])
    return _ascending(np.maximum(0.0, 1 + steps))


def _factor(strength: float) -> str:
    return f"×{max(0.0, 1 - strength):.2g} to ×{1 + strength:.2g}" if strength else "none"
