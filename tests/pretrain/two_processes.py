"""A tiny MoCo run, by one process or by those that torchrun starts.

usage: two_processes.py STORE OUT NORM_SPLITS
"""

import sys

import torch

from scxr.augment import Augmentation
from scxr.data import RadiographStore
from scxr.pretrain import pretrain

if __name__ == "__main__":
    torch.set_num_threads(1)
    store, out, splits = sys.argv[1:]
    pretrain(
        "moco",
        RadiographStore.open(store),
        out,
        settings={
            # 64 px: with fewer, batch norm's statistics of half a batch make rounding explode.
            "image_size": 64,
            "batch_size": 16,
            "steps": 5,
            "optimizer": "sgd",  # AdamW would blow rounding up to its full step
            "lr": 0.001,  # with three times as much, rounding reaches the second decimal
            "queue_size": 40,
            "projection": 16,
            "norm_splits": int(splits),
            "augmentation": Augmentation(noise_std=0.0),
        },
        device="cpu",
        precision="32-true",
        checkpoint_every=2,
    )
