"""From a step on fake tensors to an answer: how much, where, and what batch would fit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pandas as pd

from scxr.errors import InputError
from scxr.memory.step import DTYPES, STAGES, Step, fake_step
from scxr.methods import METHODS, Settings, preset_settings

CARDS = (8, 16, 22, 24, 40, 80)
"""Memory of common cards, GB; 22 is an L4, which is sold with 24."""
USABLE = 1e9 / 2**30
"""Share of a card's bytes to plan with: a card of n GiB is planned as n GB, see `scxr.memory`."""
_ALIASES = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_LARGE = 24e9  # bytes: where the second point of the line lies, about


@dataclass(frozen=True)
class _Line:
    """Bytes as a function of the batch."""

    fixed: float
    per_image: float

    @classmethod
    def through(cls, small: tuple[int, int], large: tuple[int, int]) -> _Line:
        """Through two points (batch, bytes)."""
        slope = (large[1] - small[1]) / (large[0] - small[0])
        return cls(small[1] - slope * small[0], slope)

    def at(self, batch: int) -> float:
        return self.fixed + self.per_image * batch


@dataclass(frozen=True)
class MemoryCount:
    """Where the memory of one training step goes, bytes.

    Attributes:
        views: pictures made of every image of the batch.
        parameters_bytes: all networks', the ones that follow without a gradient included.
        gradients_bytes, optimizer_bytes: of what is trained.
        buffers_bytes: batch norm's statistics, queue, centre.
        inputs_bytes: the batch and its views.
        activations_bytes: what autograd keeps for the backward pass, every storage once.
        transient_bytes: what else is alive when the step takes most: gradients of activations, maps
            of a network without gradient, recomputed blocks, the optimiser's scratch.
        kept: `activations_bytes` by (stage, kind of layer). A map belongs to the first layer that
            keeps it. "casts" are half-precision copies of weights.
        activations_per_image: how `activations_bytes` grows with the batch.
    """

    method: str
    backbone: str
    image_size: int
    batch_size: int
    precision: str
    checkpointing: bool
    views: int
    parameters_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    buffers_bytes: int
    inputs_bytes: int
    activations_bytes: int
    transient_bytes: int
    kept: dict[tuple[str, str], int]
    activations_per_image: float
    _total: _Line
    _least: int

    @property
    def total_bytes(self) -> int:
        """All of it, as if the gradients were there from the start (they are, when accumulated)."""
        return (
            self.parameters_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.buffers_bytes
            + self.inputs_bytes
            + self.activations_bytes
            + self.transient_bytes
        )

    @property
    def stages(self) -> dict[str, int]:
        """`activations_bytes` by stage, in the order of the step."""
        total: Counter[str] = Counter()
        for (stage, _), size in self.kept.items():
            total[stage] += size
        return {stage: total[stage] for stage in STAGES if stage in total}

    def total_at(self, batch: int) -> float:
        """Bytes of a step with another batch: what is kept grows linearly with it.

        Two batches are counted, the one asked for and one that fills a card, or half of the one
        asked for where that fills a card itself. Between the two the line is no less than a count.
        """
        return max(self._total.at(batch), self._least)

    def fits(self, gigabytes: float) -> int:
        """The largest batch that fits into so many GB (10^9 bytes); 0 where no batch of 2 does.

        A method may refuse it for other reasons, such as a queue shorter than a batch.
        """
        room = gigabytes * 1e9
        most = int((room - self._total.fixed) / self._total.per_image)
        return most if most >= 2 and room >= self._least else 0

    def to_frame(self) -> pd.DataFrame:
        """One row a part, the activations stage by stage: `part`, `stage`, `bytes`, `gigabytes`."""
        fixed = ("parameters", "gradients", "optimizer", "buffers", "inputs")
        rows = [(part, "", getattr(self, f"{part}_bytes")) for part in fixed]
        rows += [("activations", stage, size) for stage, size in self.stages.items()]
        rows.append(("transient", "", self.transient_bytes))
        frame = pd.DataFrame(rows, columns=["part", "stage", "bytes"])
        return frame.assign(gigabytes=frame["bytes"] / 1e9)

    def by_kind(self) -> pd.DataFrame:
        """GB of activations, a row a stage, a column a kind of layer that keeps them."""
        rows = [(*key, size / 1e9) for key, size in self.kept.items()]
        frame = pd.DataFrame(rows, columns=["stage", "kind", "gigabytes"])
        table = frame.pivot(index="stage", columns="kind", values="gigabytes").fillna(0.0)
        return table.reindex([s for s in STAGES if s in table.index])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = ("method", "backbone", "image_size", "batch_size", "precision", "checkpointing")
        sizes = [f"{p}_bytes" for p in ("parameters", "gradients", "optimizer", "buffers")]
        sizes += [f"{p}_bytes" for p in ("inputs", "activations", "transient", "total")]
        return {
            **{name: getattr(self, name) for name in (*plain, "views", *sizes)},
            "activations_per_image_bytes": round(self.activations_per_image),
            "stages": [{"name": name, "bytes": size} for name, size in self.stages.items()],
            "fits": {str(card): self.fits(card) for card in CARDS},
            "gigabyte_bytes": 10**9,
        }


def count(
    method: str,
    *,
    backbone: str | None = None,
    batch: int | None = None,
    size: int | None = None,
    precision: str = "bf16-mixed",
    checkpointing: bool = False,
    preset: str = "full",
    settings: dict[str, Any] | None = None,
) -> MemoryCount:
    """Count what one training step of a method keeps in memory.

    Args:
        method: a name in `scxr.methods.METHODS`.
        backbone, batch, size: None leaves them as the preset has them; size in pixels.
        precision: "bf16-mixed", "16-mixed" or "32-true" (or "bf16", "fp16", "fp32").
        checkpointing: recompute the encoder's inner maps in the backward pass.
        settings: further changes to the preset, see `scxr.methods.settings.with_changes`.

    Raises:
        InputError: an unknown name, or settings that the method refuses.
    """
    named = {"backbone": backbone, "batch_size": batch, "image_size": size}
    changes = {key: value for key, value in named.items() if value is not None}
    chosen = preset_settings(method, preset, changes | (settings or {}))
    if checkpointing:
        chosen = replace(chosen, checkpointing=True)
    return count_settings(method, chosen, precision=precision)


@lru_cache(maxsize=256)
def count_settings(
    method: str, settings: Settings, *, precision: str = "bf16-mixed"
) -> MemoryCount:
    """As `count`, for complete settings."""
    precision = _ALIASES.get(precision, precision)
    if precision not in DTYPES:
        raise InputError(f"Unknown precision {precision!r}: choose from {', '.join(DTYPES)}.")
    step = _step(method, settings, precision, settings.batch_size)
    batch, other = settings.batch_size, _other_step(method, settings, precision, step)
    kept, total = (
        _Line.through((batch, getattr(step, name)), (other[0], getattr(other[1], name)))
        for name in ("activations", "total")
    )
    return MemoryCount(
        method=method,
        backbone=settings.backbone,
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        precision=precision,
        checkpointing=settings.checkpointing,
        views=step.views,
        parameters_bytes=step.parameters,
        gradients_bytes=step.gradients,
        optimizer_bytes=step.optimizer,
        buffers_bytes=step.buffers,
        inputs_bytes=step.inputs,
        activations_bytes=step.activations,
        transient_bytes=step.total - step.parts,
        kept=step.kept,
        activations_per_image=kept.per_image,
        _total=total,
        _least=max(step.update_peak, step.parts - step.activations - step.inputs),
    )


def _step(
    method: str, settings: Settings, precision: str, batch: int, like: Step | None = None
) -> Step:
    changed = replace(settings, batch_size=batch)
    return fake_step(METHODS[method], changed, precision, like=like)


def _other_step(method: str, settings: Settings, precision: str, step: Step) -> tuple[int, Step]:
    """Another batch and its step, to see how memory grows."""
    asked = settings.batch_size
    grows = step.activations + step.inputs
    large = int((_LARGE - step.total + grows) / grows) * asked
    for batch in (large if large > asked else asked // 2, asked // 2, 2 * asked):
        if batch < 2:
            continue
        try:
            return batch, _step(method, settings, precision, batch, like=step)
        except InputError:  # a method may refuse a batch: longer than its queue, not divisible
            continue
    raise InputError(
        f"batch_size {asked} is the only one that these settings of {method} allow: how memory "
        f"grows with the batch cannot be said."
    )


def advice(
    method: str,
    settings: Settings,
    *,
    precision: str = "bf16-mixed",
    capacity_bytes: int | None = None,
) -> str:
    """What to say when a step ran out of memory: what it needs, which batch fits, what helps.

    Args:
        capacity_bytes: memory of the device; None where it cannot be said.
    """
    asked = count_settings(method, settings, precision=precision)
    sentence = (
        f"Out of memory: a step of {method} with {settings.backbone}, {settings.image_size} px, "
        f"batch {settings.batch_size} and {asked.precision} takes about "
        f"{asked.total_bytes / 1e9:.1f} GB"
    )
    if capacity_bytes is None:
        return f"{sentence}: try {_cures(method, settings, asked)}."
    room = capacity_bytes * USABLE / 1e9
    sentence += f", and about {room:.1f} of the device's {capacity_bytes / 1e9:.1f} GB can be used"
    if asked.total_bytes / 1e9 <= room:
        return (
            f"{sentence}: see whether another program holds some of it, or try "
            f"{_cures(method, settings, asked)}."
        )
    fitting = asked.fits(room)
    batch = f"--set batch_size={fitting} would fit; or" if fitting else "no batch fits;"
    return f"{sentence}: {batch} try {_cures(method, settings, asked)}."


def _cures(method: str, settings: Settings, asked: MemoryCount) -> str:
    """Flags that make the same batch smaller, each with what is left; the strongest last."""
    half = "bf16-mixed" if asked.precision == "32-true" else asked.precision
    cures = []
    if half != asked.precision:
        cures.append((f"--precision {half}", settings, half))
    if not settings.checkpointing:
        thrifty = replace(settings, checkpointing=True)
        cures.append(("--set checkpointing=true", thrifty, asked.precision))
        if half != asked.precision:
            cures.append((f"--precision {half} --set checkpointing=true", thrifty, half))
    told = []
    for flags, changed, precision in cures:
        total = _step(method, changed, precision, changed.batch_size).total
        if total < asked.total_bytes:
            told.append(f"{flags} ({total / 1e9:.1f} GB)")
    return ", ".join([*told, "a smaller image_size or backbone"])
