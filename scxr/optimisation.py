"""Optimiser, learning-rate schedule, device and precision of a training run."""

from __future__ import annotations

import logging
import math
import os
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch.optim import SGD, AdamW, Optimizer

from scxr.errors import InputError
from scxr.methods import Method, Settings

# Fabric announces its precision in the middle of the progress bar; the run's config records it.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
"""Weights are float32 in all of them: pure half precision loses small updates."""


def build_optimizer(method: Method, settings: Settings) -> Optimizer:
    """SGD or AdamW over what requires gradients; no weight decay on biases and norms."""
    trained = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return SGD(groups, lr=settings.lr, momentum=settings.momentum)
    if settings.optimizer == "adamw":
        return AdamW(groups, lr=settings.lr, betas=settings.betas)
    raise InputError(f"Unknown optimizer {settings.optimizer!r}: choose sgd or adamw.")


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear to `peak` over the first `warmup` share of the steps, then a half cosine to 0."""
    warm = round(warmup * steps)
    if step < warm:
        return peak * (step + 1) / warm
    return cosine((step - warm) / max(1, steps - warm), peak, 0.0)


def schedule(optimizer: Optimizer, settings: Settings, step: int, steps: int) -> float:
    """Set learning rate and weight decay for one step; returns the learning rate.

    Weight decay goes along a half cosine to `weight_decay_end` where that is given; biases and
    norms, whose group has none, stay without.
    """
    rate = learning_rate(step, steps, settings.lr, settings.warmup)
    end = settings.weight_decay_end
    for group in optimizer.param_groups:
        group["lr"] = rate
        if end is not None and group["weight_decay"] > 0:
            group["weight_decay"] = cosine(step / steps, settings.weight_decay, end)
    return rate


def cosine(progress: float, start: float, end: float) -> float:
    """From `start` to `end` along a half cosine, for `progress` in [0, 1]."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def build_fabric(device: str, precision: str, *, unused_parameters: bool = False) -> Fabric:
    """Fabric on a device ("auto", "cpu", "cuda"), in `precision_for` that device.

    One process takes one device. Started by `torchrun`, on one node or several, every process
    takes its own, and gradients are averaged over all (DistributedDataParallel).

    Args:
        unused_parameters: some steps leave parameters without a gradient.
    """
    chosen: Any = precision_for(device, precision)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world > 1 else 1
    strategy = DDPStrategy(find_unused_parameters=unused_parameters) if world > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=device,
            devices=local,
            num_nodes=world // local,
            strategy=strategy,
            precision=chosen,
        )
        fabric.launch()
        return fabric
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"Device {device!r} with precision {precision!r} cannot be used here: {error}"
        ) from error


def precision_for(device: str, precision: str = "auto") -> str:
    """Half precision where the hardware computes in it, else float32.

    Raises:
        InputError: an unknown precision, or fp16 without a GPU (Fabric would take another).
    """
    if precision not in ("auto", *PRECISIONS):
        raise InputError(
            f"Unknown precision {precision!r}: choose from auto, {', '.join(PRECISIONS)}."
        )
    if precision == "16-mixed" and (device == "cpu" or not torch.cuda.is_available()):
        raise InputError("Precision 16-mixed needs a GPU: choose bf16-mixed or 32-true instead.")
    if precision != "auto":
        return precision
    if device != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "16-mixed"
    # A CPU without bfloat16 instructions emulates it, slower than float32.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if native else "32-true"


def device_memory(device: torch.device) -> int | None:
    """Bytes of a GPU; None for a CPU, whose memory others share."""
    if device.type != "cuda":
        return None
    return torch.cuda.get_device_properties(device).total_memory
