"""Optimiser, learning-rate schedule, device and precision of a training run."""

from __future__ import annotations

import logging
import math

import torch
from lightning_fabric import Fabric
from torch.optim import SGD, AdamW, Optimizer

from scxr.errors import InputError
from scxr.methods import Method, Settings

# Fabric announces its precision in the middle of the progress bar; the run's config records it.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


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
    return peak * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


def build_fabric(device: str, precision: str) -> Fabric:
    """Fabric on one device ("auto", "cpu", "cuda"), in `precision_for` that device."""
    try:
        return Fabric(accelerator=device, devices=1, precision=precision_for(device, precision))  # type: ignore[arg-type]
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"Device {device!r} with precision {precision!r} cannot be used here: {error}"
        ) from error


def precision_for(device: str, precision: str = "auto") -> str:
    """Half precision where the hardware computes in it, else float32."""
    if precision != "auto":
        return precision
    if device != "cpu" and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if native else "16-mixed"
    # A CPU without bfloat16 instructions emulates it, slower than float32.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    native = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if native else "32-true"
