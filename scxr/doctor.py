"""What this machine offers to scxr, and what it lacks."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Any

import torch

from scxr.cache import cache_folder
from scxr.optimisation import precision_for
from scxr.runs import cpu_name, environment

OPTIONAL = {
    "torchxrayvision": "TorchXRayVision's DenseNet as an init, and the real label tables",
    "transformers": "RAD-DINO as an init",
    "timm": "any timm network as an init",
    "medmnist": "ChestMNIST as a source",
}


def examine() -> dict[str, Any]:
    """Versions, device, memory, precision, threads, free disk and optional packages."""
    facts = environment()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = cache_folder().absolute()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    return {
        "python": facts["python"],
        **facts["packages"],
        "device": device,
        "name": facts["device"],
        "memory_gib": round(_memory(device) / 2**30, 1),
        "precision": precision_for(device),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cache": str(folder),
        "free_disk_gib": round(shutil.disk_usage(existing).free / 2**30, 1),
        "missing_extras": [
            f"{name} ({use})"
            for name, use in OPTIONAL.items()
            if not importlib.util.find_spec(name)
        ],
    }


def _memory(device: str) -> int:
    """Bytes of the GPU, or of the machine."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
