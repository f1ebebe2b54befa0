"""The architectures that others published, with weights drawn here, saved as their users would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

PREPROCESSOR = {
    "crop_size": {"height": 518, "width": 518},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5307, 0.5307, 0.5307],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.2583, 0.2583, 0.2583],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 518},
}
"""What stands beside RAD-DINO's weights (huggingface.co/microsoft/rad-dino)."""


def drawn(build: Callable[[], Network], seed: int = 0) -> Network:
    """A network with weights and batch norm statistics that leave no step without a trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.bias, std=0.1)
    return network.eval()


def save(state: dict[str, torch.Tensor], file: Path) -> Path:
    """A state dict in the format that the file's name says."""
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return file


def small_rad_dino(folder: Path, **preprocessor: object) -> Path:
    """A narrow DINOv2 for 518 px with RAD-DINO's preprocessor, as the repository holds them."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=518,
        patch_size=14,
    )
    drawn(lambda: Dinov2Model(config)).save_pretrained(folder)
    about = {**PREPROCESSOR, **preprocessor}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return folder
