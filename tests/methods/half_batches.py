"""One step of every method on a batch, or on a process's half of it. Run by two processes.

usage: half_batches.py FOLDER RANK
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from scxr.augment import Augmentation
from scxr.distributed import processes, rank
from scxr.encoders import build_encoder
from scxr.methods import METHODS
from scxr.seeds import generator

COMMON = {"image_size": 64, "batch_size": 8, "steps": 1}
VIEWS = Augmentation(noise_std=0.0)  # each process draws noise of its own
CASES: dict[str, dict] = {
    "moco": {"queue_size": 16, "projection": 8, "variance_weight": 1.0, "covariance_weight": 0.1},
    "moco split": {"queue_size": 16, "projection": 8, "norm_splits": 2},
    "moco symmetric": {"queue_size": 16, "projection": 8, "symmetric": True, "output_norm": True},
    "barlow": {"projection": 16},
    "vicreg": {"projection": 16},
    "dino": {"prototypes": 16, "hidden": 16, "bottleneck": 8},
    "dino centre": {"prototypes": 16, "hidden": 16, "bottleneck": 8, "centring": "centre"},
    "spark": {"decoder_width": 16},
}


def compute(case: str) -> dict[str, torch.Tensor]:
    """Loss, mean gradient over processes, and buffers after the step."""
    torch.set_num_threads(1)
    method, changes = case.split()[0], dict(CASES[case])
    if processes() > 1:
        changes.pop("norm_splits", None)  # two processes ARE two splits
    kind = METHODS[method]
    settings = type(kind.presets["quick"])(augmentation=VIEWS, **COMMON, **changes)
    encoder = build_encoder("resnet18", image_size=64, mean=0.5, std=0.25, seed=1)
    torch.manual_seed(0)
    network = kind(encoder, settings)
    if "split" not in case:
        # Batch norm over the half batch is another function; as in evaluation, it is the same.
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    images = torch.rand(8, 1, 64, 64, generator=generator(0, "images"))
    mine = images.chunk(processes())[rank()]
    terms = network(network.views(mine, generator(0, "views")))
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    network.after_step()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    found["loss"] = loss.detach()
    for tensor in found.values() if processes() > 1 else ():
        dist.all_reduce(tensor)
        tensor /= processes()
    kept = {k: v.clone() for k, v in network.named_buffers() if k in ("queue", "centre")}
    return found | kept


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2
    )
    results = {f"{case}.{k}": v.contiguous() for case in CASES for k, v in compute(case).items()}
    save_file(results, folder / f"{number}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
